"""Rules of functions that read raw arrays: most of them do the same on the batch, one axis further.

A function decorated with `overridable` runs its entry of `FUNCTIONS` when an operand is a per-sample tensor. The entry
applies an operation with a rule of its own, so that the call is logged, and run, like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.dtypes import get_default_dtype
from dynarl.autograd.ops import comparison, elementwise, indexing, normalization, reduction, shape, sorting
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.execution import Operation, Static, apply
from dynarl.batching.groups.group import PerSampleError
from dynarl.batching.rules.operations import Rows, aligned, promoted, shifted, where_rule
from dynarl.batching.rules.table import RULES, SHAREABLE, ElementwiseRule, Flags, by_row
from dynarl.batching.values.sample_number import SampleNumber
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.nn import functional

__all__ = ["FUNCTIONS"]

AnyTensor = SampleTensor | Tensor


def _on_rows(function: Any) -> Operation:
    """Return the replacement of a function of operands that broadcast: it runs on all rows at once."""

    def compute(*operands: Any, **static: Any) -> Any:
        return function(*operands, **static)

    compute.__name__ = function.__name__

    def rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
        return compute(*aligned(promoted(operands, batched), batched), **static)

    RULES[compute] = rule
    SHAREABLE.add(compute)
    return lambda *args, **static: apply(compute, args, static)


def _comparing(function: Any) -> Operation:
    """Return the replacement of a function of two operands that broadcast."""
    compute = function.__wrapped__

    def general(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
        return compute(*aligned(promoted(operands, batched), batched))

    RULES[compute] = ElementwiseRule(general)
    SHAREABLE.add(compute)
    return lambda x, y: apply(compute, (x, y), {})


def _on_axis(function: Any) -> Operation:
    """Return the replacement of a function (input, dim, ...) along an axis."""

    on_tensors = function.__wrapped__

    def compute(*operands: Any, **static: Any) -> Any:
        return on_tensors(*operands, **static)

    compute.__name__ = function.__name__

    def rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
        (x,), dim = operands, static["dim"]
        if dim is None:  # over all elements: [n, ...] -> [n, elements]
            return on_tensors(x if x.ndim == 2 else x.reshape(n, -1), **{**static, "dim": 1})
        return on_tensors(x, **{**static, "dim": shifted(dim, x.ndim - 1)})

    RULES[compute] = rule

    def call(input: Any, dim: Any = None, *args: Any, **static: Any) -> Any:
        names = ("keepdim",) if function is not sorting.argsort else ("descending", "stable")
        static = {**dict(zip(names, args)), **static}
        if function is sorting.argsort and dim is None:
            dim = -1
        return apply(compute, (input,), {"dim": dim, **static})

    return call


def _one_by_one(function: Any) -> Operation:
    """Return the replacement of a function that has no faster rule: one sample after the other."""

    def compute(*operands: Any, places: list[bool], fixed: tuple[Any, ...], named: Static) -> Any:
        tensors = iter(operands)
        return function(*(next(tensors) if place else value for place, value in zip(places, fixed)), **named)

    compute.__name__ = function.__name__
    RULES[compute] = by_row(compute)

    def call(*args: Any, **named: Any) -> Any:
        if any(value.__class__ is SampleTensor for value in named.values()):
            raise PerSampleError(f"{function.__name__}: pass per-sample tensors by position")
        places = [isinstance(a, (SampleTensor, Tensor)) for a in args]
        static = {"places": places, "fixed": args, "named": named}
        return apply(compute, tuple(a for a, place in zip(args, places) if place), static)

    return call


def _one_hot(tensor: AnyTensor, num_classes: int = -1) -> Any:
    if num_classes == -1:
        raise ValueError("one_hot: inside a per-sample program num_classes must be given: samples differ")
    return apply(_one_hot_op, (tensor,), {"num_classes": num_classes})


def _one_hot_op(tensor: Tensor, *, num_classes: int) -> Any:
    return indexing.one_hot(tensor, num_classes)


def _embedding(input: AnyTensor, weight: AnyTensor, padding_idx: int | None = None) -> Any:
    return apply(_embedding_op, (input, weight), {"padding_idx": padding_idx})


def _embedding_op(input: Tensor, weight: Tensor, *, padding_idx: int | None) -> Any:
    return functional.embedding(input, weight, padding_idx)


def _rows_of_table(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    if batched[1]:
        return by_row(_embedding_op)(operands, batched, n, static)
    return _embedding_op(*operands, **static)


def _trailing(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    """Normalisation over the last axes, with shared weights."""
    op = normalization.layer_norm
    return by_row(op)(operands, batched, n, static) if any(batched[1:]) or not batched[0] else op(*operands, **static)


RULES[_embedding_op] = _rows_of_table
RULES[normalization.layer_norm] = _trailing


def _where(condition: AnyTensor, input: Any = None, other: Any = None) -> Any:
    if input is None:
        raise PerSampleError("where: the indices of true elements differ in number by sample; loop, or use a mask")
    return apply(_where_op, (condition, input, other), {})


def _where_op(condition: Any, input: Any, other: Any) -> Any:
    return elementwise.where(condition if isinstance(condition, Tensor) else wrap(np.asarray(condition)), input, other)


RULES[_where_op] = where_rule
SHAREABLE.add(_where_op)


def _masked_fill(input: AnyTensor, mask: Any, value: Any) -> Any:
    return _where(mask, value, input)


def _repeat_interleave(input: AnyTensor, repeats: SampleTensor | Tensor | int, dim: int | None = None) -> Any:
    if repeats.__class__ is SampleTensor:  # correct if all samples have the same number of repeats, else by_row raises
        return _repeat_by_row(input, repeats, dim)
    return apply(_repeat_op, (input,), {"repeats": repeats, "dim": dim})


def _repeat_op(input: Tensor, *, repeats: Tensor | int, dim: int | None) -> Any:
    return shape.repeat_interleave(input, repeats, dim)


def _repeat_rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    (x,), dim = operands, static["dim"]
    if dim is None:
        return shape.repeat_interleave(x.reshape(n, -1), static["repeats"], 1)
    return shape.repeat_interleave(x, static["repeats"], shifted(dim, x.ndim - 1) % x.ndim)


RULES[_repeat_op] = _repeat_rule
_repeat_by_row = _one_by_one(shape.repeat_interleave)


def _diagonal(input: AnyTensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    return apply(_diagonal_op, (input,), {"offset": offset, "dims": (dim1, dim2)})


def _diagonal_op(input: Tensor, *, offset: int, dims: tuple[int, int]) -> Any:
    return shape.diagonal(input, offset, *dims)


def _diagonal_rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    (x,) = operands
    return shape.diagonal(x, static["offset"], *shifted(static["dims"], x.ndim - 1))


def _diag(input: AnyTensor, diagonal: int = 0) -> Any:
    if input.ndim == 2:
        return _diagonal(input, diagonal)
    if input.ndim != 1:
        raise ValueError(f"diag: expected a vector or a matrix, got shape {input.shape}")
    return apply(_diag_op, (input,), {"offset": diagonal})


def _diag_op(input: Tensor, *, offset: int) -> Any:
    return shape.diag(input, offset)


def _diag_rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    (x,), offset = operands, static["offset"]
    count = x.shape[1]
    size, index = count + abs(offset), np.arange(count)
    mask = np.zeros((count, size, size), x.dtype)
    mask[index, index + max(0, -offset), index + max(0, offset)] = 1
    return (x.reshape(n, count, 1, 1) * wrap(mask).to(x.device)).sum(1)


RULES.update({_diagonal_op: _diagonal_rule, _diag_op: _diag_rule})


def _tensor(data: Any, dtype: Any = None) -> Any:
    """Return nested sequences with per-sample tensors as one tensor, without history and in the dtype of its values."""
    if isinstance(data, (list, tuple)):
        parts = [_tensor(part) for part in data]
        kind = max((part.dtype.kind for part in parts), key="biuf".index)
        common = get_default_dtype() if kind == "f" else np.dtype(np.int64) if kind in "iu" else np.dtype(np.bool_)
        return shape.stack([part.to(dtype or common) for part in parts])
    if type(data) is SampleNumber:
        return data.as_tensor(dtype)
    made = data.detach().clone() if isinstance(data, Tensor) else wrap(np.asarray(data))
    return made if dtype is None else made.to(dtype)


_PAIRS = (
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or",
    "bitwise_xor",
)  # fmt: skip
_ON_ROWS = ("isnan", "isinf", "isfinite", "logical_not", "bitwise_not", "isclose")
_DIVISIONS = ("floor_divide", "truncated_divide", "divide_whole")
_ON_AXIS = ("argmax", "argmin", "all", "any", "count_nonzero", "prod", "cumprod")
FUNCTIONS: dict[str, Operation] = {
    **{name: _comparing(getattr(comparison, name)) for name in _PAIRS},
    **{name: _on_rows(getattr(comparison, name)) for name in _ON_ROWS},
    **{name: _on_rows(getattr(elementwise, name)) for name in _DIVISIONS},
    **{name: _on_axis(getattr(reduction, name)) for name in _ON_AXIS},
    "argsort": _on_axis(sorting.argsort),
    "one_hot": _one_hot,
    "embedding": _embedding,
    "where": _where,
    "masked_fill": _masked_fill,
    "diag": _diag,
    "diagonal": _diagonal,
    "repeat_interleave": _repeat_interleave,
    "tensor": _tensor,
}
"""By function name: what replaces the function when an operand is a per-sample tensor."""
