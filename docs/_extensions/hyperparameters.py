"""The directive `hyperparameters`: a table of the fields of a configuration, read from their docstrings.

    ```{hyperparameters} dynarl.agents.ppo:PPOConfig
    ```

Each row holds the field, its type, its default and its docstring, which is the only place that explains it.
"""

import dataclasses
import importlib

from docutils import nodes
from docutils.parsers.rst import Directive

from dynarl.agents.explain import field_docs


class Hyperparameters(Directive):
    """A table with one row for each field of a dataclass."""

    required_arguments = 1

    def run(self):
        module, _, name = self.arguments[0].partition(":")
        config_cls = getattr(importlib.import_module(module), name)
        docs = field_docs(config_cls)
        table = nodes.table(classes=["hyperparameters"])
        group = nodes.tgroup(cols=3)
        table += group
        for width in (22, 14, 64):
            group += nodes.colspec(colwidth=width)
        head = nodes.thead()
        head += _row(nodes.Text("Field"), nodes.Text("Default"), nodes.Text("Meaning and source"))
        body = nodes.tbody()
        for field in dataclasses.fields(config_cls):
            body += _row(
                nodes.literal(text=field.name),
                nodes.literal(text=repr(_default(field))),
                nodes.Text(docs.get(field.name, "")),
            )
        group += head
        group += body
        return [table]


def _default(field):
    return field.default_factory() if field.default is dataclasses.MISSING else field.default


def _row(*cells):
    row = nodes.row()
    for cell in cells:
        entry = nodes.entry()
        entry += nodes.paragraph("", "", cell)
        row += entry
    return row


def setup(app):
    """Register the directive."""
    app.add_directive("hyperparameters", Hyperparameters)
    return {"parallel_read_safe": True}
