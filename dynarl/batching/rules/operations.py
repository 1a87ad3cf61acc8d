"""How each operation acts under the hidden batch axis: axes move by one, ranks are aligned behind it.

Elementwise functions of one operand need no change (their rule is None); an operation without a rule runs one sample
after the other. A rule gets the operands, a flag for each that says whether it has the batch axis, the number of rows,
and the static arguments.
"""

from __future__ import annotations

import math
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
from dynarl.batching.eager.execution import ElementwiseRule, LeadingAxesRule, bind, state
from dynarl.batching.rules.operators import bind_operators
from dynarl.batching.values.sample_tensor import SampleTensor, _clone, _detach, _to

Operands = list[Any]
_NUMBERS = (bool, int, float)


def aligned(operands: Operands, batched: list[bool]) -> Operands:
    """Insert axes behind the batch axis so that one sample's ranks agree."""
    ranks = [x.ndim - is_batched if isinstance(x, Tensor) else 0 for x, is_batched in zip(operands, batched)]
    top = max(ranks)
    return [
        shape._reshape(x, shape=(x.shape[0], *(1,) * (top - rank), *x.shape[1:])) if is_batched and rank < top else x
        for x, is_batched, rank in zip(operands, batched, ranks)
    ]


def shifted(axis: Any, ndim: int) -> Any:
    """Return one sample's axis (None for all) as the batch's; `ndim` is the sample's."""
    if axis is None:
        return tuple(range(1, ndim + 1))
    if isinstance(axis, (tuple, list)):
        return tuple(shifted(a, ndim) for a in axis)
    if not -max(ndim, 1) <= axis < max(ndim, 1):
        raise IndexError(f"dim: expected {-ndim} to {ndim - 1} for one sample's {ndim} dimensions, got {axis}")
    return axis + 1 if axis >= 0 else axis


class _Sample:
    """What decides promotion, of one sample: a number per sample counts as a number, whatever the batch is."""

    def __init__(self, dtype: Any, ndim: int) -> None:
        self.dtype, self.ndim = dtype, ndim


def promoted(operands: Operands, batched: list[bool]) -> Operands:
    """Cast operands as they would be for one sample: a number per sample counts as 0-dim."""
    if len({x.dtype for x in operands if x.__class__ not in _NUMBERS}) == 1:
        return operands
    dtype = result_type(
        *(
            x if x.__class__ in _NUMBERS else _Sample(x.dtype, x.ndim - is_batched)
            for x, is_batched in zip(operands, batched)
        )
    )
    return [x if x.__class__ in _NUMBERS or x.dtype == dtype else x.to(dtype) for x in operands]


def elementwise_rule(op: Any) -> Any:
    def body(x: Any, y: Any) -> Any:
        missing = (1,) * abs(x.ndim - y.ndim)
        p = x.reshape(x.shape[0], *missing, *x.shape[1:]) if x.ndim < y.ndim else x
        q = y.reshape(y.shape[0], *missing, *y.shape[1:]) if y.ndim < x.ndim else y
        out, (by_x, by_y) = op.body(p, q)
        return out, (lambda g: fit(by_x(g), p).reshape(x.shape), lambda g: fit(by_y(g), q).reshape(y.shape))

    body.__name__ = op.__name__
    by_rank = primitive(linear=op.linear)(body)

    def rule(operands: Operands, batched: list[bool], n: int, static: dict[str, Any]) -> Any:
        x, y = operands
        if x.__class__ in _NUMBERS or y.__class__ in _NUMBERS:
            return op(x, y, **static)
        if batched[0] and batched[1] and x.array.dtype is y.array.dtype and not static:
            return by_rank(x, y)
        if x.ndim - batched[0] != y.ndim - batched[1] or x.dtype is not y.dtype:
            x, y = aligned(promoted(operands, batched), batched)
        return op(x, y, **static)

    return ElementwiseRule(rule, by_rank)


def where_rule(operands: Operands, batched: list[bool], n: int, static: dict[str, Any]) -> Any:
    condition, *values = operands
    values = promoted(values, batched[1:])
    condition, *values = aligned([condition, *values], batched)
    return elementwise.where(condition, *values)


def axis_rule(op: Any) -> Any:
    def rule(operands: Operands, batched: list[bool], n: int, static: dict[str, Any]) -> Any:
        (x,) = operands
        if x.ndim == 1:  # one number per sample counts as one dimension
            return _of_number(op, x, n, static)
        return op(x, **{**static, "axis": shifted(static["axis"], x.ndim - 1)})

    return rule


def _of_number(op: Any, x: Any, n: int, static: dict[str, Any]) -> Any:
    axis = static["axis"]
    for a in axis if isinstance(axis, tuple) else () if axis is None else (axis,):
        shifted(a, 0)
    static = {**static, "axis": 1 if isinstance(axis, int) else (1,)}
    return op(x.reshape(n, 1), **static).reshape(n)


def by_row(op: Any) -> Any:
    """Make the rule of an operation that has no other: one sample after the other, always right and never fast."""

    def rule(operands: Operands, batched: list[bool], n: int, static: dict[str, Any]) -> Any:
        rows = [
            op(*(x[i] if is_batched else x for x, is_batched in zip(operands, batched)), **static) for i in range(n)
        ]
        if len({tuple(row.shape) for row in rows}) > 1:
            raise state_error(f"{op.__name__}: gives samples different shapes, which cannot be batched")
        return shape.stack(rows)

    return rule


def _roll(operands: Operands, batched: list[bool], n: int, static: dict[str, Any]) -> Any:
    (x,), axis = operands, static["axis"]
    if axis is None:
        return shape._roll(x.reshape(n, -1), shift=static["shift"], axis=1).reshape(x.shape)
    return shape._roll(x, shift=static["shift"], axis=shifted(axis, x.ndim - 1))


def _reshape(operands: Operands, batched: list[bool], n: int, static: dict[str, Any]) -> Any:
    (x,), sizes = operands, static["shape"]
    if -1 in sizes:
        rest = -math.prod(sizes)
        sizes = tuple(math.prod(x.shape[1:]) // rest if s == -1 else s for s in sizes)
    return x.reshape((n, *sizes))


def _transpose(operands: Operands, batched: list[bool], n: int, static: dict[str, Any]) -> Any:
    return operands[0].permute(0, *(a + 1 for a in static["axes"]))


def _broadcast(operands: Operands, batched: list[bool], n: int, static: dict[str, Any]) -> Any:
    (x,), sizes = operands, static["shape"]
    x = x.reshape(n, *(1,) * (len(sizes) - x.ndim + 1), *x.shape[1:])
    return shape._broadcast_to(x, shape=(n, *sizes))


def _concatenate(operands: Operands, batched: list[bool], n: int, static: dict[str, Any]) -> Any:
    rows = [x if is_batched else x.expand((n, *x.shape)) for x, is_batched in zip(operands, batched)]
    return shape._concatenate(*rows, axis=shifted(static["axis"], rows[0].ndim - 1))


def _matmul(operands: Operands, batched: list[bool], n: int, static: dict[str, Any]) -> Any:
    x, y = operands
    x_rank, y_rank = x.ndim - batched[0], y.ndim - batched[1]
    if x_rank == 0 or y_rank == 0:
        raise ValueError("matmul: both operands must have at least one dimension, here one sample is a number")
    if batched[0] and not batched[1] and y_rank <= 2:
        return linalg.matmul(x, y)
    if (
        batched[1] and not batched[0] and y_rank == 1 and x_rank <= 2
    ):  # a shared matrix or vector times a sample's vector
        return linalg.matmul(y, x.T if x_rank == 2 else x)
    if x_rank == 1 and y_rank == 1:
        return (x * y).sum(-1)
    rows = x.unsqueeze(-2) if x_rank == 1 else x
    columns = y.unsqueeze(-1) if y_rank == 1 else y
    out = linalg.matmul(*aligned([rows, columns], batched))
    out = out.squeeze(-2) if x_rank == 1 else out
    return out.squeeze(-1) if y_rank == 1 else out


def _einsum(operands: Operands, batched: list[bool], n: int, static: dict[str, Any]) -> Any:
    used = set("".join(static["terms"])) | set(static["out"])
    batch = next(c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in used)
    terms = tuple(batch + term if is_batched else term for term, is_batched in zip(static["terms"], batched))
    return linalg._einsum(*operands, terms=terms, out=batch + static["out"])


def _check_linear(x: Any, batched: list[bool]) -> None:
    if batched.count(True) > 1 or not batched[0]:
        raise state_error("linear: inside a per-sample program weights must be shared; use matmul for a sample's own")
    if x.array.ndim == 1:
        raise ValueError("linear: x must be [..., in] and weight [out, in], here one sample is a number")


def cell_rule(op: Any, inputs: int) -> Any:
    """Make the rule of a recurrent cell: input and state of each sample, or one for all, and shared weights."""

    def rule(operands: Operands, batched: list[bool], n: int, static: dict[str, Any]) -> Any:
        if any(batched[inputs:]):
            return by_row(op)(operands, batched, n, static)
        own = [x if is_batched else x.expand((n, *x.shape)) for x, is_batched in zip(operands[:inputs], batched)]
        return op(*own, *operands[inputs:], **static)

    return rule


def state_error(text: str) -> Exception:
    """Return the error of a program that batching cannot follow."""
    from dynarl.batching.groups.group import PerSampleError

    return PerSampleError(text)


def _getitem(operands: Operands, batched: list[bool], n: int, static: dict[str, Any]) -> Any:
    index = static["index"]
    index = (_ALL, *index) if index.__class__ is tuple else (_ALL, index)
    get = indexing._getitem if indexing._is_basic(index) else indexing.getitem
    return get(operands[0], index=index)


_ALL = slice(None)


_ELEMENTWISE = (elementwise, trigonometry, activation)
_PROMOTING = [op for m in _ELEMENTWISE for op in vars(m).values() if getattr(op, "promotes", False)]
_AXIS = [
    reduction._sum, reduction._mean, reduction._var, reduction._extreme, reduction._norm2, reduction._cumsum,
    reduction._cumprod, activation._softmax, activation._log_softmax, activation._logsumexp, shape._flip,
]  # fmt: skip
_AS_IT_STANDS = [
    *(op for m in _ELEMENTWISE for op in vars(m).values() if hasattr(op, "body") and not op.promotes),
    reduction._root, shape._triangle, _clone, _detach, _to,
]  # fmt: skip
state.rules.update({
    **dict.fromkeys(_AS_IT_STANDS),
    **{op: elementwise_rule(op) for op in _PROMOTING},
    **{op: axis_rule(op) for op in _AXIS},
    elementwise._where: where_rule,
    shape._roll: _roll,
    shape._reshape: _reshape,
    shape._transpose: _transpose,
    shape._broadcast_to: _broadcast,
    shape._concatenate: _concatenate,
    linalg.matmul: _matmul,
    linalg._einsum: _einsum,
    affine.linear: LeadingAxesRule(_check_linear),
    affine.mlp: LeadingAxesRule(_check_linear),
    recurrent.gru_cell: cell_rule(recurrent.gru_cell, 2),
    recurrent.lstm_cell: cell_rule(recurrent.lstm_cell, 3),
    indexing._getitem: _getitem,
})  # fmt: skip
bind(SampleTensor, by_row)
bind_operators({"add": elementwise.add, "sub": elementwise.sub, "mul": elementwise.mul})

BY_ROW: set[Any] = {*_PROMOTING, elementwise._where, shape._concatenate} - {elementwise.pow}
"""Operations to which what all samples share may as well be given as a row for each: numbers, small tensors."""
