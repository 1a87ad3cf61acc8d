"""Analysis of names in a program's source, for the rewrite of its statements."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

__all__ = ["bound_names", "captured_names", "declared", "leaves_block", "loaded_names", "own_nodes", "sets_first"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and everything in it that runs in the same frame: not the bodies of functions and classes.

    Comprehensions count as part of the frame: they read and, by `:=`, assign its names.
    """
    todo = [node]
    while todo:
        part = todo.pop()
        yield part
        if isinstance(part, _FUNCTIONS):
            todo += [*part.args.defaults, *[d for d in part.args.kw_defaults if d is not None]]
            todo += getattr(part, "decorator_list", [])
        elif isinstance(part, ast.ClassDef):
            todo += [*part.bases, *[keyword.value for keyword in part.keywords], *part.decorator_list]
        else:
            todo.extend(ast.iter_child_nodes(part))


def bound_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names that statements assign or delete in their own frame."""
    bound: set[str] = set()
    for node in nodes:
        targets = {
            id(name)
            for part in own_nodes(node)
            if isinstance(part, _COMPREHENSIONS)
            for generator in part.generators
            for name in ast.walk(generator.target)
        }
        for part in own_nodes(node):
            if isinstance(part, ast.Name):
                if not isinstance(part.ctx, ast.Load) and id(part) not in targets:
                    bound.add(part.id)
            elif isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                bound.add(part.name)
            elif isinstance(part, ast.alias):
                bound.add(part.asname or part.name.partition(".")[0])
            elif isinstance(part, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
                if part.name:
                    bound.add(part.name)
            elif isinstance(part, ast.MatchMapping) and part.rest:
                bound.add(part.rest)
    return bound


def declared(nodes: Iterable[ast.AST], kind: type) -> set[str]:
    """Return the names in the `global` or `nonlocal` statements of a frame."""
    return {name for node in nodes for part in own_nodes(node) if isinstance(part, kind) for name in part.names}  # type: ignore[attr-defined]


def captured_names(function: ast.FunctionDef) -> set[str]:
    """Return the names that functions, classes and generators inside a function mention: they read them later."""
    inner = (*_FUNCTIONS, ast.ClassDef, ast.GeneratorExp)
    return {
        name
        for part in ast.walk(function)
        if isinstance(part, inner) and part is not function
        for inside in ast.walk(part)
        for name in ([inside.id] if isinstance(inside, ast.Name) else getattr(inside, "names", ()))
        if isinstance(name, str)
    }


def loaded_names(node: ast.AST) -> list[ast.Name]:
    """Return the names that are read in a node."""
    changed = [part.target for part in ast.walk(node) if isinstance(part, ast.AugAssign)]
    return [
        part for part in (*ast.walk(node), *changed)
        if isinstance(part, ast.Name) and (not isinstance(part.ctx, ast.Store) or part in changed)
    ]  # fmt: skip


def leaves_block(node: ast.AST, *, loops: int = 0) -> bool:
    """Return whether a statement may return, or break or continue a loop around it."""
    if isinstance(node, ast.Return):
        return True
    if isinstance(node, (ast.Break, ast.Continue)):
        return loops == 0
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return False
    if isinstance(node, (ast.For, ast.While, ast.AsyncFor)):
        return any(leaves_block(part, loops=loops + 1) for part in node.body) or any(
            leaves_block(part, loops=loops) for part in node.orelse
        )
    return any(leaves_block(part, loops=loops) for part in ast.iter_child_nodes(node))


def sets_first(block: list[ast.stmt], name: str) -> bool:
    """Return whether the first statement that mentions a name assigns it (also if none mentions it)."""
    first = next((statement for statement in block if _mentions(statement, name)), None)
    return first is None or (
        isinstance(first, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == name for target in first.targets)
        and not _mentions(first.value, name)
    )


def _mentions(node: ast.AST, name: str) -> bool:
    return any(
        (isinstance(part, ast.Name) and part.id == name)
        or (isinstance(part, (ast.Nonlocal, ast.Global)) and name in part.names)
        for part in ast.walk(node)
    )
