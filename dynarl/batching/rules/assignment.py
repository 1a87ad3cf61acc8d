"""The rule of item assignment: a new tensor in which every sample's elements at an index are replaced."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dynarl.autograd import Tensor, primitive, xp
from dynarl.autograd.operands import fit
from dynarl.autograd.ops import elementwise, indexing
from dynarl.autograd.tape import call
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.execution import Static, apply
from dynarl.batching.groups.group import PerSampleError
from dynarl.batching.rules.indexing import HOLE
from dynarl.batching.rules.operations import Rows
from dynarl.batching.rules.table import RULES, Flags
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["assigned"]


@primitive(linear=True)
def _put(x: Any, value: Any, *, index: Any) -> Any:
    """Return x with x[index] = value; the value broadcasts."""
    vjps = (lambda g: call(indexing._setitem_masked, g, index=index), lambda g: fit(g[index], value))
    if hasattr(x, "_node"):
        return x, vjps
    out = xp(x).array(x)
    out[index] = value
    return out, vjps


def _put_rows(*operands: Any, index: Any) -> Any:
    raise TypeError("unreachable: _put_rows has a rule")


def _rule(operands: Rows, batched: Flags, n: int, static: Static) -> Any:
    """Assign at an index with slices, new axes, shared arrays, and tensors of each sample's own."""
    x, value, *picks = operands
    if not batched[0]:
        x = x.expand((n, *x.shape))
    index = _with_rows(static["index"], picks, n)
    if value.__class__ in (bool, int, float):
        value = wrap(xp(x.array).asarray(value, dtype=x.dtype))
        return _put(x, value, index=index)
    if value.dtype != x.dtype:
        value = value.to(x.dtype)
    if batched[1]:
        rank = x.array[index].ndim  # align one sample's value behind the rows: [n, b] -> [n, 1, b]
        sizes = value.shape[1:]
        while len(sizes) > rank - 1 and sizes[0] == 1:
            sizes = sizes[1:]
        value = value.reshape(n, *(1,) * (rank - 1 - len(sizes)), *sizes)
    return _put(x, value, index=index)


def _with_rows(index: tuple[Any, ...], picks: Rows, n: int) -> tuple[Any, ...]:
    """Return one sample's index as the batch's: with tensors of each sample's own as x[arange(n), i]."""
    if not picks:
        return slice(None), *index
    depth = max(pick.ndim for pick in picks) - 1
    arrays = iter([p.array.reshape(n, *(1,) * (depth + 1 - p.ndim), *p.shape[1:]) for p in picks])
    parts = [next(arrays) if part is HOLE else part for part in index]
    return np.arange(n).reshape(n, *(1,) * depth), *parts


def _put_alone(x: Any, value: Any, *picks: Any, index: Any) -> Any:
    own = iter(picks)
    indexing.setitem(x.clone(), tuple([next(own) if part is HOLE else part for part in index]), value)


_put_rows.__name__, _put_rows.alone = "setitem", _put_alone  # type: ignore[attr-defined]
RULES[_put_rows] = _rule


def assigned(x: Any, index: Any, value: Any) -> Any:
    """Return a per-sample tensor with `x[index] = value`; x or a part of the index or the value is per-sample."""
    if isinstance(value, (list, np.ndarray, np.generic)):
        value = wrap(np.asarray(value))
    elif value.__class__ not in (bool, int, float) and not isinstance(value, Tensor):
        raise TypeError(f"setitem: expected a Tensor, an array or a number, got {type(value).__name__}")
    parts = list(index) if isinstance(index, tuple) else [index]
    own = [part for part in parts if part.__class__ is SampleTensor]
    if len(parts) == 1 and own and own[0].dtype.kind == "b":
        return _masked(x, own[0], value)
    raw = tuple(HOLE if part.__class__ is SampleTensor else indexing.raw_index(part) for part in parts)
    if not _is_simple(raw, own):
        raise PerSampleError("setitem: this index is not offered inside a per-sample program; use where() or scatter()")
    return apply(_put_rows, (x, value, *own), {"index": raw})


def _is_simple(index: tuple[Any, ...], own: list[Any]) -> bool:
    """Return whether the dimensions of an assigned region are in the same order for one sample and for the batch."""
    places = [k for k, part in enumerate(index) if part is HOLE or isinstance(part, np.ndarray)]
    if not own:
        return not places or places[-1] - places[0] == len(places) - 1
    if len(own) < len(places) or any(part.dtype.kind not in "iu" for part in own):
        return False
    vectors = any(part.ndim for part in own)
    return not vectors or (places[0] == 0 and places[-1] == len(places) - 1)


def _masked(x: Any, mask: Any, value: Any) -> Any:
    """Return x with a value at the places where one sample's mask is true."""
    number = value.__class__ in (bool, int, float)
    if not number and math.prod(value.shape) != 1:
        raise PerSampleError("setitem: a mask of each sample's own takes one number; use where() for more")
    while mask.ndim < x.ndim:
        mask = mask.unsqueeze(-1)
    if not number:
        value = value.reshape(()).to(x.dtype)
    else:
        value = wrap(np.asarray(value, x.dtype))
    return elementwise.where(mask, value, x)
