"""The tape: how operations are declared and recorded.

A primitive is written once, forward and gradient side by side:

    @primitive
    def mul(x, y):
        return x * y, (lambda g: g * y, lambda g: g * x)

Positional parameters are operands (tensors or numbers), keyword-only ones are static. The body works on raw
arrays; with `create_graph=True` backward runs it again on Tensors, which makes its gradient differentiable.
Instead of a tuple, a body may return one function `vjp(g, needs)` that computes all gradients together:
`needs[i]` is False (not needed), True, or an array that the gradient may be written into and returned as.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import Parameter as SignatureParameter
from inspect import signature
from typing import Any, Protocol, overload

import numpy as np

from dynarl.autograd import dispatch
from dynarl.autograd.call_site import line_of, user_line
from dynarl.autograd.device import xp
from dynarl.autograd.dtypes import result_type
from dynarl.autograd.grad_mode import ANOMALY, mode
from dynarl.autograd.graph import Node
from dynarl.autograd.operands import describe, explained, fitted, numbers_moved, operand, promote, same_dtype
from dynarl.autograd.tensor import Tensor, wrap

__all__ = ["Primitive", "call", "primitive", "record"]

_new: Callable[[type], Any] = object.__new__
_ndarray = np.ndarray


def record(op: Any, args: tuple[Any, ...], static: dict[str, Any], out: Any, vjps: Any, edges: list[Any]) -> Node:
    """Record an operation; gradient functions of operands that need no gradient are dropped."""
    if vjps.__class__ is tuple:
        if None in edges:
            vjps = tuple([v if e is not None else None for v, e in zip(vjps, edges)])
        if op.promotes:
            shape, dtype = out.shape, out.dtype
            for i, edge in enumerate(edges):
                if edge is not None:
                    x = args[i].array
                    if x.shape != shape or x.dtype is not dtype:
                        vjps = (*vjps[:i], fitted(vjps[i], x.shape, x.dtype), *vjps[i + 1 :])
    if mode.recording == ANOMALY:
        _check_finite(op, args, out)
    return Node(op, args, static or _NO_STATIC, edges, vjps)


_NO_STATIC: dict[str, Any] = {}


def _check_finite(op: Any, args: tuple[Any, ...], out: Any) -> None:
    if out.dtype.kind == "f" and bool(xp(out).isnan(out).any()):
        raise RuntimeError(f"{op.__name__}: made a NaN in forward at {line_of(user_line())}; {describe(args)}")


class Primitive(Protocol):
    """A declared operation: call it with Tensors; `body` works on raw arrays."""

    __name__: str
    body: Callable[..., Any]
    lifted: Callable[..., Any] | None
    promotes: bool
    linear: bool

    def __call__(self, *args: Any, **static: Any) -> Any:
        """Apply the operation and record it."""
        ...


@overload
def primitive(body: Callable[..., Any], /) -> Primitive: ...


@overload
def primitive(
    *,
    lifted: Callable[..., Any] | None = None,
    promotes: bool = False,
    floats: bool = False,
    linear: bool = False,
    views: bool = False,
) -> Callable[[Callable[..., Any]], Primitive]: ...


def primitive(
    body: Callable[..., Any] | None = None,
    *,
    lifted: Callable[..., Any] | None = None,
    promotes: bool = False,
    floats: bool = False,
    linear: bool = False,
    views: bool = False,
) -> Any:
    """Declare an operation (see the module's docstring).

    lifted: the same function composed of other ops, for bodies that cannot run on Tensors.
    promotes: operands broadcast and are promoted to a common dtype first.
    floats: integer operands are converted to the default floating dtype first.
    linear: the gradient does not depend on the operands' values, so they may be changed in place afterwards.
    views: the result may share memory with its operand; changes in place then reach the history of both.
    """
    if body is None:
        return partial(primitive, lifted=lifted, promotes=promotes, floats=floats, linear=linear, views=views)
    operands = [p for p in signature(body).parameters.values() if p.kind != SignatureParameter.KEYWORD_ONLY]
    variadic = any(p.kind == SignatureParameter.VAR_POSITIONAL for p in operands)
    if promotes:
        op = _promoting(body)
    elif len(operands) == 1 and not variadic:
        op = _unary(body, floats, views)
    else:
        op = _general(body)
    op.__name__ = op.__qualname__ = body.__name__.lstrip("_")
    op.__doc__ = body.__doc__
    op.__module__ = body.__module__
    op.body, op.lifted, op.promotes, op.linear = body, lifted, promotes, linear
    return op


def _unary(body: Callable[..., Any], floats: bool, views: bool) -> Any:
    def op(x: Any, **static: Any) -> Any:
        if x.__class__ is not Tensor:
            if x.__class__ is dispatch.sample_type:
                return dispatch.apply_per_sample(op, (x,), static)  # type: ignore[misc]
            if not isinstance(x, Tensor):
                x = wrap(operand(x))
        array = x.array
        if floats and array.dtype.kind != "f":
            array = array.astype(result_type(array, 0.0))
        try:
            out, vjps = body(array, **static)
        except (ValueError, TypeError, IndexError) as error:
            raise explained(op, (x,), error) from error
        result = _new(Tensor)
        result.array = out if out.__class__ is _ndarray or not isinstance(out, np.generic) else np.asarray(out)
        edge = x._node
        result._node = record(op, (x,), static, out, vjps, [edge]) if edge is not None and mode.recording else None
        result._leaf = None
        if views and mode.recording:
            _remember_base(result, x, op, static)
        return result

    return op


def _remember_base(result: Any, x: Any, op: Any, static: dict[str, Any]) -> None:
    """Store on a result that shares memory with its operand how it was taken (see `follow` in ops/views.py)."""
    owner = result.array.base
    if owner is not None and (owner is x.array or owner is x.array.base):
        result._base = (x, op, static)


def _promoting(body: Callable[..., Any]) -> Any:
    def op(x: Any, y: Any, *rest: Any, **static: Any) -> Any:
        if rest:
            return several(x, y, *rest, **static)
        a, b = x, y
        left = right = None
        if x.__class__ is Tensor or (x.__class__ is not dispatch.sample_type and isinstance(x, Tensor)):
            a, left = x.array, x._node
        elif x.__class__ is dispatch.sample_type or y.__class__ is dispatch.sample_type:
            return dispatch.apply_per_sample(op, (x, y), static)  # type: ignore[misc]
        else:
            a = operand(x)
        if y.__class__ is Tensor or (y.__class__ is not dispatch.sample_type and isinstance(y, Tensor)):
            b, right = y.array, y._node
        elif y.__class__ is dispatch.sample_type:
            return dispatch.apply_per_sample(op, (x, y), static)  # type: ignore[misc]
        else:
            b = operand(y)
        try:
            if not same_dtype(a, b):
                a, b = promote([a, b])
            out, vjps = body(a, b, **static)
        except (ValueError, TypeError, IndexError) as error:
            moved = numbers_moved((x, y))
            if moved is not None:
                return op(*moved, **static)
            raise explained(op, (x, y), error) from error
        result = _new(Tensor)
        result.array = out if out.__class__ is _ndarray or not isinstance(out, np.generic) else np.asarray(out)
        needs = left is not None or right is not None
        result._node = record(op, (x, y), static, out, vjps, [left, right]) if needs and mode.recording else None
        result._leaf = None
        return result

    several = _general(body, lambda: op)
    return op


def _general(body: Callable[..., Any], owner: Callable[[], Any] | None = None) -> Any:
    def op(*args: Any, **static: Any) -> Any:
        arrays = []
        edges = []
        needs = False
        for a in args:
            if a.__class__ is dispatch.sample_type:
                return dispatch.apply_per_sample(op if owner is None else owner(), args, static)  # type: ignore[misc]
            if a.__class__ is Tensor or isinstance(a, Tensor):
                arrays.append(a.array)
                edge = a._node
                edges.append(edge)
                if edge is not None:
                    needs = True
            else:
                arrays.append(None if a is None else operand(a))
                edges.append(None)
        me = op if owner is None else owner()
        try:
            out, vjps = body(*arrays, **static)
        except (ValueError, TypeError, IndexError) as error:
            moved = numbers_moved(args)
            if moved is not None:
                return op(*moved, **static)
            raise explained(me, args, error) from error
        result = _new(Tensor)
        result.array = out if out.__class__ is _ndarray or not isinstance(out, np.generic) else np.asarray(out)
        result._node = record(me, args, static, out, vjps, edges) if needs and mode.recording else None
        result._leaf = None
        return result

    return op


def call(op: Any, *args: Any, **static: Any) -> Any:
    """Apply a primitive inside a gradient: on Tensors it is recorded, on raw arrays only its body runs."""
    if any(isinstance(a, Tensor) for a in args):
        return op(*args, **static)
    return op.body(*args, **static)[0]
