"""Docstrings are plain text with `code` in backticks: escape what reStructuredText would read as markup.

Indented blocks and tables become literal blocks; list items stay lists; everything else is a paragraph.
"""

import re

_ITEM = re.compile(r"^([*-]|\d+\.) ")
_CODE = re.compile(r"(``.+?``|`[^`]+?`)")


def to_rst(lines):
    """Return the reStructuredText of a docstring, as lines."""
    found = []
    for block in _blocks(lines):
        if _is_literal(block):
            found += [".. code-block:: text", "", *("    " + line for line in block), ""]
        elif _ITEM.match(block[0]):
            found += [*_items(block), ""]
        else:
            found += [*map(_escaped, block), ""]
    return found


def _blocks(lines):
    """Return paragraphs; lines of different kinds (text, items, indented) are in different ones."""
    blocks, block = [], []
    for line in lines:
        ends = not line.strip() or (block and _kind(line, block) != _kind(block[-1], block))
        if ends and block:
            blocks.append(block)
            block = []
        if line.strip():
            block.append(line.rstrip())
    return [*blocks, block] if block else blocks


def _kind(line, block):
    if line.startswith(("|", ">>> ")):
        return "literal"
    if line.startswith(" "):  # the second line of an item, or code
        return "item" if block and _ITEM.match(block[0]) else "literal"
    return "item" if _ITEM.match(line) else "text"


def _is_literal(block):
    return block[0].startswith((" ", "|", ">>> "))


def _items(block):
    found = []
    for line in block:
        mark = _ITEM.match(line)
        found.append(f"* {_escaped(line[mark.end() :])}" if mark else f"  {_escaped(line.strip())}")
    return found


def _escaped(text):
    parts = _CODE.split(text)
    return "".join(part if i % 2 else re.sub(r"([\\*_|`])", r"\\\1", part) for i, part in enumerate(parts))


def _process(app, what, name, obj, options, lines):
    lines[:] = to_rst(lines)


def setup(app):
    """Rewrite every docstring that autodoc reads."""
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}
