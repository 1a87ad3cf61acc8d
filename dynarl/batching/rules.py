"""How each operation acts under the hidden batch axis: axes move by one, ranks are aligned behind it.

Elementwise functions of one operand are applied as they stand (their rule is None); an operation that is not named here
runs one sample after the other. A rule gets the operands, which of them are lanes, the number of rows, and the static
arguments.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.dtypes import result_type
from dynarl.autograd.ops import activation, affine, elementwise, indexing, linalg, normalization, reduction, shape
from dynarl.autograd.tape import lane_rules, wrap
from dynarl.batching.lane import Lane, _clone, _detach, _to
from dynarl.batching.run import Elementwise, bind, state
from dynarl.nn import functional

Operands = list[Any]
_NUMBERS = (bool, int, float)


def aligned(operands: Operands, lanes: list[bool]) -> Operands:
    """Insert axes behind the batch axis so that one sample's ranks agree."""
    ranks = [x.ndim - lane if isinstance(x, Tensor) else 0 for x, lane in zip(operands, lanes)]
    top = max(ranks)
    return [
        shape._reshape(x, shape=(x.shape[0], *(1,) * (top - rank), *x.shape[1:])) if lane and rank < top else x
        for x, lane, rank in zip(operands, lanes, ranks)
    ]


def _shift(axis: Any, ndim: int) -> Any:
    """Return one sample's axis (None for all) as the batch's; `ndim` is the sample's."""
    if axis is None:
        return tuple(range(1, ndim + 1))
    if isinstance(axis, (tuple, list)):
        return tuple(_shift(a, ndim) for a in axis)
    if not -max(ndim, 1) <= axis < max(ndim, 1):
        raise IndexError(f"dim: expected {-ndim} to {ndim - 1} for one sample's {ndim} dimensions, got {axis}")
    return axis + 1 if axis >= 0 else axis


class _Sample:
    """What decides promotion, of one sample: a number per sample counts as a number, whatever the batch is."""

    def __init__(self, dtype: Any, ndim: int) -> None:
        self.dtype, self.ndim = dtype, ndim


def promoted(operands: Operands, lanes: list[bool]) -> Operands:
    """Cast operands as they would be for one sample: a number per sample counts as 0-dim."""
    if len({x.dtype for x in operands if x.__class__ not in _NUMBERS}) == 1:
        return operands
    dtype = result_type(
        *(x if x.__class__ in _NUMBERS else _Sample(x.dtype, x.ndim - lane) for x, lane in zip(operands, lanes))
    )
    return [x if x.__class__ in _NUMBERS or x.dtype == dtype else x.to(dtype) for x in operands]


def elementwise_rule(op: Any) -> Any:
    def rule(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
        x, y = operands
        if x.__class__ in _NUMBERS or y.__class__ in _NUMBERS:
            return op(x, y, **static)
        if x.ndim - lanes[0] != y.ndim - lanes[1] or x.dtype is not y.dtype:
            x, y = aligned(promoted(operands, lanes), lanes)
        return op(x, y, **static)

    return Elementwise(rule)


def where_rule(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    condition, *values = operands
    values = promoted(values, lanes[1:])
    condition, *values = aligned([condition, *values], lanes)
    return elementwise.where(condition, *values)


def axis_rule(op: Any) -> Any:
    def rule(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
        (x,) = operands
        if x.ndim == 1:  # one number per sample counts as one dimension
            return _of_number(op, x, n, static)
        return op(x, **{**static, "axis": _shift(static["axis"], x.ndim - 1)})

    return rule


def _of_number(op: Any, x: Any, n: int, static: dict[str, Any]) -> Any:
    axis = static["axis"]
    for a in axis if isinstance(axis, tuple) else () if axis is None else (axis,):
        _shift(a, 0)
    static = {**static, "axis": 1 if isinstance(axis, int) else (1,)}
    return op(x.reshape(n, 1), **static).reshape(n)


def by_row(op: Any) -> Any:
    """Make the rule of an operation that has no other: one sample after the other, always right and never fast."""

    def rule(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
        rows = [op(*(x[i] if lane else x for x, lane in zip(operands, lanes)), **static) for i in range(n)]
        if len({tuple(row.shape) for row in rows}) > 1:
            raise state_error(f"{op.__name__}: gives samples different shapes, which cannot be batched")
        return shape.stack(rows)

    return rule


def _roll(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    (x,), axis = operands, static["axis"]
    if axis is None:
        return shape._roll(x.reshape(n, -1), shift=static["shift"], axis=1).reshape(x.shape)
    return shape._roll(x, shift=static["shift"], axis=_shift(axis, x.ndim - 1))


def _reshape(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    (x,), sizes = operands, static["shape"]
    if -1 in sizes:
        rest = -math.prod(sizes)
        sizes = tuple(math.prod(x.shape[1:]) // rest if s == -1 else s for s in sizes)
    return x.reshape((n, *sizes))


def _transpose(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    return operands[0].permute(0, *(a + 1 for a in static["axes"]))


def _broadcast(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    (x,), sizes = operands, static["shape"]
    x = x.reshape(n, *(1,) * (len(sizes) - x.ndim + 1), *x.shape[1:])
    return shape._broadcast_to(x, shape=(n, *sizes))


def _concatenate(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    rows = [x if lane else x.expand((n, *x.shape)) for x, lane in zip(operands, lanes)]
    return shape._concatenate(*rows, axis=_shift(static["axis"], rows[0].ndim - 1))


def _matmul(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    x, y = operands
    x_rank, y_rank = x.ndim - lanes[0], y.ndim - lanes[1]
    if x_rank == 0 or y_rank == 0:
        raise ValueError("matmul: both operands must have at least one dimension, here one sample is a number")
    if lanes[0] and not lanes[1] and y_rank <= 2:
        return linalg.matmul(x, y)
    if lanes[1] and not lanes[0] and y_rank == 1 and x_rank <= 2:  # a shared matrix or vector times a sample's vector
        return linalg.matmul(y, x.T if x_rank == 2 else x)
    if x_rank == 1 and y_rank == 1:
        return (x * y).sum(-1)
    rows = x.unsqueeze(-2) if x_rank == 1 else x
    columns = y.unsqueeze(-1) if y_rank == 1 else y
    out = linalg.matmul(*aligned([rows, columns], lanes))
    out = out.squeeze(-2) if x_rank == 1 else out
    return out.squeeze(-1) if y_rank == 1 else out


def _einsum(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    used = set("".join(static["terms"])) | set(static["out"])
    batch = next(c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in used)
    terms = tuple(batch + term if lane else term for term, lane in zip(static["terms"], lanes))
    return linalg._einsum(*operands, terms=terms, out=batch + static["out"])


def _linear(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    x, *parameters = operands
    if any(lanes[1:]) or not lanes[0]:
        raise state_error("linear: inside a per-sample program weights must be shared; use matmul for a sample's own")
    if x.ndim == 1:
        raise ValueError("linear: x must be [..., in] and weight [out, in], here one sample is a number")
    op = affine.mlp if "activations" in static else affine.linear
    return op(x, *parameters, **static)


def state_error(text: str) -> Exception:
    """Return the error of a program that batching cannot follow."""
    from dynarl.batching.cohort import PerSampleError

    return PerSampleError(text)


def _getitem(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    index = static["index"]
    parts = index if isinstance(index, tuple) else (index,)
    return indexing.getitem(operands[0], (slice(None), *parts))


_PROMOTING = [op for op in vars(elementwise).values() if getattr(op, "promotes", False)]
_AXIS = [
    reduction._sum, reduction._mean, reduction._var, reduction._extreme, reduction._norm2, reduction._cumsum,
    reduction._cumprod, activation._softmax, activation._log_softmax, activation._logsumexp, shape._flip,
]  # fmt: skip
_AS_IT_STANDS = [
    *(op for m in (elementwise, activation) for op in vars(m).values() if hasattr(op, "body") and not op.promotes),
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
    affine.linear: _linear,
    affine.mlp: _linear,
    indexing._getitem: _getitem,
})  # fmt: skip
bind(Lane, by_row)

BY_ROW: set[Any] = {*_PROMOTING, elementwise._where, shape._concatenate} - {elementwise.pow}
"""Operations to which what all samples share may as well be given as a row for each: numbers, small tensors."""


# -- functions that look at raw arrays: the same on the batch ---------------------------------------------------------


def on_rows(function: Any) -> Any:
    """Make the rule of a function of aligned operands, computed on all rows at once."""

    def compute(*operands: Any, **static: Any) -> Any:
        return function(*operands, **static)

    compute.__name__ = function.__name__

    def rule(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
        return compute(*aligned(promoted(operands, lanes), lanes), **static)

    state.rules[compute] = rule
    BY_ROW.add(compute)
    return lambda *args, **static: state.apply(compute, args, static)


def on_axis(function: Any) -> Any:
    """Make the rule of a function (input, dim, ...) that goes along an axis."""

    def compute(*operands: Any, **static: Any) -> Any:
        return function(*operands, **static)

    compute.__name__ = function.__name__

    def rule(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
        (x,), dim = operands, static.pop("dim")
        if dim is None:
            return compute(x.reshape(n, -1), dim=1, **static)
        return compute(x, dim=_shift(dim, x.ndim - 1), **static)

    state.rules[compute] = rule

    def call(input: Any, dim: Any = None, *args: Any, **static: Any) -> Any:
        names = ("keepdim",) if function is not reduction.argsort else ("descending", "stable")
        static = {**dict(zip(names, args)), **static}
        if function is reduction.argsort and dim is None:
            dim = -1
        return state.apply(compute, (input,), {"dim": dim, **static})

    return call


def each(function: Any) -> Any:
    """Make the rule of a function that reads raw arrays: one sample after the other."""

    def compute(*operands: Any, places: Any, fixed: Any, named: Any) -> Any:
        tensors = iter(operands)
        return function(*(next(tensors) if place else value for place, value in zip(places, fixed)), **named)

    compute.__name__ = function.__name__
    state.rules[compute] = by_row(compute)

    def call(*args: Any, **named: Any) -> Any:
        if any(value.__class__ is Lane for value in named.values()):
            raise state_error(f"{function.__name__}: pass per-sample tensors by position")
        places = [isinstance(a, (Lane, Tensor)) for a in args]
        static = {"places": places, "fixed": args, "named": named}
        return state.apply(compute, tuple(a for a, place in zip(args, places) if place), static)

    return call


def _index_rule(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    """x[index] where x or parts of the index are lanes: rows pick their own elements."""
    x, *picks = operands
    picks_iter, lanes_iter = iter(picks), iter(lanes[1:])
    parts: list[Any] = []
    depth = max((p.ndim - lane for p, lane in zip(picks, lanes[1:])), default=0)
    rows = np.arange(n).reshape(-1, *(1,) * depth)
    for part in static["index"]:
        if part is _HOLE:
            pick, lane = next(picks_iter), next(lanes_iter)
            array = pick.array
            rank = array.ndim - lane
            parts.append(array.reshape(n if lane else 1, *(1,) * (depth - rank), *array.shape[lane:]))
        else:
            parts.append(part)
    if lanes[0]:
        parts = [rows, *parts]
    return indexing.getitem(x, tuple(parts))


class _Hole:
    """Marks where a tensor stood in an index."""


_HOLE = _Hole()


def _pick(*operands: Any, index: Any) -> Any:
    raise TypeError("unreachable: _pick has a rule")


state.rules[_pick] = _index_rule


def _getitem_lane(x: Any, index: Any) -> Any:
    if indexing._is_basic(index):
        return indexing._getitem(x, index=index)
    parts = index if isinstance(index, tuple) else (index,)
    tensors = [p for p in parts if isinstance(p, (Lane, Tensor))]
    if not any(p.__class__ is Lane for p in tensors):
        places = [k for k, p in enumerate(parts) if not isinstance(p, (slice, type(None), type(Ellipsis)))]
        arrays = tensors or any(isinstance(p, (list, np.ndarray)) for p in parts)
        if arrays and places[-1] - places[0] != len(places) - 1:  # NumPy would move the indexed dimension
            holes = tuple(_HOLE if isinstance(p, Tensor) else p for p in parts)
            return state.apply(_pick_by_row, (x, *tensors), {"index": holes})
        if tensors:
            index = tuple(p.array if isinstance(p, Tensor) else p for p in parts)
        return indexing._getitem(x, index=index)
    if any(p.__class__ is Lane and p.dtype.kind == "b" for p in tensors):
        raise state_error(
            "getitem: a mask would give each sample another shape; use where(), or a loop over the elements"
        )
    if any(not isinstance(p, (Lane, Tensor, int)) for p in parts):
        return _mixed(x, parts, tensors)
    holes = tuple(_HOLE if isinstance(p, (Lane, Tensor)) else p for p in parts)
    return state.apply(_pick, (x, *tensors), {"index": holes})


def _mixed(x: Any, parts: tuple[Any, ...], tensors: list[Any]) -> Any:
    """x[index] where lanes stand beside slices, lists or new axes."""
    lead = next(i for i, p in enumerate(parts) if not isinstance(p, (Lane, Tensor, int)))
    if any(isinstance(p, (Lane, Tensor, list, np.ndarray, int)) for p in parts[lead:]):
        holes = tuple(_HOLE if isinstance(p, (Lane, Tensor)) else p for p in parts)
        return state.apply(_pick_by_row, (x, *tensors), {"index": holes})
    picked = _getitem_lane(x, parts[:lead])
    depth = max(p.ndim for p in tensors)
    return indexing.getitem(picked, (*(slice(None),) * depth, *parts[lead:]))


def _pick_by_row(x: Any, *picks: Any, index: Any) -> Any:
    tensors = iter(picks)
    return indexing.getitem(x, tuple(next(tensors) if part is _HOLE else part for part in index))


_pick_by_row.__name__ = "getitem"
_pick.__name__ = "getitem"


def _gather(input: Any, dim: int, index: Any) -> Any:
    return state.apply(_gather_op, (input, index), {"dim": dim})


def _gather_op(input: Any, index: Any, *, dim: int) -> Any:
    return indexing.gather(input, dim, index)


def _gather_rule(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    x, index = (t if lane else t.expand((n, *t.shape)) for t, lane in zip(operands, lanes))
    return indexing.gather(x, _shift(static["dim"], x.ndim - 1), index)


state.rules[_gather_op] = _gather_rule


def _one_hot(tensor: Any, num_classes: int = -1) -> Any:
    if num_classes == -1:
        raise ValueError("one_hot: inside a per-sample program num_classes must be given: samples differ")
    return state.apply(_one_hot_op, (tensor,), {"num_classes": num_classes})


def _one_hot_op(tensor: Any, *, num_classes: int) -> Any:
    return indexing.one_hot(tensor, num_classes)


def _embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Any:
    return state.apply(_embedding_op, (input, weight), {"padding_idx": padding_idx})


def _embedding_op(input: Any, weight: Any, *, padding_idx: int | None) -> Any:
    return functional.embedding(input, weight, padding_idx)


def _rows_of_table(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    if lanes[1]:
        return by_row(_embedding_op)(operands, lanes, n, static)
    return _embedding_op(*operands, **static)


def _trailing(operands: Operands, lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    """Normalisation over the last axes, with shared weights."""
    op = normalization.layer_norm
    return by_row(op)(operands, lanes, n, static) if any(lanes[1:]) or not lanes[0] else op(*operands, **static)


state.rules[_embedding_op] = _rows_of_table
state.rules[normalization.layer_norm] = _trailing


def _where(condition: Any, input: Any = None, other: Any = None) -> Any:
    if input is None:
        raise state_error("where: the indices of true elements differ in number by sample; loop, or use a mask")
    return state.apply(_where_op, (condition, input, other), {})


def _where_op(condition: Any, input: Any, other: Any) -> Any:
    return elementwise.where(condition if isinstance(condition, Tensor) else wrap(np.asarray(condition)), input, other)


state.rules[_where_op] = where_rule
BY_ROW.add(_where_op)


def _masked_fill(input: Any, mask: Any, value: Any) -> Any:
    return _where(mask, value, input)


def _install() -> None:
    names = (
        "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or",
        "bitwise_xor", "isnan", "isinf", "isfinite", "logical_not", "bitwise_not", "floor_divide", "truncated_divide",
        "divide_whole", "isclose",
    )  # fmt: skip
    lane_rules.update({name: on_rows(getattr(elementwise, name)) for name in names})
    for name in ("argmax", "argmin", "all", "any", "count_nonzero", "argsort", "prod", "cumprod"):
        lane_rules[name] = on_axis(getattr(reduction, name))
    for function in (
        shape.repeat_interleave, shape.diagonal, shape.diag, indexing.scatter, indexing.scatter_add, indexing.index_add,
    ):  # fmt: skip
        lane_rules[function.__name__] = each(function)
    lane_rules.update(
        getitem=_getitem_lane, gather=_gather, take_along_dim=lambda x, i, dim: _gather(x, dim, i), one_hot=_one_hot,
        embedding=_embedding,
        where=_where, masked_fill=_masked_fill,
    )  # fmt: skip


_install()
