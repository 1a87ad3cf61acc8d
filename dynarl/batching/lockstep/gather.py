"""Rows of several tensors as one: an operation on the tape that may take a row from anywhere, and more than once."""

from __future__ import annotations

from typing import Any

from dynarl.autograd import primitive, xp
from dynarl.autograd.gradients import IndexedGradient
from dynarl.autograd.ops.indexing import _getitem, _spread
from dynarl.autograd.tape import call

__all__ = ["gather_rows"]


@primitive(linear=True)
def gather_rows(*sources: Any, plan: tuple[tuple[Any, Any, bool], ...], count: int) -> Any:
    """Return [count, ...] whose rows `places` are rows `rows` of a source, for (places, rows, distinct) of each.

    Together the places cover every row once; `distinct` says that a source's rows are named once each.
    """
    shapes = [source.shape for source in sources]

    def vjp(g: Any, needs: Any) -> list[Any]:
        found: list[Any] = []
        lifted = hasattr(g, "_node")
        for (places, rows, distinct), shape, need in zip(plan, shapes, needs):
            if need is False:
                found.append(None)
            elif lifted:
                part = g if len(plan) == 1 else call(_getitem, g, index=places)
                found.append(call(_spread, part, index=rows, shape=shape))
            else:
                part = g if len(plan) == 1 else g[places] if places.__class__ is slice else g.take(places, axis=0)
                found.append(IndexedGradient(part, rows, shape) if distinct else _summed(part, rows, shape))
        return found

    if any(hasattr(source, "_node") for source in sources):
        return sources[0], vjp
    first = sources[0]
    if len(sources) == 1:
        rows = plan[0][1]
        return first[rows] if rows.__class__ is slice else first.take(rows, axis=0), vjp
    out = xp(first).empty((count, *first.shape[1:]), dtype=first.dtype)
    for source, (places, rows, _) in zip(sources, plan):
        out[places] = source[rows] if rows.__class__ is slice else source.take(rows, axis=0)
    return out, vjp


def _summed(g: Any, rows: Any, shape: tuple[int, ...]) -> IndexedGradient:
    """Return the gradient of rows that were taken more than once: the sums over each one's uses."""
    np_ = xp(g)
    order = np_.argsort(rows, kind="stable")
    ordered = rows[order]
    first = np_.flatnonzero(np_.concatenate([np_.ones(1, bool), ordered[1:] != ordered[:-1]]))
    return IndexedGradient(np_.add.reduceat(g.take(order, axis=0), first, axis=0), ordered[first], shape)
