"""Rules of the engine's operations: axes move by one, and ranks are aligned behind the batch axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.dtypes import result_type
from dynarl.autograd.operands import fit
from dynarl.autograd.ops import (
    activation,
    affine,
    elementwise,
    indexing,
    linalg,
    recurrent,
    reduction,
    shape,
    trigonometry,
)
from dynarl.autograd.tape import primitive
from dynarl.batching.groups.execution import Static
from dynarl.batching.groups.group import PerSampleError
from dynarl.batching.rules.table import (
    RULES,
    SHAREABLE,
    ElementwiseRule,
    Flags,
    LeadingAxesRule,
    Operation,
    Rule,
    ViewRule,
    by_row,
)
from dynarl.batching.values.sample_tensor import cast, cloned, detached

__all__ = ["Rows", "aligned", "expanded", "promoted", "shifted", "where_rule"]

Rows = Sequence[Any]
"""Operands of a rule: Tensors [n, ...] of samples' rows, and Tensors [...] and numbers that all samples share."""

_NUMBERS = (bool, int, float)
_ALL = slice(None)


def aligned(operands: Rows, batched: Flags) -> list[Any]:
    """Insert axes behind the batch axis until one sample's ranks agree: [n, b] beside [n, a, b] -> [n, 1, b]."""
    ranks = [x.ndim - own if isinstance(x, Tensor) else 0 for x, own in zip(operands, batched)]
    top = max(ranks)
    return [
        shape._reshape(x, shape=(x.shape[0], *(1,) * (top - rank), *x.shape[1:])) if own and rank < top else x
        for x, own, rank in zip(operands, batched, ranks)
    ]


def expanded(operands: Rows, batched: Flags, n: int) -> list[Any]:
    """Give shared operands the batch axis: [...] -> [n, ...]."""
    return [x if own else x.expand((n, *x.shape)) for x, own in zip(operands, batched)]


def shifted(axis: Any, ndim: int) -> Any:
    """Return one sample's axis (None: all axes) as the batch's; `ndim` is the sample's."""
    if axis is None:
        return tuple(range(1, ndim + 1))
    if isinstance(axis, (tuple, list)):
        return tuple(shifted(a, ndim) for a in axis)
    if not -max(ndim, 1) <= axis < max(ndim, 1):
        raise IndexError(f"dim: expected {-ndim} to {ndim - 1} for one sample's {ndim} dimensions, got {axis}")
    return axis + 1 if axis >= 0 else axis


class _OneSample:
    """What type promotion asks of an operand: one number for each sample counts as 0-dim."""

    def __init__(self, dtype: Any, ndim: int) -> None:
        self.dtype, self.ndim = dtype, ndim


def promoted(operands: Rows, batched: Flags) -> list[Any]:
    """Cast operands to the dtype that they would have for one sample."""
    if len({x.dtype for x in operands if x.__class__ not in _NUMBERS}) == 1:
        return list(operands)
    samples = [x if x.__class__ in _NUMBERS else _OneSample(x.dtype, x.ndim - own) for x, own in zip(operands, batched)]
    dtype = result_type(*samples)
    return [x if x.__class__ in _NUMBERS or x.dtype == dtype else x.to(dtype) for x in operands]


def _elementwise(op: Any) -> ElementwiseRule:
    def body(x: Any, y: Any) -> Any:
        missing = (1,) * abs(x.ndim - y.ndim)
        # [n, b] beside [n, a, b] -> [n, 1, b]
        p = x.reshape(x.shape[0], *missing, *x.shape[1:]) if x.ndim < y.ndim else x
        q = y.reshape(y.shape[0], *missing, *y.shape[1:]) if y.ndim < x.ndim else y
        out, (by_x, by_y) = op.body(p, q)
        return out, (lambda g: fit(by_x(g), p).reshape(x.shape), lambda g: fit(by_y(g), q).reshape(y.shape))

    body.__name__ = op.__name__
    by_rank = primitive(linear=op.linear)(body)

    def rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
        x, y = operands
        if x.__class__ in _NUMBERS or y.__class__ in _NUMBERS:
            return op(x, y, **static)
        if batched[0] and batched[1] and x.array.dtype is y.array.dtype and not static:
            return by_rank(x, y)
        if x.ndim - batched[0] != y.ndim - batched[1] or x.dtype is not y.dtype:
            x, y = aligned(promoted(operands, batched), batched)
        return op(x, y, **static)

    return ElementwiseRule(rule, by_rank)


def where_rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    """Apply `where`; the condition takes no part in type promotion."""
    condition, *values = operands
    values = promoted(values, batched[1:])
    condition, *values = aligned([condition, *values], batched)
    return elementwise.where(condition, *values)


def _along_axis(op: Operation) -> Rule:
    def rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
        (x,) = operands
        axis = static["axis"]
        if x.ndim > 1:
            return op(x, **{**static, "axis": shifted(axis, x.ndim - 1)})
        for a in axis if isinstance(axis, tuple) else () if axis is None else (axis,):
            shifted(a, 0)
        # A 0-dim sample reduces as one with a single element: [n] -> [n, 1] -> [n].
        return op(x.reshape(n, 1), **{**static, "axis": 1 if isinstance(axis, int) else (1,)}).reshape(n)

    return rule


def _roll(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    (x,), axis = operands, static["axis"]
    if axis is None:
        return shape._roll(x.reshape(n, -1), shift=static["shift"], axis=1).reshape(x.shape)
    return shape._roll(x, shift=static["shift"], axis=shifted(axis, x.ndim - 1))


def _reshape(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    (x,), sizes = operands, static["shape"]
    if -1 in sizes:
        rest = -math.prod(sizes)
        sizes = tuple(math.prod(x.shape[1:]) // rest if s == -1 else s for s in sizes)
    return x.reshape((n, *sizes))


def _transpose(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    return operands[0].permute(0, *(a + 1 for a in static["axes"]))


def _broadcast(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    (x,), sizes = operands, static["shape"]
    x = x.reshape(n, *(1,) * (len(sizes) - x.ndim + 1), *x.shape[1:])
    return shape._broadcast_to(x, shape=(n, *sizes))


def _concatenate(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    rows = expanded(operands, batched, n)
    return shape._concatenate(*rows, axis=shifted(static["axis"], rows[0].ndim - 1))


def _matmul(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    x, y = operands
    x_rank, y_rank = x.ndim - batched[0], y.ndim - batched[1]
    if x_rank == 0 or y_rank == 0:
        raise ValueError("matmul: both operands must have at least one dimension, here one sample is a number")
    if batched[0] and not batched[1] and y_rank <= 2:
        return linalg.matmul(x, y)
    if batched[1] and not batched[0] and y_rank == 1 and x_rank <= 2:
        # A shared matrix or vector times each sample's vector: one product [n, in] @ [in, out], not n of them.
        return linalg.matmul(y, x.T if x_rank == 2 else x)
    if x_rank == 1 and y_rank == 1:
        return (x * y).sum(-1)
    rows = x.unsqueeze(-2) if x_rank == 1 else x
    columns = y.unsqueeze(-1) if y_rank == 1 else y
    out = linalg.matmul(*aligned([rows, columns], batched))
    out = out.squeeze(-2) if x_rank == 1 else out
    return out.squeeze(-1) if y_rank == 1 else out


def _einsum(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    used = set("".join(static["terms"])) | set(static["out"])
    axis = next(c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in used)
    terms = tuple(axis + term if own else term for term, own in zip(static["terms"], batched))
    return linalg._einsum(*operands, terms=terms, out=axis + static["out"])


def _check_linear(x: Any, batched: Flags) -> None:
    if list(batched).count(True) > 1 or not batched[0]:
        raise PerSampleError(
            "linear: inside a per-sample program weights must be shared; use matmul for a sample's own"
        )
    if x.array.ndim == 1:
        raise ValueError("linear: x must be [..., in] and weight [out, in], here one sample is a number")


def _cell(op: Operation, inputs: int) -> Rule:
    """Return the rule of a recurrent cell: `inputs` operands of each sample, or shared, and shared weights."""

    def rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
        if any(batched[inputs:]):
            return by_row(op)(operands, batched, n, static)
        return op(*expanded(operands[:inputs], batched, n), *operands[inputs:], **static)

    return rule


def _getitem(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    index = static["index"]
    index = (_ALL, *index) if index.__class__ is tuple else (_ALL, index)
    get = indexing._getitem if indexing._is_basic(index) else indexing.getitem
    return get(operands[0], index=index)


def _detached(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    return operands[0].detach()


def _is_contiguous(rows: Any, static: Static) -> bool | None:
    """Return whether reshape of one sample's tensor is certain to be a view; in lock-step nothing is known of it."""
    return True if isinstance(rows, Tensor) and rows.array.flags.c_contiguous else None


_ELEMENTWISE = (elementwise, trigonometry, activation)
_PROMOTING = [op for m in _ELEMENTWISE for op in vars(m).values() if getattr(op, "promotes", False)]
_ALONG_AXIS = [
    reduction._sum, reduction._mean, reduction._var, reduction._extreme, reduction._norm2, reduction._cumsum,
    reduction._cumprod, activation._softmax, activation._log_softmax, activation._logsumexp, shape._flip,
]  # fmt: skip
_UNCHANGED = [
    *(op for m in _ELEMENTWISE for op in vars(m).values() if hasattr(op, "body") and not op.promotes),
    reduction._root, shape._triangle, cloned, cast,
]  # fmt: skip
RULES.update({
    **dict.fromkeys(_UNCHANGED),
    **{op: _elementwise(op) for op in _PROMOTING},
    **{op: _along_axis(op) for op in _ALONG_AXIS},
    elementwise._where: where_rule,
    shape._roll: _roll,
    detached: ViewRule(_detached, lambda rows, static: True),
    shape._reshape: ViewRule(_reshape, _is_contiguous),
    shape._transpose: ViewRule(_transpose, lambda rows, static: True),
    shape._broadcast_to: ViewRule(_broadcast, lambda rows, static: True),
    shape._concatenate: _concatenate,
    linalg.matmul: _matmul,
    linalg._einsum: _einsum,
    affine.linear: LeadingAxesRule(_check_linear),
    affine.mlp: LeadingAxesRule(_check_linear),
    recurrent.gru_cell: _cell(recurrent.gru_cell, 2),
    recurrent.lstm_cell: _cell(recurrent.lstm_cell, 3),
    indexing._getitem: ViewRule(_getitem, lambda rows, static: indexing._is_basic(static["index"])),
})  # fmt: skip
# Without pow: an exponent that is a number has a formula of its own (x * x), which rounds differently.
SHAREABLE.update({*_PROMOTING, elementwise._where, shape._concatenate} - {elementwise.pow})
