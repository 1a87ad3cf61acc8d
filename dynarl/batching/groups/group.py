"""Groups: samples that took the same path through a program so far."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PerSampleError", "SampleGroup"]


class PerSampleError(RuntimeError):
    """A per-sample program did what batching cannot follow; the message names the line and the way out."""


class SampleGroup:
    """A set of samples: the rows `selection` of its parent group (the root holds all samples of a call)."""

    __slots__ = ("_rows", "parent", "root", "selection", "size")

    def __init__(self, parent: SampleGroup | None, selection: NDArray[np.int64] | None, size: int) -> None:
        self.parent, self.selection, self.size = parent, selection, size
        self.root: SampleGroup = self if parent is None else parent.root
        self._rows: dict[SampleGroup, NDArray[np.int64]] = {}

    def rows_in(self, ancestor: SampleGroup) -> NDArray[np.int64]:
        """Return where this group's samples stand in an ancestor's numbering."""
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

    def samples(self) -> NDArray[np.int64]:
        """Return the indices of this group's samples in the batch."""
        return np.arange(self.size) if self.parent is None else self.rows_in(self.root)

    def within(self, other: SampleGroup) -> bool:
        """Tell whether this group is the other or was split off from it."""
        group: SampleGroup | None = self
        while group is not None:
            if group is other:
                return True
            group = group.parent
        return False

    def part(self, selection: NDArray[Any]) -> SampleGroup:
        """Return the sub-group of the given rows."""
        return SampleGroup(self, selection, len(selection))


def split(values: NDArray[Any]) -> list[tuple[Any, NDArray[np.int64]]] | None:
    """Return (value, rows) for each distinct value, the largest group first; None if all are equal."""
    if values.dtype == np.bool_:
        count = int(np.count_nonzero(values))
        if count in (0, len(values)):
            return None
        (yes,), (no,) = values.nonzero(), (~values).nonzero()
        groups: list[tuple[Any, NDArray[np.int64]]] = [(True, yes), (False, no)]
        return groups if 2 * count >= len(values) else groups[::-1]
    if np.count_nonzero(values == values[0]) == len(values):
        return None
    order = values.argsort(kind="stable")
    ordered = values[order]
    (cuts,) = (ordered[1:] != ordered[:-1]).nonzero()
    starts = [0, *(cuts + 1).tolist()]
    if ordered[-1] != ordered[-1]:  # NaN is last, and one value
        starts = [k for k in starts if k == 0 or ordered[k] == ordered[k] or ordered[k - 1] == ordered[k - 1]]
        if len(starts) == 1:
            return None
    groups = [(ordered[k].item(), order[k:end]) for k, end in zip(starts, [*starts[1:], len(values)])]
    groups.sort(key=lambda group: -len(group[1]))
    return groups
