"""One batched run: its limits, statistics, random streams and decisions, and the batches that were passed to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dynarl.autograd import Tensor
from dynarl.autograd.call_site import Line, line_of, user_line
from dynarl.autograd.versions import owner_of
from dynarl.batching.decisions import DecisionRecorder, DecisionReplay
from dynarl.batching.draws import Draws
from dynarl.batching.groups.group import PerSampleError, Rows, SampleGroup

__all__ = ["BatchedRun", "Change", "Marks", "name_of", "some_samples"]

Marks = tuple[Any, Any, Any]
"""States of the random streams, the recorder and the replay."""
Change = tuple[Any, Any, SampleGroup]
"""(x, tensor, group): what a per-sample tensor held before it was changed in place; see values/changes.py."""

_OTHER_PATH = (
    "paths were recorded; per-sample programs must depend on their arguments and parameters alone, not on "
    "training mode, schedules or other state"
)


class BatchedRun:
    """The state of one call of a batched program, shared by all executions of the program that it needs."""

    def __init__(self, size: int, max_groups: int, max_steps: int, arguments: Sequence[Tensor]) -> None:
        self.root = SampleGroup(None, None, size)
        self.max_groups, self.max_steps = max_groups, max_steps
        self.max_paths: int | None = None  # more raise TooManyPaths: mode "auto" then switches to lock-step
        self.too_many = False
        self.lockstep = self.plain = False
        self.arguments = arguments
        self._argument_ids = {id(y) for x in arguments for y in (x, x.array)}
        self.draws: Draws | None = None
        self.recorder: DecisionRecorder | None = None
        self.replay: DecisionReplay | None = None
        self.error: PerSampleError | None = None
        self.must_track_views = False
        # A program that changes tensors in place runs again with this: see values/shared_memory.py.
        self.tracks_views = False
        self.undo: list[Change] = []
        self.unscoped: dict[object, str] = {}  # statements and functions that cannot be scopes, and why
        self.outer_cells: frozenset[int] = frozenset()  # ids of the objects and variables that the guard watches
        self.guard: Any = None  # knows what existed before the call
        self.path_operations: NDArray[np.int64] | None = None  # [N], operations of each sample's path, if watched
        self._clear_statistics()

    # -- statistics and limits --------------------------------------------------------------------------------------

    def _clear_statistics(self) -> None:
        self.groups = 0  # in addition to the first
        self.operations = self.row_operations = 0
        self.replayed = self.reads = self.drawn = 0
        self.calls = self.kernels = 0  # lock-step: calls of all paths, and the operations they were run as
        self.splits: dict[Line, list[tuple[int, ...]]] = {}
        self.first_splits: dict[Line, Sequence[SampleGroup]] = {}  # for the self-check

    @property
    def cohorts(self) -> int:
        """Raise AttributeError: the name that `groups` had in earlier versions."""
        raise AttributeError("cohorts is now called groups")

    def count(self, operations: int, rows: int) -> None:
        """Count operations on `rows` rows each."""
        self.operations += operations
        self.row_operations += operations * rows

    def count_path(self, operations: int, group: SampleGroup) -> None:
        """Count operations on the rows of a group, also as part of its samples' paths."""
        self.count(operations, group.size)
        if self.path_operations is not None and group.root is self.root:
            self.path_operations[group.samples()] += operations

    def count_group(self) -> None:
        """Count a new group; fail if the program splits without end."""
        self.groups += 1
        if self.groups > self.max_groups:
            worst = max(self.splits, key=lambda line: len(self.splits[line]), default=None)
            raise self.fail(
                f"the program split into more than max_groups={self.max_groups} groups, most often at "
                f"{line_of(worst)}; put the branch into a function decorated with @dynarl.per_sample, use where(), "
                "or raise max_groups"
            )

    def count_split(self, line: Line, parts: Sequence[SampleGroup]) -> None:
        """Count a split of a group at a line of the program into parts."""
        found = self.splits.get(line)
        if found is None:
            found = self.splits[line] = []
            self.first_splits[line] = parts
        found.append(tuple([part.size for part in parts]))

    def fail(self, text: str) -> PerSampleError:
        """Return the error that ends this run. The run fails with it even if the program catches it."""
        self.error = PerSampleError(text)
        return self.error

    # -- random numbers and decisions -------------------------------------------------------------------------------

    def streams(self) -> Draws:
        """Return the random streams, for one draw."""
        if self.draws is None:
            self.draws = Draws.from_default_generator(self.root.size)
        self.drawn += 1
        return self.draws

    def repeat_decisions(self, samples: Rows, dtype: DTypeLike, size: int = 1) -> NDArray[Any]:
        """Return the next recorded decisions of samples, [n * size]; fail if there are no more."""
        assert self.replay is not None
        found = self.replay.next(samples, dtype, size)
        if found is None:
            raise self.fail(f"the program decides more at {line_of(user_line())} than it did when its {_OTHER_PATH}")
        return found

    def record_read(self, group: SampleGroup, values: NDArray[Any]) -> None:
        """Record concrete values [n] that a group read.

        The read counts as a draw: lock-step must not move calls with recorded reads out of the program's order.
        """
        self.drawn += 1
        if self.recorder is not None:
            self.recorder.read(group.samples(), values)

    def decides(self) -> bool:
        """Return whether reads are recorded or counted by a recorder, or repeated."""
        return self.recorder is not None or self.replay is not None

    def keeps_paths(self) -> bool:
        """Return whether decisions are recorded or repeated."""
        return self.replay is not None or (self.recorder is not None and self.recorder.keep)

    def check_finished(self) -> None:
        """Fail if the program made fewer decisions than were recorded."""
        left = np.zeros(0, np.int64) if self.replay is None else self.replay.unfinished()
        if len(left):
            raise self.fail(
                f"the program decides less for samples {some_samples(left)} than it did when its {_OTHER_PATH}"
            )

    # -- returning to an earlier state ------------------------------------------------------------------------------

    def mark(self) -> Marks:
        """Return the states of random streams and decisions, for `rewind`."""
        draws, recorder, replay = self.draws, self.recorder, self.replay
        return (
            None if draws is None else draws.mark(),
            None if recorder is None else recorder.mark(),
            None if replay is None else replay.mark(),
        )

    def rewind(self, marks: Marks) -> None:
        """Return to `marks`: what was computed since then will be computed again."""
        draws, recorder, replay = marks
        if self.draws is not None:
            if draws is None:  # the streams were created since: the same ones begin again
                self.draws.reset()
            else:
                self.draws.rewind(draws)
        if self.recorder is not None and recorder is not None:
            self.recorder.rewind(recorder)
        if self.replay is not None and replay is not None:
            self.replay.rewind(replay)

    def restart(self, marks: Marks) -> None:
        """Clear everything that happened since the beginning, so that the program can run again."""
        self._clear_statistics()
        if self.path_operations is not None:
            self.path_operations[...] = 0
        self.undo.clear()
        self.error = None
        self.rewind(marks)

    # -- the batches that were passed in ----------------------------------------------------------------------------

    def is_argument(self, x: Any) -> bool:
        """Return whether a shared operand is an argument's whole batch, or a view of all its samples in order.

        Broadcasting such a batch against one sample's tensor would silently mix samples.
        """
        if id(x) in self._argument_ids:
            return True
        array = getattr(x, "array", x)
        if getattr(array, "base", None) is None or not array.ndim or len(array) != self.root.size:
            return False
        owner = owner_of(array)
        for argument in self.arguments:
            batch = argument.array
            # Same memory, same distance between samples, and a start within the first sample.
            if owner_of(batch) is owner and batch.strides[0] == array.strides[0]:
                offset = _address(array) - _address(batch)
                if 0 <= offset < max(1, batch.strides[0]):
                    return True
        return False

    def fail_whole_batch(self, op: object) -> PerSampleError:
        """Return the error of an operation that got a whole batch where one sample's tensor is meant."""
        return self.fail(
            f"{name_of(op)}: the whole batch is used with one sample's tensor at {line_of(user_line())}; inside "
            "a per-sample program use the argument, not the batch that was passed for it"
        )


def _address(array: Any) -> int:
    return int(array.ctypes.data if array.__class__ is np.ndarray else array.data.ptr)


def name_of(key: object) -> str:
    """Return the name of an operation, Module or other key of a log, for messages."""
    return str(getattr(key, "__name__", key))


def some_samples(samples: Rows) -> str:
    """Return the first samples, for messages."""
    shown = ", ".join(map(str, samples[:8].tolist()))
    return f"{shown}, ..." if len(samples) > 8 else shown
