"""One batched call: its limits, its statistics, its random streams and the decisions it records or repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.autograd.call_site import Line, line_of, user_line
from dynarl.batching.decisions import DecisionRecorder, DecisionReplay
from dynarl.batching.groups.group import PerSampleError, SampleGroup

__all__ = ["BatchedRun", "shown"]

_OTHER_PATH = (
    "paths were recorded; per-sample programs must depend on their arguments and parameters alone, not on "
    "training mode, schedules or other state"
)


class BatchedRun:
    """One batched call: its bounds, what happened in it, and what it may not touch."""

    def __init__(self, size: int, max_groups: int, max_steps: int, inputs: set[int]) -> None:
        self.root = SampleGroup(None, None, size)
        self.max_groups, self.max_steps, self.inputs = max_groups, max_steps, inputs
        self.groups = self.operations = self.row_operations = self.replayed = self.reads = 0
        self.kernels = self.calls = self.drawn = 0
        self.splits: dict[Line, list[tuple[int, ...]]] = {}
        self.draws: Any = None
        self.recorder: DecisionRecorder | None = None
        self.replay: DecisionReplay | None = None
        self.error: PerSampleError | None = None
        self.plain: set[Any] = set()
        self.lockstep = False
        self.generators: list[Any] = []
        self.batches: list[Any] = []
        self.calls = 0
        self.max_paths: int | None = None
        self.too_many = False

    def stop(self, text: str) -> PerSampleError:
        """Return the error that ends this call, even if the program should catch it."""
        self.error = PerSampleError(text)
        return self.error

    def decide(self, samples: NDArray[np.int64], dtype: Any, size: int = 1) -> NDArray[Any]:
        """Return the next recorded decisions of samples, [n * size]; the program must make no others."""
        assert self.replay is not None
        found = self.replay.next(samples, dtype, size)
        if found is None:
            raise self.stop(f"the program decides more at {line_of(user_line())} than it did when its {_OTHER_PATH}")
        return found

    def note(self, group: SampleGroup, values: NDArray[Any]) -> None:
        """Write down what samples read; a call in which they do must run in the order of the program."""
        self.drawn += 1
        if self.recorder is not None:
            self.recorder.read(group.samples(), values)

    def keeps_paths(self) -> bool:
        """Tell whether decisions are written down, or are taken as they were."""
        return self.replay is not None or (self.recorder is not None and self.recorder.keep)

    def mark(self) -> list[Any]:
        """Return where random numbers and paths stand, for `rewind`."""
        return [None if part is None else part.mark() for part in (self.draws, self.recorder, self.replay)]

    def rewind(self, marks: list[Any]) -> None:
        """Take back the random numbers and decisions since `mark`: what was computed is computed again."""
        if marks[0] is None:
            self.draws = None if self.draws is None else self.draws.again()
        for part, mark in zip((self.draws, self.recorder, self.replay), marks):
            if mark is not None:
                part.rewind(mark)

    def check_finished(self) -> None:
        """Refuse a program that made fewer decisions than were recorded."""
        left = np.zeros(0) if self.replay is None else self.replay.unfinished()
        if len(left):
            raise self.stop(
                f"the program decides less for samples {shown(np.asarray(left))} than it did when its {_OTHER_PATH}"
            )

    def start_again(self, marks: list[Any]) -> None:
        """Forget what happened, so that the program can run again."""
        self.groups = self.operations = self.row_operations = self.replayed = self.reads = 0
        self.kernels = self.calls = self.drawn = 0
        self.splits, self.error = {}, None
        self.rewind(marks)

    def count(self, operations: int, rows: int) -> None:
        """Count operations on so many rows each."""
        self.operations += operations
        self.row_operations += operations * rows

    def count_group(self) -> None:
        """Count a group, and stop a program that splits without end."""
        self.groups += 1
        if self.groups > self.max_groups:
            worst = max(self.splits, key=lambda line: len(self.splits[line]), default=None)
            raise self.stop(
                f"the program split into more than max_groups={self.max_groups} groups, most often at "
                f"{line_of(worst)}; put the branch into a function decorated with @dynarl.per_sample, use where(), "
                "or raise max_groups"
            )


def shown(samples: NDArray[Any]) -> str:
    shown = ", ".join(map(str, samples[:8].tolist()))
    return f"{shown}, ..." if len(samples) > 8 else shown
