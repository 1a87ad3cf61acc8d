"""Reductions over segments: rows [total, ...] that belong, in order, to N samples of different lengths.

`lengths` [N] are the numbers of rows of the samples (0 is allowed); their sum is `total`. There is no padding.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from dynarl.autograd.device import to_host, xp
from dynarl.autograd.tape import call, primitive
from dynarl.autograd.tensor import wrap

__all__ = [
    "Places",
    "Segments",
    "gather_rows",
    "segment_expand",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "sum_rows",
]


# ufunc.reduceat handles one row at a time. If there are at least this many numbers per row of the longest segment, one
# vectorised pass over all segments for each row position is faster (5 times for 256 segments of up to 9 rows of 64).
_PASS = 1024


class Segments:
    """The positions of segments, computed once for all operations on them."""

    def __init__(self, lengths: Any) -> None:
        lengths = to_host(getattr(lengths, "array", lengths))
        self.lengths = np.asarray(lengths)
        if self.lengths.ndim != 1 or (self.lengths.size and self.lengths.dtype.kind not in "iu"):
            raise ValueError(
                f"segments: lengths must be integers [N], got {self.lengths.dtype} of shape {self.lengths.shape}"
            )
        if (self.lengths < 0).any():
            raise ValueError(f"segments: lengths must not be negative, got {self.lengths.min()}")
        self.lengths = self.lengths.astype(np.int64, copy=False)
        self.total = int(self.lengths.sum())

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> Any:
        """The first row of each segment, [N]."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def filled(self) -> Any:
        """The indices of segments that have rows, None if all have."""
        return None if self.lengths.all() else np.flatnonzero(self.lengths)

    @cached_property
    def ids(self) -> Any:
        """The segment of each row, [total]."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @cached_property
    def passes(self) -> tuple[list[Any], Any]:
        """For k = 0, 1, ...: the row numbers of element k of all segments that have one, in order of decreasing length.

        The second value is the position of each segment in that order.
        """
        order = np.argsort(-self.lengths, kind="stable")
        lengths, starts = self.lengths[order], self.starts[order]
        counts = [int(np.count_nonzero(lengths > k)) for k in range(int(lengths[0]))]
        return [starts[:count] + k for k, count in enumerate(counts)], np.argsort(order)

    @cached_property
    def shares(self) -> Any:
        """The weight of a row in the mean of its segment, 1 / length, [N]."""
        return 1.0 / np.maximum(self.lengths, 1)

    @cached_property
    def padded(self) -> Any:
        """Row numbers [N, longest] and a mask of the valid ones, for devices without reduceat."""
        places = np.arange(max(1, int(self.lengths.max(initial=0))))
        inside = places < self.lengths[:, None]
        rows = np.where(inside, self.starts[:, None] + places, self.starts[:, None])
        return np.minimum(rows, self.total - 1), inside


def segment_sum(input: Any, lengths: Any) -> Any:
    """Return the sums [N, ...] of rows [total, ...] that belong, in order, to N segments of `lengths` [N].

    A segment without rows has sum 0. `lengths` are integers, or a `Segments` object that several calls share.
    Raises ValueError unless the lengths sum to the number of rows.
    """
    return _sum(input, segments=_segments(lengths, input, "segment_sum"))


def segment_mean(input: Any, lengths: Any) -> Any:
    """Return the means [N, ...] of the rows of each segment, 0 for one without rows; see `segment_sum`."""
    return _mean(input, segments=_segments(lengths, input, "segment_mean"))


def segment_max(input: Any, lengths: Any, *, empty: float = 0.0) -> Any:
    """Return the maxima [N, ...] of the rows of each segment, `empty` for one without rows; see `segment_sum`.

    Rows that tie for a maximum share its gradient evenly.
    """
    return _max(input, segments=_segments(lengths, input, "segment_max"), empty=empty)


def segment_softmax(input: Any, lengths: Any) -> Any:
    """Return exp(x) / sum exp(x) [total, ...], with the sum over the rows of the same segment; see `segment_sum`."""
    return _softmax(input, segments=_segments(lengths, input, "segment_softmax"))


def segment_expand(input: Any, lengths: Any) -> Any:
    """Return rows [total, ...]: row i of input [N, ...] is repeated lengths[i] times."""
    segments = lengths if isinstance(lengths, Segments) else Segments(lengths)
    if input.ndim == 0 or input.shape[0] != len(segments):
        raise ValueError(f"segment_expand: there are {len(segments)} lengths, got input {tuple(input.shape)}")
    return _expand(input, segments=segments)


def _segments(lengths: Any, input: Any, name: str) -> Segments:
    segments = lengths if isinstance(lengths, Segments) else Segments(lengths)
    if input.ndim == 0 or input.shape[0] != segments.total:
        raise ValueError(f"{name}: lengths add up to {segments.total} rows, got input {tuple(input.shape)}")
    return segments


def _reduced(x: Any, segments: Segments, ufunc: str) -> Any:
    """Reduce raw rows [total, ...] to [N, ...], with 0 where there are none."""
    np_ = xp(x)
    if segments.total == 0:
        return np_.zeros((len(segments), *x.shape[1:]), dtype=x.dtype)
    if np_ is not np:
        rows, inside = (np_.asarray(part) for part in segments.padded)
        filled = inside.reshape(*inside.shape, *[1] * (x.ndim - 1))
        reduced = x[rows].max(axis=1) if ufunc == "max" else (x[rows] * filled).sum(axis=1)
        return np_.where(filled[:, 0], reduced, 0).astype(x.dtype)
    reduce = {"sum": np.add, "max": np.maximum}[ufunc]
    out = np.zeros((len(segments), *x.shape[1:]), dtype=x.dtype)
    if x.size < _PASS * int(segments.lengths.max()):
        filled = slice(None) if segments.filled is None else segments.filled
        out[filled] = reduce.reduceat(x, segments.starts[filled], axis=0)
        return out
    passes, places = segments.passes
    out[: len(passes[0])] = x.take(passes[0], axis=0)
    for rows in passes[1:]:
        held = out[: len(rows)]
        reduce(held, x.take(rows, axis=0), out=held)
    return out.take(places, axis=0)


def _repeated(x: Any, segments: Segments) -> Any:
    return x.take(xp(x).asarray(segments.ids), axis=0)


@primitive(linear=True)
def _sum(x: Any, *, segments: Segments) -> Any:
    vjps = (lambda g: call(_expand, g, segments=segments),)
    return (x if hasattr(x, "_node") else _reduced(x, segments, "sum")), vjps


@primitive(linear=True, floats=True)
def _mean(x: Any, *, segments: Segments) -> Any:
    raw = getattr(x, "array", x)
    share = xp(raw).asarray(segments.shares.astype(raw.dtype)).reshape(-1, *[1] * (raw.ndim - 1))
    vjps = (lambda g: call(_expand, g * (wrap(share) if hasattr(g, "_node") else share), segments=segments),)
    return (x if hasattr(x, "_node") else _reduced(x, segments, "sum") * share), vjps


@primitive(linear=True)
def _expand(x: Any, *, segments: Segments) -> Any:
    vjps = (lambda g: call(_sum, g, segments=segments),)
    return (x if hasattr(x, "_node") else _repeated(x, segments)), vjps


@primitive
def _max(x: Any, *, segments: Segments, empty: float) -> Any:
    raw = getattr(x, "array", x)
    best = _reduced(raw, segments, "max")

    def vjp(g: Any) -> Any:
        ties = (raw == _repeated(best, segments)).astype(raw.dtype)
        share = ties / _repeated(_reduced(ties, segments, "sum"), segments)
        return call(_expand, g, segments=segments) * (wrap(share) if hasattr(g, "_node") else share)

    if segments.filled is None or empty == 0:
        return best, (vjp,)
    rows = xp(raw).asarray((segments.lengths > 0).reshape(-1, *[1] * (raw.ndim - 1)))
    return xp(raw).where(rows, best, empty).astype(raw.dtype), (vjp,)


@primitive(floats=True)
def _softmax(x: Any, *, segments: Segments) -> Any:
    if hasattr(x, "_node"):
        y = _softmax(x, segments=segments)
    else:
        y = xp(x).exp(x - _repeated(_reduced(x, segments, "max"), segments))
        y = y / _repeated(_reduced(y, segments, "sum"), segments)
    return y, (lambda g: y * (g - _within(g * y, segments)),)


def _within(x: Any, segments: Segments) -> Any:
    """Return the sum of its segment for every row."""
    return call(_expand, call(_sum, x, segments=segments), segments=segments)


class Places:
    """The row, out of `size`, that each link belongs to: `index` [links] on the host, in any order."""

    def __init__(self, index: Any, size: int) -> None:
        self.index, self.size = np.asarray(index), size

    @cached_property
    def order(self) -> Any:
        """The links sorted by the row they belong to."""
        return np.argsort(self.index, kind="stable")

    @cached_property
    def segments(self) -> Segments:
        """The number of links of each row, as segments of the sorted links."""
        return Segments(np.bincount(self.index, minlength=self.size))


@primitive(linear=True)
def gather_rows(x: Any, *, places: Places) -> Any:
    """Return the rows [links, ...] of x [size, ...] that `places` name."""
    vjps = (lambda g: call(sum_rows, g, places=places),)
    return (x if hasattr(x, "_node") else x.take(xp(x).asarray(places.index), axis=0)), vjps


@primitive(linear=True)
def sum_rows(x: Any, *, places: Places) -> Any:
    """Return the sums [size, ...] of those rows of x [links, ...] that `places` give to each."""
    vjps = (lambda g: call(gather_rows, g, places=places),)
    if hasattr(x, "_node"):
        return x, vjps
    return _reduced(x.take(xp(x).asarray(places.order), axis=0), places.segments, "sum"), vjps


for _op in (_sum, _mean, _max, _softmax, _expand):
    _op.__name__ = "segment" + _op.__name__
