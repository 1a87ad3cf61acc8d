"""Sorting and selection by order: argsort, sort, topk, median, unique."""

from __future__ import annotations

from typing import Any, NamedTuple

from dynarl.autograd.device import xp
from dynarl.autograd.dispatch import overridable
from dynarl.autograd.dtypes import int64
from dynarl.autograd.ops.indexing import take_along_dim
from dynarl.autograd.tensor import wrap


class Found(NamedTuple):
    """Values along a dimension and where they were."""

    values: Any
    indices: Any


def values_at(input: Any, indices: Any, dim: int, keepdim: bool) -> Any:
    if input.ndim == 0:
        return input
    values = take_along_dim(input, indices, dim)
    return values if keepdim else values.squeeze(dim)


@overridable
def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """Return the indices that sort along dim; equal elements keep their order."""
    array = input.array
    if not array.ndim:
        return wrap(xp(array).zeros((), dtype=int64))
    if descending:
        if array.dtype.kind == "b":
            array = array.astype("int8")
        np_ = xp(array)
        flipped = np_.flip(np_.argsort(np_.flip(array, dim), axis=dim, kind="stable"), dim)
        return wrap(array.shape[dim] - 1 - flipped)
    return wrap(xp(array).argsort(array, axis=dim, kind="stable"))


def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """Return (values, indices) sorted along dim."""
    indices = argsort(input, dim, descending)
    return Found(values_at(input, indices, dim, True), indices)


def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """Return (values, indices) of the k largest (or smallest) elements along dim, in order."""
    if k > (input.shape[dim] if input.ndim else 1):
        raise RuntimeError(f"topk: k must be at most the size of dim {dim}, got k={k} for shape {tuple(input.shape)}")
    indices = argsort(input, dim, descending=largest).narrow(dim, 0, k)
    return Found(values_at(input, indices, dim, True), indices)


def median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the lower median of all elements, or (values, indices) along dim."""
    if dim is None:
        flat = input.reshape(-1)
        return take_along_dim(flat, argsort(flat).narrow(0, (flat.shape[0] - 1) // 2, 1), 0).squeeze(0)
    indices = argsort(input, dim).narrow(dim, (input.shape[dim] - 1) // 2, 1)
    values = values_at(input, indices, dim, keepdim)
    return Found(values, indices if keepdim else indices.squeeze(dim))


def unique(input: Any, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False) -> Any:
    """Return the sorted distinct elements, with inverse indices and counts on request."""
    found = xp(input.array).unique(input.array, return_inverse=return_inverse, return_counts=return_counts)
    if not isinstance(found, tuple):
        return wrap(found)
    parts = list(found)
    if return_inverse:
        parts[1] = parts[1].reshape(input.shape)
    return tuple(wrap(part) for part in parts)
