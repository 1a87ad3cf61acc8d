"""Moving rows between cohorts: operations on the tape whose rows are never repeated, so gradients need no sums."""

from __future__ import annotations

from typing import Any

from dynarl.autograd import primitive, xp
from dynarl.autograd.backward import Rows
from dynarl.autograd.tape import call

__all__ = ["join_rows", "take_rows"]


@primitive(linear=True)
def take_rows(x: Any, *, rows: Any) -> Any:
    """Return x[rows], rows being distinct."""
    count = x.shape[0]
    if hasattr(x, "_node"):
        return x[rows], (lambda g: call(_put_rows, g, rows=rows, count=count),)
    return x.take(rows, axis=0), lambda g, needs: (Rows(g, rows, count),)


@primitive(linear=True)
def _put_rows(x: Any, *, rows: Any, count: int) -> Any:
    if hasattr(x, "_node"):
        return x, (lambda g: take_rows(g, rows=rows),)
    out = xp(x).zeros((count, *x.shape[1:]), dtype=x.dtype)
    out[rows] = x
    return out, (lambda g: call(take_rows, g, rows=rows),)


@primitive(linear=True)
def join_rows(*parts: Any, places: tuple[Any, ...], count: int) -> Any:
    """Return [count, ...] whose rows `places[i]` are parts[i]; together the places cover every row once."""
    vjps = tuple((lambda g, rows=rows: call(take_rows, g, rows=rows)) for rows in places)
    if any(hasattr(part, "_node") for part in parts):
        return parts[0], vjps
    first = parts[0]
    out = xp(first).empty((count, *first.shape[1:]), dtype=first.dtype)
    for part, rows in zip(parts, places):
        out[rows] = part
    return out, vjps
