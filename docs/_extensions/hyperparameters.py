"""Tables of configurations, read from the code.

    ```{hyperparameters} dynarl.agents.ppo:PPOConfig
    ```

has a row for each field: its name, its default and its docstring, which is the only place that explains it.

    ```{other-names} CleanRL
    ```

has a row for each hyperparameter of another library that has another name here (dynarl/config/other_names.py).
"""

import dataclasses
import importlib

from docutils import nodes
from docutils.parsers.rst import Directive

from dynarl.agents.explain import field_docs
from dynarl.config.other_names import OTHER_NAMES


class Hyperparameters(Directive):
    """A table with one row for each field of a dataclass."""

    required_arguments = 1

    def run(self):
        module, _, name = self.arguments[0].partition(":")
        config_cls = getattr(importlib.import_module(module), name)
        docs = field_docs(config_cls)
        rows = [
            (
                nodes.literal(text=field.name),
                nodes.literal(text=repr(_default(field))),
                nodes.Text(docs.get(field.name, "")),
            )
            for field in dataclasses.fields(config_cls)
        ]
        return [_table((22, 14, 64), ("Field", "Default", "Meaning and source"), rows)]


class OtherNames(Directive):
    """A table with one row for each hyperparameter of a library that has another name here."""

    required_arguments = 1

    def run(self):
        library = self.arguments[0]
        rows = [
            (nodes.literal(text=name), nodes.literal(text=" or ".join(o.fields)), nodes.Text(o.note or o.elsewhere))
            for name, o in OTHER_NAMES[library].items()
        ]
        return [_table((24, 24, 52), (library, "dynarl", "Note"), rows)]


def _table(widths, titles, rows):
    table = nodes.table(classes=["hyperparameters"])
    group = nodes.tgroup(cols=len(widths))
    table += group
    for width in widths:
        group += nodes.colspec(colwidth=width)
    head = nodes.thead()
    head += _row(*map(nodes.Text, titles))
    group += head
    body = nodes.tbody()
    for cells in rows:
        body += _row(*cells)
    group += body
    return table


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
    """Register the directives."""
    app.add_directive("hyperparameters", Hyperparameters)
    app.add_directive("other-names", OtherNames)
    return {"parallel_read_safe": True}
