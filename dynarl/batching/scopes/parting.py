"""Where samples can part inside a simple statement, and which calls may be calls of the user's own functions."""

from __future__ import annotations

import ast
import builtins
import contextlib
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.call_site import is_user_code
from dynarl.batching.scopes.names import own_nodes
from dynarl.nn import Module

__all__ = ["calls_for_helper", "calls_library", "differing_numbers", "may_part"]

_READS = frozenset(("round", "str", "repr", "format", "max", "min", "sorted", "any", "all", "next", "print", "range"))
"""Builtin functions that need one concrete value, or may call something that does."""
_READING_METHODS = frozenset(("tolist", "index", "add", "discard", "remove", "pop", "get", "setdefault"))
_NUMBERS = frozenset(
    ("int", "float", "bool", "item", "argmax", "argmin", "sample", "categorical", "bernoulli", "round")
)
"""Functions and methods whose results are numbers that differ between samples."""
_PARTS = (
    ast.IfExp, ast.BoolOp, ast.Not, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.FormattedValue,
)  # fmt: skip
_METHODS = frozenset((
    *dir(Tensor), *dir(list), *dir(dict), *dir(set), *dir(str), "item", "log_prob", "sample", "rsample", "entropy",
)) - frozenset(("forward", "__call__", "update"))  # fmt: skip
"""Methods whose names leave no doubt: to take a helper for one costs speed only."""


def may_part(node: ast.AST, numbers: frozenset[str] = frozenset()) -> bool:
    """Return whether samples may part inside a statement and be together again behind it.

    `numbers` are the names of numbers that may differ between samples: as an index of a list they part the samples.
    """
    value = getattr(node, "value", None)
    if isinstance(value, (ast.Compare, ast.UnaryOp)) and isinstance(getattr(value, "op", ast.Not()), ast.Not):
        return False  # `c = not x`: behind it they are apart by the value
    for part in own_nodes(node):
        if isinstance(part, _PARTS):
            return True
        if isinstance(part, ast.Compare) and len(part.ops) > 1:
            return True
        if isinstance(part, ast.Call) and _called(part.func) in _READS | _READING_METHODS:
            return True
        if isinstance(part, ast.Subscript) and _is_number(part.slice, numbers):
            return True
    return False


def differing_numbers(function: ast.FunctionDef) -> frozenset[str]:
    """Return the names to which a function assigns numbers that may differ between samples."""
    found: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr)) and node.value is not None:
            if not isinstance(node, ast.AugAssign) and not _is_number(node.value, frozenset(found)):
                continue
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                found |= {part.id for part in ast.walk(target) if isinstance(part, ast.Name)}
    return frozenset(found)


def _is_number(node: ast.AST, numbers: frozenset[str]) -> bool:
    """Return whether an expression may be a number that differs between samples."""
    return any(
        (isinstance(part, ast.Call) and _called(part.func) in _NUMBERS)
        or (isinstance(part, ast.Name) and part.id in numbers)
        for part in ast.walk(node)
    )


def _called(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def calls_for_helper(node: ast.AST, function: FunctionType) -> bool:
    """Return whether a call may be one of the user's own function, method or callable object."""
    if isinstance(node, ast.Attribute):
        if node.attr in _METHODS:
            return False
        owner = _resolved(node.value, function)
        return not isinstance(owner, ModuleType) or _is_user(getattr(owner, node.attr, None))
    if isinstance(node, ast.Name):
        value = _resolved(node, function)
        return value is None or _is_user(value)
    return True


def calls_library(node: ast.AST, function: FunctionType) -> bool:
    """Return whether a call is one of a function in a module of Python's library, NumPy and the like."""
    if isinstance(node, ast.Attribute):
        root: ast.AST = node
        while isinstance(root, ast.Attribute):
            root = root.value
        owner = _resolved(root, function)
        return isinstance(owner, ModuleType) and owner.__name__.partition(".")[0] != "dynarl" and not _is_user(owner)
    value = _resolved(node, function)
    module = getattr(value, "__module__", None) or ""
    return callable(value) and module.partition(".")[0] not in ("dynarl", "builtins") and not _is_user(value)


def _resolved(node: ast.AST, function: FunctionType) -> Any:
    """Return what a name of no local variable means now, or None. It may change: that would cost speed only."""
    if not isinstance(node, ast.Name):
        return None
    code = function.__code__
    if node.id in code.co_varnames or node.id in code.co_cellvars:
        return None
    if node.id in code.co_freevars:
        with contextlib.suppress(ValueError, TypeError):  # not assigned yet, or a function without its variables
            return function.__closure__[code.co_freevars.index(node.id)].cell_contents  # type: ignore[index]
        return None
    value = function.__globals__.get(node.id)
    return getattr(builtins, node.id, None) if value is None else value


def _is_user(value: Any) -> bool:
    if isinstance(value, FunctionType):
        return is_user_code(value.__code__)
    return value is not None and not isinstance(value, (BuiltinFunctionType, type, ModuleType, Module))
