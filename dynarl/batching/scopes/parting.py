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

__all__ = ["calls_for_helper", "may_part"]

_READS = frozenset((
    "int", "float", "bool", "round", "str", "repr", "format", "max", "min", "sorted", "any", "all", "next", "divmod",
    "print",
))  # fmt: skip
"""Builtin functions that read a concrete value, or may call something that does."""
_READING_METHODS = frozenset(("item", "tolist"))
_PARTS = (
    ast.IfExp, ast.BoolOp, ast.Not, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.FormattedValue,
)  # fmt: skip
_METHODS = frozenset((
    *dir(Tensor), *dir(list), *dir(dict), *dir(set), *dir(str), "item", "log_prob", "sample", "rsample", "entropy",
)) - frozenset(("forward", "__call__", "update"))  # fmt: skip
"""Methods whose names leave no doubt: to take a helper for one costs speed only."""


def may_part(node: ast.AST) -> bool:
    """Return whether samples may part inside a statement and be together again behind it.

    Behind `k = int(x)` they stay apart, by the number: a scope would be of no use.
    """
    value = getattr(node, "value", None)
    if isinstance(value, ast.Call) and _reads(value.func):
        return any(may_part(argument) for argument in value.args)
    if isinstance(value, (ast.Compare, ast.UnaryOp)) and isinstance(getattr(value, "op", ast.Not()), ast.Not):
        return False
    for part in own_nodes(node):
        if isinstance(part, _PARTS):
            return True
        if isinstance(part, ast.Compare) and len(part.ops) > 1:
            return True
        if isinstance(part, ast.Call) and _reads(part.func):
            return True
        if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Load) and _is_computed(part.slice):
            return True
    return False


def _reads(called: ast.AST) -> bool:
    if isinstance(called, ast.Name):
        return called.id in _READS
    return isinstance(called, ast.Attribute) and called.attr in _READING_METHODS


def _is_computed(node: ast.AST) -> bool:
    """Return whether an index is computed in place by a call: a per-sample number that picks from a list."""
    return isinstance(node, ast.Call)


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
