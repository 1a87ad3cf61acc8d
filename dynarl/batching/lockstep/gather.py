"""Gathering: one operation on the tape that takes rows of several tensors, from anywhere, possibly more than once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dynarl.autograd import Tensor, primitive, xp
from dynarl.autograd.gradients import IndexedGradient
from dynarl.autograd.ops.indexing import _getitem, _spread
from dynarl.autograd.tape import call as call_op
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.group import Rows, SampleGroup
from dynarl.batching.lockstep.lazy import LazyCall, TensorSpec
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["gather", "gather_rows"]

Array = Any
Places = Rows | slice | None
Source = tuple[Tensor, list[int], list[int]]
"""(tensor, places in the result, rows of the tensor)."""


@primitive(linear=True)
def gather_rows(*sources: Array, plan: tuple[tuple[Places, Rows | slice, bool], ...], count: int) -> Any:
    """Return [count, ...] whose rows `places` are rows `rows` of a source, for (places, rows, distinct) of each.

    The places together cover every row once; `distinct` says that no row of the source is used twice.
    """
    shapes = [source.shape for source in sources]

    def vjp(g: Array, needs: Sequence[Any]) -> list[Any]:
        gradients: list[Any] = []
        lifted = hasattr(g, "_node")
        for (places, rows, distinct), shape, need in zip(plan, shapes, needs):
            if need is False:
                gradients.append(None)
            elif lifted:
                part = g if len(plan) == 1 else call_op(_getitem, g, index=places)
                gradients.append(call_op(_spread, part, index=rows, shape=shape))
            else:
                part = g if len(plan) == 1 else g[places] if places.__class__ is slice else g.take(places, axis=0)
                gradients.append(IndexedGradient(part, rows, shape) if distinct else _summed(part, rows, shape))
        return gradients

    if any(hasattr(source, "_node") for source in sources):
        return sources[0], vjp
    first = sources[0]
    if len(sources) == 1:
        only: Any = plan[0][1]
        return first[only] if only.__class__ is slice else first.take(only, axis=0), vjp
    out = xp(first).empty((count, *first.shape[1:]), dtype=first.dtype)
    for source, (places, rows, _) in zip(sources, plan):
        out[places] = source[rows] if rows.__class__ is slice else source.take(rows, axis=0)
    return out, vjp


def _summed(g: Array, rows: Any, shape: tuple[int, ...]) -> IndexedGradient:
    """Return the gradient of rows that were used more than once: the sum over the uses of each."""
    np_ = xp(g)
    order = np_.argsort(rows, kind="stable")  # stable: sums are in the same order in every run
    ordered = rows[order]
    first = np_.flatnonzero(np_.concatenate([np_.ones(1, bool), ordered[1:] != ordered[:-1]]))
    return IndexedGradient(np_.add.reduceat(g.take(order, axis=0), first, axis=0), ordered[first], shape)


def gather(tensors: Sequence[SampleTensor], groups: Sequence[SampleGroup], total: int) -> Any:
    """Return a Tensor [total, ...] of the rows of computed SampleTensors, of tensors[i] for groups[i]."""
    first = tensors[0].tensor
    if len(tensors) == 1:
        return _rows_of_one(tensors[0], groups[0])
    sources: dict[int, Source] = {}
    place, last = 0, None
    places: list[int] = []
    rows: list[int] = []
    for x, group in zip(tensors, groups):
        slot = x.tensor
        call = slot if slot.__class__ is LazyCall else slot.call
        tensor = call.results[slot.index]
        if tensor is not last:  # neighbours mostly have the same source: a dictionary look-up less
            last = tensor
            entry = sources.get(id(tensor))
            if entry is None:
                entry = sources[id(tensor)] = (tensor, [], [])
            _, places, rows = entry
        size = group.size
        if size == 1:
            places.append(place)
            if x.group is group:
                rows.append(call.start)
            else:
                rows.append(0 if call.constant else call.start + int(group.rows_in(x.group)[0]))
            place += 1
            continue
        places.extend(range(place, place + size))
        if call.constant:
            rows.extend([0] * size)
        elif x.group is group:
            rows.extend(range(call.start, call.start + size))
        else:
            rows.extend((group.rows_in(x.group) + call.start).tolist())
        place += size
    return _from_sources(list(sources.values()), total, first.array)


def _from_sources(sources: list[Source], total: int, spec: TensorSpec) -> Any:
    """Return the rows of all sources as one operation; no operation where they are one whole source in order."""
    if len(sources) == 1:
        tensor, _, found = sources[0]
        rows = np.array(found)
        distinct = _distinct(rows, len(tensor.array))
        if distinct and len(rows) == len(tensor.array) and _is_range(rows):
            return tensor
        return gather_rows(tensor, plan=((None, _sliced(rows) if distinct else rows, distinct),), count=total)
    if len(sources) > 8 and not spec.needs and all(len(tensor.array) == 1 for tensor, _, _ in sources):
        # Many constants of one row each: stack them first, a plan with an entry for each would be slower.
        stacked = wrap(xp(sources[0][0].array).concatenate([tensor.array for tensor, _, _ in sources]))
        which = np.empty(total, np.int64)
        for i, (_, places, _) in enumerate(sources):
            which[places] = i
        return gather_rows(stacked, plan=((None, which, False),), count=total)
    plan = []
    for tensor, places, found in sources:
        rows = np.array(found)
        distinct = _distinct(rows, len(tensor.array))
        plan.append((_sliced(np.array(places)), _sliced(rows) if distinct else rows, distinct))
    return gather_rows(*[tensor for tensor, _, _ in sources], plan=tuple(plan), count=total)


def _is_range(rows: Rows) -> bool:
    return bool(rows[-1] - rows[0] == len(rows) - 1) and _is_ascending(rows)


def _is_ascending(rows: Rows) -> bool:
    return bool(np.count_nonzero(rows[1:] > rows[:-1]) == len(rows) - 1)  # all() takes four times as long


def _sliced(rows: Rows) -> Rows | slice:
    return slice(int(rows[0]), int(rows[-1]) + 1) if _is_range(rows) else rows


def _distinct(rows: Rows, count: int) -> bool:
    if len(rows) == 1 or _is_ascending(rows):
        return True
    if len(rows) > count:
        return False
    seen = np.zeros(count, bool)
    seen[rows] = True
    return int(np.count_nonzero(seen)) == len(rows)


def _rows_of_one(x: SampleTensor, group: SampleGroup) -> Any:
    slot = x.tensor
    call = slot.call
    tensor = call.results[slot.index]
    size = group.size
    if call.constant:
        return tensor if size == 1 else tensor.expand((size, *tensor.shape[1:]))
    if x.group is group:
        if len(tensor.array) == size:
            return tensor
        rows: Any = slice(call.start, call.start + size)
    else:
        rows = group.rows_in(x.group) + call.start
    return gather_rows(tensor, plan=((None, rows, True),), count=size)
