"""Measures of the computation of per-sample policies, for the metrics of an agent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.batching.groups.run import BatchedRun

__all__ = ["ComputeMeter"]


class ComputeMeter:
    """Sums measures of the batched calls of acting and learning; `metrics` returns the means since its last call.

    ``batching/path_lengths``: the number of decisions of each acted row (``path_length``: their mean);
    ``batching/operations_per_row``: the operations that computed an acted row;
    ``batching/PHASE_kernels_per_row`` and ``PHASE_cohorts``: the batched operations per row of a
    call, and the sample groups per call; PHASE is acting or learning.
    """

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._lengths: list[NDArray[np.int64]] = []

    def add(self, phase: str, run: BatchedRun, steps: NDArray[np.int64] | None = None) -> None:
        """Count a call, and the path lengths [N] of its rows."""
        counted = (1, run.root.size, run.groups + 1, run.operations, run.row_operations)
        self._sums[phase] = self._sums.get(phase, np.zeros(5)) + counted
        if steps is not None:
            self._lengths.append(steps)

    def metrics(self) -> dict[str, Any]:
        """Return the means, and reset the counts."""
        found: dict[str, Any] = {}
        for phase, (calls, rows, groups, operations, row_operations) in self._sums.items():
            found[f"batching/{phase}_cohorts"] = groups / calls
            found[f"batching/{phase}_kernels_per_row"] = operations / rows
            if phase == "acting":
                found["batching/operations_per_row"] = row_operations / rows
        if self._lengths:
            lengths = np.concatenate(self._lengths)
            found["batching/path_lengths"], found["batching/path_length"] = lengths, lengths.mean()
        self._sums, self._lengths = {}, []
        return found
