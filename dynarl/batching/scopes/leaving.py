"""The exits of a loop's body, replaced by what one iteration returns; and making statements at the lines of others."""

from __future__ import annotations

import ast
from typing import Any

__all__ = ["LEAVE", "Leaving", "at", "statements"]

LEAVE = "_dynarl_leave"
"""`return "_dynarl_leave"` stands for the end of a loop; `Leaving` replaces it."""


class Leaving(ast.NodeTransformer):
    """Replaces `break`, `continue` and `return` in a loop's body by returns of its iteration.

    The value of a `return` is computed after the loop, for all samples that left by it together; inside `with` and
    `try`, where it may mean something else, it is computed in place.
    """

    def __init__(self, value: str, loop: ast.AST, *, breaks: int) -> None:
        self.value, self.breaks, self.keeps_values = value, breaks, False
        self.returns: list[tuple[int, ast.Return, set[str]]] = []
        self.guarded = self.inner = 0

    def all(self, body: list[Any]) -> list[Any]:
        """Return the statements of the body with their exits replaced."""
        found = []
        for statement in body:
            made = self.visit(statement)
            found += made if isinstance(made, list) else [made]
        return found

    def visit_Break(self, node: ast.Break) -> Any:
        return node if self.inner else statements(f"return {self.breaks}", node)

    def visit_Continue(self, node: ast.Continue) -> Any:
        return node if self.inner else statements("return 0", node)

    def visit_Return(self, node: ast.Return) -> Any:
        if isinstance(node.value, ast.Constant) and node.value.value == LEAVE:
            return statements("return 1", node)
        way = self.breaks + 1 + len(self.returns)
        if not self.guarded:
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            self.returns.append((way, node, names))
            return statements(f"return {way}", node)
        self.keeps_values = True
        made: Any = statements(f"{self.value} = _\nreturn {way}\n", node)
        made[0].value = node.value or at(ast.Constant(None), node)
        returned: Any = statements(f"return {self.value}", node)[0]
        self.returns.append((way, returned, {self.value}))
        return made

    def _guarded(self, node: Any) -> Any:
        self.guarded += 1
        self.generic_visit(node)
        self.guarded -= 1
        return node

    visit_With = visit_Try = visit_TryStar = _guarded

    def visit_While(self, node: Any) -> Any:  # an inner loop that was not rewritten: break and continue are its own
        self.inner += 1
        node.body = self.all(node.body)
        self.inner -= 1
        node.orelse = self.all(node.orelse)
        return node

    visit_For = visit_AsyncFor = visit_While

    def visit_FunctionDef(self, node: Any) -> Any:
        return node  # a function of the program, or a statement that is rewritten already

    visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = visit_FunctionDef


def at(node: Any, like: ast.AST) -> Any:
    """Return a node whose parts without a position are at the position of `like`."""
    for part in ast.walk(node):
        if not hasattr(part, "lineno"):
            ast.copy_location(part, like)
    return node


def statements(source: str, like: ast.AST) -> list[Any]:
    """Return statements parsed from source, at the line of `like`."""
    statements = ast.parse(source).body
    for statement in statements:
        for part in ast.walk(statement):
            ast.copy_location(part, like)
    return statements
