"""Operators between batched and numbers: the common case of `state.apply`, in as few steps as there can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.grad_mode import ANOMALY, mode
from dynarl.autograd.ops.indexing import _getitem, _is_basic, getitem
from dynarl.autograd.tape import record
from dynarl.batching.eager.execution import state
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["bind_operators"]

_NUMBERS = frozenset((float, int, bool))
_NO_STATIC: dict[str, Any] = {}
_new: Callable[[Any], Any] = object.__new__


def _operator(op: Any) -> Callable[[Any, Any], Any]:
    """Make the operator of an operation that promotes: floats of one rank, or a number beside floats."""
    body, apply, by_rank = op.body, state.apply, state.rules[op].by_rank

    def method(x: Any, y: Any) -> Any:
        context = state.context
        if context is None or context.scheduler is not None or context.position < len(context.log):
            return apply(op, (x, y), {})
        group = context.group
        left = right = None
        if x.__class__ is SampleTensor:
            x_rows = x.tensor if x.group is group else x.at(group)
            a, left = x_rows.array, x_rows._node
            dtype, ndim = a.dtype, a.ndim
            if y.__class__ is SampleTensor:
                y_rows = y.tensor if y.group is group else y.at(group)
                b, right = y_rows.array, y_rows._node
                usual = b.dtype is dtype
                if usual and b.ndim != ndim:
                    return context.result(op, by_rank(x_rows, y_rows))
            else:
                y_rows = b = y
                usual = dtype.kind == "f" and y.__class__ in _NUMBERS
        else:
            y_rows = y.tensor if y.group is group else y.at(group)
            b, right = y_rows.array, y_rows._node
            x_rows = a = x
            usual = b.dtype.kind == "f" and x.__class__ in _NUMBERS
        recording = mode.recording
        if not usual or recording == ANOMALY:
            return apply(op, (x, y), {})
        try:
            out, vjps = body(a, b)
        except (ValueError, TypeError):
            return apply(op, (x, y), {})  # which says what is wrong
        tensor = _new(Tensor)
        tensor.array, tensor._leaf = out, None
        if recording and (left is not None or right is not None):
            tensor._node = record(op, (x_rows, y_rows), _NO_STATIC, out, vjps, [left, right])
        else:
            tensor._node = None
        return context.result(op, tensor)

    method.__name__, method.__doc__ = op.__name__, op.__doc__
    return method


def _reflected(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda x, y: method(y, x)


_ALL = slice(None)


def _item(x: Any, index: Any) -> Any:
    """Return x[index]: slices and numbers of the sample's own axes, one behind the rows' axis."""
    context = state.context
    if context is None or context.scheduler is not None or context.position < len(context.log) or not _is_basic(index):
        return getitem(x, index)
    rows = x.tensor if x.group is context.group else x.at(context.group)
    index = (_ALL, *index) if index.__class__ is tuple else (_ALL, index)
    return context.result(_getitem, _getitem(rows, index=index))


def bind_operators(operations: dict[str, Any]) -> None:
    """Give batched the operators ``__name__`` and ``__rname__``."""
    for name, op in operations.items():
        method = _operator(op)
        setattr(SampleTensor, f"__{name}__", method)
        setattr(SampleTensor, f"__r{name}__", _reflected(method))
    setattr(SampleTensor, "__getitem__", _item)  # noqa: B010  (SampleTensor has the methods of Tensor by assignment)
