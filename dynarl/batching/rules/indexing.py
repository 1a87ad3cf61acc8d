"""Rules of indexing: every sample picks, gathers and scatters at places of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.ops import indexing
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.execution import Operation, Static, apply
from dynarl.batching.groups.group import PerSampleError
from dynarl.batching.rules.operations import Rows, expanded, shifted
from dynarl.batching.rules.table import RULES, Flags
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.values.shared_memory import note_view, tracks_views

__all__ = ["FUNCTIONS", "HOLE"]


class _Hole:
    """Marks the place of a tensor in an index: the tensors are operands."""


HOLE = _Hole()


def _pick(*operands: Any, index: Any) -> Any:
    raise TypeError("unreachable: _pick has a rule")


def _pick_rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    """Return x[index] with slices, new axes and tensors in the index, where x or some of the tensors are batched."""
    (x, *picks), index = operands, static["index"]
    depth = max(p.ndim - own for p, own in zip(picks, batched[1:]))
    arrays = iter(
        p.array.reshape(n if own else 1, *(1,) * (depth - p.ndim + own), *p.shape[own:])
        for p, own in zip(picks, batched[1:])
    )
    parts = [next(arrays) if part is HOLE else part for part in index]
    holes = [i for i, part in enumerate(index) if part is HOLE]
    lead = holes[0] if holes[-1] - holes[0] == len(holes) - 1 else 0  # dimensions before those of the tensors
    if batched[0]:  # NumPy puts the dimensions of index arrays first, with the rows
        out = indexing.getitem(x, (np.arange(n).reshape(-1, *(1,) * depth), *parts))
        order = [0, *range(1 + depth, 1 + depth + lead), *range(1, 1 + depth)]
    else:
        out = indexing.getitem(x, tuple(parts))
        order = [lead, *range(lead)]
    order += [d for d in range(out.ndim) if d not in order]
    return out if order == sorted(order) else out.permute(*order)


def _pick_alone(x: Any, *picks: Any, index: Any) -> Any:
    own = iter(picks)
    return indexing.getitem(x, tuple([next(own) if part is HOLE else part for part in index]))


_pick.__name__, _pick.alone = "getitem", _pick_alone  # type: ignore[attr-defined]
RULES[_pick] = _pick_rule


def _getitem(x: Any, index: Any) -> Any:
    if indexing._is_basic(index):
        return indexing._getitem(x, index=index)
    parts = [
        wrap(np.asarray(p)) if isinstance(p, (list, np.ndarray)) else p
        for p in (index if isinstance(index, tuple) else (index,))
    ]
    tensors = [p for p in parts if isinstance(p, (SampleTensor, Tensor))]
    if any(p.dtype.kind == "b" for p in tensors):
        return _masked(x, parts, tensors)
    places = [k for k, p in enumerate(parts) if isinstance(p, (SampleTensor, Tensor, int))]
    together = places[-1] - places[0] == len(places) - 1
    if together and not any(p.__class__ is SampleTensor for p in tensors):
        return indexing._getitem(x, index=tuple(p.array if isinstance(p, Tensor) else p for p in parts))
    x, parts = _numbers_first(x, parts, together)
    holes = tuple(HOLE if isinstance(p, (SampleTensor, Tensor)) else p for p in parts)
    picked = apply(_pick, (x, *(p for p in parts if isinstance(p, (SampleTensor, Tensor)))), {"index": holes})
    if tracks_views() and x.__class__ is SampleTensor and not any(p.ndim for p in tensors):
        note_view(x, picked, indexing.getitem, {"index": index})  # numbers as index give a view
    return picked


def _masked(x: Any, parts: list[Any], tensors: list[Any]) -> Any:
    if any(p.__class__ is SampleTensor for p in tensors):
        raise PerSampleError(
            "getitem: a mask would give each sample another shape; use where(), or a loop over the elements"
        )
    shared: list[Any] = []
    for p in parts:  # a mask selects the places where it is true
        if isinstance(p, Tensor) and p.dtype.kind == "b":
            shared += [wrap(i) for i in p.array.nonzero()]
        else:
            shared.append(p)
    return _getitem(x, tuple(shared))


def _numbers_first(x: Any, parts: list[Any], together: bool) -> tuple[Any, list[Any]]:
    """Index with numbers first, as PyTorch does (and 0-dim tensors that slices separate); `...` becomes slices."""
    if any(p is Ellipsis for p in parts):
        at = next(i for i, p in enumerate(parts) if p is Ellipsis)
        used = sum(p is not None for p in parts) - 1
        parts = [*parts[:at], *[slice(None)] * (x.ndim - used), *parts[at + 1 :]]
    first = [
        p
        for p in parts
        if isinstance(p, int) or (not together and isinstance(p, (SampleTensor, Tensor)) and not p.ndim)
    ]
    if len(first) == sum(isinstance(p, (SampleTensor, Tensor, int)) for p in parts):
        first = [p for p in first if isinstance(p, int)]  # the caller needs tensors that remain
    for p in reversed(first):
        at = next(i for i, part in enumerate(parts) if part is p)
        before = sum(part is not None for part in parts[:at])
        x = _getitem(x, (*[slice(None)] * before, p))
        parts = [*parts[:at], *parts[at + 1 :]]
    return x, parts


def _gather(input: Any, dim: int, index: Any) -> Any:
    return apply(_gather_op, (input, index), {"dim": dim})


def _gather_op(input: Any, index: Any, *, dim: int) -> Any:
    return indexing.gather(input, dim, index)


def _gather_rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    x, index = expanded(operands, batched, n)
    return indexing.gather(x, shifted(static["dim"], x.ndim - 1), index)


def _scatter(input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Any:
    src = value if src is None else src
    if isinstance(src, (SampleTensor, Tensor)):
        return apply(_scatter_op, (input, index, src), {"dim": dim, "reduce": reduce})
    return apply(_scatter_op, (input, index), {"dim": dim, "reduce": reduce, "value": src})


def _scatter_op(*operands: Any, dim: int, reduce: str | None, value: Any = None) -> Any:
    input, index, *src = operands
    return indexing.scatter(input, dim, index, *src, value=value, reduce=reduce)


def _scatter_rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    x, index, *src = expanded(operands, batched, n)
    if src and src[0].ndim == 1:  # a number per sample
        src = [src[0].reshape(n, *(1,) * (index.ndim - 1)).expand(index.shape)]
    dim = shifted(static["dim"], x.ndim - 1)
    return indexing.scatter(x, dim, index, *src, value=static.get("value"), reduce=static["reduce"])


def _index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    return apply(_index_add_op, (input, index, source), {"dim": dim, "alpha": alpha})


def _index_add_op(input: Any, index: Any, source: Any, *, dim: int, alpha: float) -> Any:
    return indexing.index_add(input, dim, index, source, alpha=alpha)


def _index_add_rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    (x, source), index = expanded([operands[0], operands[2]], [batched[0], batched[2]], n), operands[1]
    dim, alpha = shifted(static["dim"], x.ndim - 1) % x.ndim, static["alpha"]
    if not batched[1]:
        return indexing.index_add(x, dim, index, source, alpha=alpha)
    sizes = [n if d == 0 else index.shape[1] if d == dim else 1 for d in range(source.ndim)]
    everywhere = index.reshape(sizes).expand(source.shape)
    return indexing.scatter_add(x, dim, everywhere, source if alpha == 1 else source * alpha)


RULES.update({_gather_op: _gather_rule, _scatter_op: _scatter_rule, _index_add_op: _index_add_rule})
FUNCTIONS: dict[str, Operation] = {
    "getitem": _getitem,
    "gather": _gather,
    "take_along_dim": lambda x, index, dim: _gather(x, dim, index),
    "scatter": _scatter,
    "scatter_add": lambda x, dim, index, src: _scatter(x, dim, index, src, reduce="add"),
    "index_add": _index_add,
}
"""By function name: what replaces the function when an operand is a per-sample tensor."""
