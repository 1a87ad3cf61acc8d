"""Rows moving between groups: operations whose rows never repeat, so that their gradients need no sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dynarl.autograd import Tensor, primitive, xp
from dynarl.autograd.gradients import IndexedGradient
from dynarl.autograd.graph import Node
from dynarl.autograd.tape import call
from dynarl.batching.groups.group import Rows

__all__ = ["join_rows", "join_unchecked", "take_rows", "take_unchecked"]

Array = Any
"""A NumPy or CuPy array, or a Tensor where backward runs on Tensors (second-order gradients)."""
_new: Callable[[type[Tensor]], Tensor] = object.__new__


@primitive(linear=True)
def take_rows(x: Array, *, rows: Rows) -> Array:
    """Return x[rows]; `rows` must be distinct."""
    shape = x.shape
    return _rows(x, rows), (lambda g: _put(g, rows, shape),)


def take_unchecked(x: Tensor, rows: Rows) -> Tensor:
    """Return x[rows] as `take_rows` does, without the checks of a primitive: this runs for every tensor at a split.

    It is recorded also under no_grad: for the program, which does not see rows, a tensor keeps its history.
    """
    tensor = _new(Tensor)
    array = x.array
    tensor.array, tensor._leaf, tensor._node = array.take(rows, axis=0), None, None
    edge = x._node
    if edge is not None:
        shape = array.shape
        tensor._node = Node(take_rows, (x,), {"rows": rows}, [edge], (lambda g: _put(g, rows, shape),))
    return tensor


@primitive(linear=True)
def _put_rows(x: Array, *, rows: Rows, shape: tuple[int, ...]) -> Array:
    if hasattr(x, "_node"):
        return x, (lambda g: take_rows(g, rows=rows),)
    return IndexedGradient(x, rows, shape).dense(), (lambda g: call(take_rows, g, rows=rows),)


def join_unchecked(
    parts: Sequence[Tensor], sources: tuple[Rows | None, ...], places: tuple[Rows, ...], count: int
) -> Tensor:
    """Return a Tensor [count, ...] whose rows `places[i]` are the rows `sources[i]` of parts[i] (None: all of them).

    Neither repeats a row, and the places together cover every row once. `join_rows` without the checks of a primitive.
    Recorded also under no_grad: what was computed under no_grad has no history, and what passed through keeps its own.
    """
    tensor = _new(Tensor)
    arrays = [part.array for part in parts]
    tensor.array, tensor._leaf, tensor._node = _joined(arrays, sources, places, count), None, None
    edges = [part._node for part in parts]
    if edges.count(None) < len(edges):
        static = {"sources": sources, "places": places, "count": count}
        tensor._node = Node(join_rows, tuple(parts), static, edges, _vjps(arrays, edges, sources, places))
    return tensor


def _joined(arrays: Sequence[Array], sources: tuple[Rows | None, ...], places: tuple[Rows, ...], count: int) -> Array:
    first = arrays[0]
    out = xp(first).empty((count, *first.shape[1:]), dtype=first.dtype)
    for array, rows, to in zip(arrays, sources, places):
        out[to] = array if rows is None else array.take(rows, axis=0)
    return out


def _vjps(
    parts: Sequence[Array], edges: Sequence[object], sources: tuple[Rows | None, ...], places: tuple[Rows, ...]
) -> tuple[Callable[[Array], Array] | None, ...]:
    return tuple([
        None if edge is None else lambda g, to=to, rows=rows, shape=part.shape: _back(g, to, rows, shape)
        for part, edge, rows, to in zip(parts, edges, sources, places)
    ])  # fmt: skip


@primitive(linear=True)
def join_rows(
    *parts: Array, sources: tuple[Rows | None, ...], places: tuple[Rows, ...], count: int
) -> tuple[Array, tuple[Callable[[Array], Array] | None, ...]]:
    """Join rows as `join_unchecked` does, on raw arrays; on Tensors its gradient is on the tape."""
    vjps = _vjps(parts, parts, sources, places)
    if any(hasattr(part, "_node") for part in parts):
        return parts[0], vjps
    return _joined(parts, sources, places, count), vjps


def _back(g: Array, places: Rows, rows: Rows | None, shape: tuple[int, ...]) -> Array:
    taken = call(take_rows, g, rows=places)
    return taken if rows is None else _put(taken, rows, shape)


def _rows(x: Array, rows: Rows) -> Array:
    return x[rows] if hasattr(x, "_node") else x.take(rows, axis=0)


def _put(g: Array, rows: Rows, shape: tuple[int, ...]) -> Array:
    return call(_put_rows, g, rows=rows, shape=shape) if hasattr(g, "_node") else IndexedGradient(g, rows, shape)
