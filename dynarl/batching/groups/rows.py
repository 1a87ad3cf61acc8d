"""Moving rows between groups: operations on the tape whose rows are never repeated, so gradients need no sums."""

from __future__ import annotations

from typing import Any

from dynarl.autograd import Tensor, primitive, xp
from dynarl.autograd.grad_mode import mode
from dynarl.autograd.gradients import IndexedGradient
from dynarl.autograd.graph import Node
from dynarl.autograd.tape import call

__all__ = ["joined", "take_rows", "taken"]


@primitive(linear=True)
def take_rows(x: Any, *, rows: Any) -> Any:
    """Return x[rows], rows being distinct."""
    shape = x.shape
    return _rows(x, rows), (lambda g: _put(g, rows, shape),)


def taken(x: Any, rows: Any) -> Any:
    """Return the Tensor x[rows], rows being distinct: `take_rows` where it is not to be checked."""
    tensor = _new(Tensor)
    array = x.array
    tensor.array, tensor._leaf, tensor._node = array.take(rows, axis=0), None, None
    edge = x._node
    if edge is not None and mode.recording:
        shape = array.shape
        tensor._node = Node(take_rows, (x,), {"rows": rows}, [edge], (lambda g: _put(g, rows, shape),))
    return tensor


_new: Any = object.__new__


@primitive(linear=True)
def _put_rows(x: Any, *, rows: Any, shape: tuple[int, ...]) -> Any:
    if hasattr(x, "_node"):
        return x, (lambda g: take_rows(g, rows=rows),)
    return IndexedGradient(x, rows, shape).dense(), (lambda g: call(take_rows, g, rows=rows),)


def joined(parts: tuple[Any, ...], sources: tuple[Any, ...], places: tuple[Any, ...], count: int) -> Any:
    """Return [count, ...] whose rows `places[i]` are the rows `sources[i]` of the Tensor parts[i] (None: all of them).

    Neither repeats a row, and together the places cover every row once: `join_rows` where it is not to be checked.
    """
    tensor = _new(Tensor)
    arrays = [part.array for part in parts]
    tensor.array, tensor._leaf, tensor._node = _joined(arrays, sources, places, count), None, None
    if mode.recording:
        edges = [part._node for part in parts]
        if edges.count(None) < len(edges):
            static = {"sources": sources, "places": places, "count": count}
            tensor._node = Node(join_rows, parts, static, edges, _vjps(arrays, edges, sources, places))
    return tensor


def _joined(arrays: Any, sources: tuple[Any, ...], places: tuple[Any, ...], count: int) -> Any:
    first = arrays[0]
    out = xp(first).empty((count, *first.shape[1:]), dtype=first.dtype)
    for array, rows, to in zip(arrays, sources, places):
        out[to] = array if rows is None else array.take(rows, axis=0)
    return out


def _vjps(parts: Any, edges: Any, sources: tuple[Any, ...], places: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([
        None if edge is None else lambda g, to=to, rows=rows, shape=part.shape: _back(g, to, rows, shape)
        for part, edge, rows, to in zip(parts, edges, sources, places)
    ])  # fmt: skip


@primitive(linear=True)
def join_rows(*parts: Any, sources: tuple[Any, ...], places: tuple[Any, ...], count: int) -> Any:
    """Do on raw arrays what `joined` does on Tensors; run again on Tensors, its gradient is on the tape."""
    vjps = _vjps(parts, parts, sources, places)
    if any(hasattr(part, "_node") for part in parts):
        return parts[0], vjps
    return _joined(parts, sources, places, count), vjps


def _back(g: Any, places: Any, rows: Any, shape: tuple[int, ...]) -> Any:
    taken = call(take_rows, g, rows=places)
    return taken if rows is None else _put(taken, rows, shape)


def _rows(x: Any, rows: Any) -> Any:
    return x[rows] if hasattr(x, "_node") else x.take(rows, axis=0)


def _put(g: Any, rows: Any, shape: tuple[int, ...]) -> Any:
    return call(_put_rows, g, rows=rows, shape=shape) if hasattr(g, "_node") else IndexedGradient(g, rows, shape)
