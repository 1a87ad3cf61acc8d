"""Sample groups: the samples that have taken the same path through a program so far."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PerSampleError", "Rows", "SampleGroup", "number_key", "split"]

Rows = NDArray[np.int64]
"""Row numbers."""

Number = bool | int | float


class PerSampleError(RuntimeError):
    """Raised when a per-sample program does what batching cannot follow; the message names the line and the fix."""


class SampleGroup:
    """A set of samples: the rows `selection` of its parent group. The root group has all samples of a batched run."""

    __slots__ = ("_rows", "parent", "root", "selection", "size")

    def __init__(self, parent: SampleGroup | None, selection: Rows | None, size: int) -> None:
        self.parent, self.selection, self.size = parent, selection, size
        self.root: SampleGroup = self if parent is None else parent.root
        self._rows: dict[SampleGroup, Rows] = {}

    def rows_in(self, ancestor: SampleGroup) -> Rows:
        """Return the row numbers of this group's samples in a group that contains it."""
        rows = self._rows.get(ancestor)
        if rows is None:
            parent = self.parent
            if parent is None or self.selection is None:
                raise PerSampleError(
                    "a per-sample tensor was used outside the call or the branch it was computed in; "
                    "return it from the program and pass it in as an argument next time"
                )
            rows = self.selection if parent is ancestor else parent.rows_in(ancestor)[self.selection]
            self._rows[ancestor] = rows
        return rows

    def samples(self) -> Rows:
        """Return the indices of this group's samples in the batch."""
        return np.arange(self.size) if self.parent is None else self.rows_in(self.root)

    def within(self, other: SampleGroup) -> bool:
        """Return whether this group is the other or a part of it."""
        group: SampleGroup | None = self
        while group is not None:
            if group is other:
                return True
            group = group.parent
        return False

    def part(self, selection: Rows) -> SampleGroup:
        """Return the subgroup of the given rows."""
        return SampleGroup(self, selection, len(selection))


def split(values: NDArray[np.generic]) -> list[tuple[Number, Rows]] | None:
    """Return (value, rows) for each distinct value of `values` [n], the largest part first; None if all are equal.

    0.0 and -0.0 are two values, since Python can tell them apart (copysign, atan2, str, division by them in NumPy). NaN
    counts as one value, whatever its bits. The order of the parts depends on the values alone, so that a run can be
    repeated.
    """
    if values.dtype == np.bool_:
        count = int(np.count_nonzero(values))
        if count in (0, len(values)):
            return None
        (yes,), (no,) = values.nonzero(), (values == 0).nonzero()
        groups: list[tuple[Number, Rows]] = [(True, yes), (False, no)]
        return groups if 2 * count >= len(values) else groups[::-1]
    if np.count_nonzero(values == values[0]) == len(values):
        return _by_sign(np.arange(len(values)), values) if values[0] == 0 and values.dtype.kind == "f" else None
    order = values.argsort(kind="stable")
    ordered = values[order]
    (cuts,) = (ordered[1:] != ordered[:-1]).nonzero()
    starts = [0, *(cuts + 1).tolist()]
    if ordered[-1] != ordered[-1]:  # NaN sorts last and differs from itself: keep the first NaN as the only start
        starts = [k for k in starts if k == 0 or ordered[k] == ordered[k] or ordered[k - 1] == ordered[k - 1]]
        if len(starts) == 1:
            return None
    groups = [(ordered[k].item(), order[k:end]) for k, end in zip(starts, [*starts[1:], len(values)])]
    if values.dtype.kind == "f":
        for k, (value, rows) in enumerate(groups):
            if value == 0:
                groups[k : k + 1] = _by_sign(rows, values) or [(value, rows)]
                break
    groups.sort(key=lambda group: -len(group[1]))
    return groups


def _by_sign(rows: Rows, values: NDArray[np.generic]) -> list[tuple[Number, Rows]] | None:
    """Return the parts of rows with 0.0 and with -0.0, the largest first; None if all zeros have the same sign."""
    negative = np.signbit(values[rows])
    count = int(np.count_nonzero(negative))
    if count in (0, len(rows)):
        return None
    groups: list[tuple[Number, Rows]] = [(0.0, rows[~negative]), (-0.0, rows[negative])]
    return groups if 2 * count <= len(rows) else groups[::-1]


def number_key(number: Any) -> Any:
    """Return a key under which numbers are equal only if Python cannot tell them apart: 0.0 is not -0.0, NaN is NaN."""
    if number.__class__ is float and (number == 0.0 or number != number):
        return str(number)
    return number
