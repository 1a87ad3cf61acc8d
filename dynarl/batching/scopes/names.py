"""Analysis of names in a program's source, for the rewrite of its statements."""

from __future__ import annotations

import ast

__all__ = ["deleted_names", "loaded_names", "mentions", "sets_first", "statements_at", "values_of"]


def mentions(node: ast.AST, name: str) -> bool:
    """Return whether a node reads or assigns a name."""
    return any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))


def sets_first(branch: list[ast.stmt], name: str) -> bool:
    """Return whether the first statement that mentions a name assigns it (also if none mentions it)."""
    first = next((statement for statement in branch if mentions(statement, name)), None)
    return first is None or (
        isinstance(first, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == name for target in first.targets)
        and not mentions(first.value, name)
    )


def loaded_names(node: ast.AST) -> list[ast.Name]:
    """Return the names that are read in a node."""
    changed = [part.target for part in ast.walk(node) if isinstance(part, ast.AugAssign)]
    return [
        part for part in (*ast.walk(node), *changed)
        if isinstance(part, ast.Name) and (isinstance(part.ctx, ast.Load) or part in changed)
    ]  # fmt: skip


def statements_at(source: str, like: ast.AST) -> list[ast.stmt]:
    """Return statements parsed from source, at the line of `like` and marked as made by the rewrite."""
    statements = ast.parse(source).body
    for statement in statements:
        for part in ast.walk(statement):
            part._by_rewrite = True  # type: ignore[attr-defined]
            ast.copy_location(part, like)
    return statements


def deleted_names(node: ast.AST) -> set[str]:
    """Return the names that an inner statement, already rewritten, may leave without a value."""
    return {
        target.id
        for part in ast.walk(node)
        if isinstance(part, ast.Delete)
        for target in part.targets
        if isinstance(target, ast.Name)
    }


def values_of(names: list[str], read: set[str], undone: set[str]) -> str:
    """Return the values of names as source; a name that is not read later is None and so keeps no samples apart."""
    maybe = "_dynarl_get(_dynarl_locals(), {!r})"
    return "".join(
        (maybe.format(name) if name in undone else name) + ", " if name in read else "None, " for name in names
    )
