"""Join scopes around functions and statements: samples that diverge inside are joined at the end."""

from __future__ import annotations

import functools
import os
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from dynarl.autograd.call_site import is_user_code
from dynarl.batching.groups.execution import Names, Operands, Operation, Static, state
from dynarl.nn import Module

__all__ = ["call_of", "call_scope", "callee", "join_element", "join_statement", "per_sample"]


def call_scope(key: object, function: Operation, args: Operands, kwargs: Static) -> Any:
    """Call a function in a scope of its own; outside a batched run, just call it. `key` identifies it in logs."""
    execution = state.execution
    if execution is None:
        return function(*args, **kwargs)
    return execution.call_scope(key, function, args, kwargs)


def per_sample(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function of per-sample tensors so that samples that diverge inside it are joined at its return.

    The functions that a rewritten program calls are joined without it. It is needed where a function is called from
    code that cannot be rewritten.
    """
    # The key is the code object: a nested function is a new object in every execution, its code is the same.
    key = function.__code__

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return call_scope(key, function, args, kwargs)

    return call


def join_statement(statement: Callable[[], None], outs: Names) -> None:
    """Run a statement in a scope; `outs` are the variables it assigns."""
    execution = state.execution
    if execution is None:
        statement()
    else:
        execution.run_statement(statement, outs)


def join_element(element: Callable[[], Any]) -> Any:
    """Compute an element of a comprehension in a scope."""
    return call_scope(element.__code__, element, (), {})


# -- calls of the user's own functions ------------------------------------------------------------------------------


def callee(function: Any) -> Any:
    """Return what a rewritten program calls in place of a function: a scope for a function of the user's own."""
    kind = function.__class__
    if kind in _passed:
        return function
    execution = state.execution
    if execution is None:
        return function
    if kind is FunctionType:
        code = function.__code__
    elif kind is MethodType:
        code = getattr(function.__func__, "__code__", None)
        if code is None:
            return function
    else:
        return _other_callee(function, kind)
    found = _helpers.get(id(code))
    if found is None or found[0] is not code:
        found = _helpers[id(code)] = code, is_user_code(code) and not _is_library(code)
    return execution.helper(code, function) if found[1] else function


_STANDARD = sysconfig.get_path("stdlib") + os.sep
_NUMPY = str(Path(np.__file__).parent)


def _is_library(code: CodeType) -> bool:
    """Return whether a function belongs to Python's library or NumPy: these do not branch on per-sample tensors."""
    file = code.co_filename
    return file.startswith(_NUMPY) or (file.startswith(_STANDARD) and "site-packages" not in file)


_passed: set[type] = {type}
"""Classes whose objects are called as they are."""
_helpers: dict[int, tuple[CodeType, bool]] = {}


def _other_callee(function: Any, kind: type) -> Any:
    if kind is functools.partial:
        inner = callee(function.func)
        return function if inner is function.func else functools.partial(inner, *function.args, **function.keywords)
    if kind is BuiltinFunctionType:
        return function
    call = call_of(kind)
    if call is None or not is_user_code(call.__code__):
        _passed.add(kind)
        return function
    return callee(MethodType(call, function))  # an object with a method __call__


def call_of(kind: type) -> FunctionType | None:
    """Return the Python method `__call__` of a class of callable objects, which are no Modules."""
    call = None if issubclass(kind, (type, Module)) else getattr(kind, "__call__", None)  # noqa: B004
    return call if isinstance(call, FunctionType) else None
