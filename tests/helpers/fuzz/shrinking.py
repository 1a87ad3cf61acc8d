"""Makes a failing program smaller: deletes statements, and takes compound statements apart, while it still fails."""

from __future__ import annotations

import ast
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from tests.helpers.fuzz.comparing import Report, check_source

__all__ = ["shrunk"]

_BLOCKS = ("body", "orelse", "finalbody")


def shrunk(report: Report, *, seconds: float = 60.0) -> Report:
    """Return the report of a smaller program that fails in the same mode in the same way."""
    failure = report.failures[0]
    end = time.monotonic() + seconds
    best = report
    improved = True
    while improved and time.monotonic() < end:
        improved = False
        for source in _smaller(best.program.source):
            if time.monotonic() > end:
                break
            found = check_source(dataclasses.replace(best.program, source=source), (failure.mode,))
            if found.failures and found.failures[0].kind == failure.kind:
                best, improved = found, True
                break
    return best


def _smaller(source: str) -> Iterator[str]:
    """Yield programs with a statement deleted or taken apart, the largest first, then with an expression cut down."""
    tree = ast.parse(source)
    yield from _fewer_statements(tree, source)
    yield from _smaller_expressions(tree, source)


def _fewer_statements(tree: ast.Module, source: str) -> Iterator[str]:
    places = [
        (node, name, i)
        for node in ast.walk(tree)
        for name in _BLOCKS
        if isinstance(getattr(node, name, None), list)
        for i in range(len(getattr(node, name)))
    ]
    places.sort(key=lambda place: -len(ast.unparse(getattr(place[0], place[1])[place[2]])))
    for node, name, i in places:
        block = getattr(node, name)
        statement = block[i]
        if isinstance(statement, ast.Pass):
            continue
        for instead in ([], *_insides(statement)):
            changed = [*block[:i], *instead, *block[i + 1 :]]
            setattr(node, name, changed or ([] if name != "body" else [ast.Pass()]))
            text = _text(tree)
            if text is not None and text != source:
                yield text
        setattr(node, name, block)


def _smaller_expressions(tree: ast.Module, source: str) -> Iterator[str]:
    """Yield the program with an operand in place of an operation, or one element less in a tuple or list."""
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if isinstance(value, (ast.BinOp, ast.BoolOp, ast.IfExp, ast.Call, ast.UnaryOp)):
                for part in _operands(value):
                    setattr(node, name, part)
                    text = _text(tree)
                    if text is not None and text != source:
                        yield text
                setattr(node, name, value)
            elif isinstance(node, (ast.Tuple, ast.List)) and name == "elts" and len(value) > 1:
                for i in range(len(value)):
                    node.elts = [*value[:i], *value[i + 1 :]]
                    text = _text(tree)
                    if text is not None:
                        yield text
                node.elts = value


def _operands(value: Any) -> list[ast.expr]:
    if isinstance(value, ast.BinOp):
        return [value.left, value.right]
    if isinstance(value, ast.BoolOp):
        return list(value.values)
    if isinstance(value, ast.IfExp):
        return [value.body, value.orelse]
    if isinstance(value, ast.UnaryOp):
        return [value.operand]
    called = [value.func.value] if isinstance(value.func, ast.Attribute) else []
    return [*value.args, *called]


def _insides(statement: Any) -> list[list[ast.stmt]]:
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return []
    return [block for name in _BLOCKS if (block := getattr(statement, name, None))]


def _text(tree: ast.Module) -> str | None:
    """Return the source of a tree, or None if it is no program."""
    try:
        text = ast.unparse(ast.fix_missing_locations(tree)) + "\n"
        compile(text, "<smaller>", "exec")
    except (SyntaxError, ValueError, IndexError):
        return None
    return text
