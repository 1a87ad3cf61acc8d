"""The source of a running function, proven: it compiles to the code object that runs.

What a file says now, or what `inspect` finds behind a decorator, may be another function. The file is therefore
compiled again, and a function's source is used only if the result equals the function's own code.
"""

from __future__ import annotations
import __future__ as future

import ast
import linecache
from dataclasses import dataclass
from types import CodeType, FunctionType

__all__ = ["FUTURE", "NotProven", "Source", "source_of"]

FUTURE = sum(getattr(future, name).compiler_flag for name in future.all_feature_names)
"""The compiler flags that `from __future__ import` sets."""


class NotProven(Exception):
    """Raised when the source of a function is not known for certain; the text says why."""


@dataclass(frozen=True)
class Source:
    """The definition of a function, and the class around it, whose name mangles private names."""

    definition: ast.FunctionDef
    class_name: str | None


class _File:
    """A file's functions and what they compile to."""

    def __init__(self, text: str, filename: str, flags: int) -> None:
        self.text = text
        tree = ast.parse(text, filename)
        self.codes: dict[tuple[str, int], list[CodeType]] = {}
        self.sources: dict[tuple[str, int], list[Source]] = {}
        self._collect_codes(compile(tree, filename, "exec", flags, dont_inherit=True))
        self._collect_sources(tree, None)

    def _collect_codes(self, code: CodeType) -> None:
        for part in code.co_consts:
            if isinstance(part, CodeType):
                self.codes.setdefault((part.co_name, part.co_firstlineno), []).append(part)
                self._collect_codes(part)

    def _collect_sources(self, node: ast.AST, class_name: str | None) -> None:
        for part in ast.iter_child_nodes(node):
            inside = part.name if isinstance(part, ast.ClassDef) else class_name
            if isinstance(part, ast.FunctionDef):
                line = min([part.lineno, *(decorator.lineno for decorator in part.decorator_list)])
                self.sources.setdefault((part.name, line), []).append(Source(part, class_name))
            self._collect_sources(part, inside)


_files: dict[str, _File] = {}


def source_of(function: FunctionType) -> Source:
    """Return the source of a function; raise NotProven if it is not certain."""
    code = function.__code__
    if code.co_name == "<lambda>":
        raise NotProven("it is a lambda")
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if not lines:
        raise NotProven("its source is not available")
    text = "".join(lines)
    file = _files.get(code.co_filename)
    if file is None or file.text != text:
        try:
            file = _File(text, code.co_filename, code.co_flags & FUTURE)
        except (SyntaxError, ValueError, RecursionError):
            raise NotProven("its file does not compile") from None
        _files[code.co_filename] = file
    place = code.co_name, code.co_firstlineno
    if code not in file.codes.get(place, ()):
        raise NotProven("its file has changed, or its code was made in another way")
    found = file.sources.get(place, [])
    if len(found) != 1:
        raise NotProven("several functions begin at its line")
    return found[0]
