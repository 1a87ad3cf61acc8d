"""Lock-step merging: samples on paths of their own run side by side, and what they ask for alike is run as one.

Every path (a cohort, often of one sample) is an execution of the program that notes down what it asks for instead of
computing it. Where a path needs a number, it stops; once all paths have stopped or ended, the calls that were noted
are run: those of one kind, shape and depth together, forward and, as the tape holds the merged ones, backward. A path
that stopped is taken up by running its program again, with what was noted before looked up in its log.

Calls of Modules and `per_sample` functions that take tensors are noted as a whole, and their merged run is a cohort
like any other, which may split inside. What they return must be known before: it is learned from the first call of a
kind. A call that then behaves otherwise (raises, draws, returns another structure) is a mistake that costs time only:
the batched call starts again, and runs calls of that kind where they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dynarl.autograd import no_grad
from dynarl.autograd.device import to_host
from dynarl.autograd.grad_mode import mode
from dynarl.autograd.memory import user_line
from dynarl.autograd.tensor import wrap
from dynarl.batching.cohort import Cohort, split
from dynarl.batching.deferred import Unit, gather, slot_of
from dynarl.batching.gather import gather_rows
from dynarl.batching.lane import Lane
from dynarl.batching.noting import Path, Recorder
from dynarl.batching.operations import draw, record
from dynarl.batching.run import VALUE, Run, _some, state
from dynarl.batching.together import Again, Unwind
from dynarl.batching.trees import flatten, unflatten

__all__ = ["Entry", "run_merged"]

Entry = tuple[Any, Any, Cohort]


def run_merged(
    program: Callable[..., Any], entries: list[Entry], run: Run, units: dict[Any, Unit]
) -> list[tuple[Cohort, Any]]:
    """Run a program for entries (args, kwargs, cohort) in lock-step and return (cohort, result) of each path."""
    while True:
        marks = run.mark()
        try:
            return Merger(run, units).results(program, entries)
        except Again:
            run.start_again(marks)


class Merger(Recorder):
    """The paths of one batched call: who goes on, who waits for a number, and what came out."""

    record, draw = record, draw

    def __init__(self, run: Run, units: dict[Any, Unit]) -> None:
        super().__init__(run, units)
        self.waiting: list[Path] = []

    def results(self, program: Callable[..., Any], entries: list[Entry]) -> list[tuple[Cohort, Any]]:
        """Run the program for every entry (args, kwargs, cohort) and return (cohort, result) of each path."""
        ended: list[tuple[Cohort, Any]] = []
        outer, recording = state.context, mode.recording
        self.queue.extend(Path(self, args, kwargs, cohort, []) for args, kwargs, cohort in entries)
        try:
            while self.queue or self.waiting:
                if not self.queue:
                    self._answer()
                path = self.queue.popleft()
                state.context, path.position, path.unwinding, path.waiting = path, 0, False, None
                mode.recording = recording
                try:
                    result = program(*path.args, **path.kwargs)
                except Unwind:
                    pass
                except Exception as error:
                    if not path.unwinding and self.pending.again is None:
                        if not getattr(error, "__notes__", None):
                            samples = _some(path.cohort.samples())
                            error.add_note(f"in a per-sample program, for samples {samples} of the batch")
                        raise
                if self.pending.again is not None:
                    raise self.pending.again
                if path.unwinding:
                    self.waiting.append(path)
                    continue
                if path.position < len(path.log):
                    path.recall(None)
                ended.append((path.cohort, result))
            self.pending.flush()
        finally:
            state.context, mode.recording = outer, recording
        return self._joined(ended)

    def read(self, path: Path, x: Any) -> Any:
        """Return a number of the program's; where others have still to go, after they have."""
        self.step(path)
        if x.shape != () and x.numel() != 1:
            raise RuntimeError(f"item: expected one number per sample, got shape {x.shape}; use any() or all()")
        slot_of(x)
        cohort = path.cohort
        if x.cohort is not cohort:
            cohort.rows_in(x.cohort)
        path.waiting, path.line = x, user_line() if cohort.size > 1 else None
        if self.run.imposed is not None:
            self._decide(path, self.run.decide(cohort.samples(), x.dtype), True)
            return path.log[path.position - 1][1]
        if self.queue:
            path.unwinding = True
            raise Unwind
        self.waiting.append(path)
        self._answer(path)
        return path.log[path.position - 1][1]

    def _answer(self, going: Path | None = None) -> None:
        """Compute what all waiting paths want to know, and let them go on; `going` is the one that runs."""
        self.pending.flush()
        waiting, self.waiting = self.waiting, []
        kinds: dict[Any, list[Path]] = {}
        for path in waiting:
            if path.waiting is None:  # it waits for rows, not for a number
                self.queue.append(path)
            else:
                kinds.setdefault(path.waiting.tensor.array, []).append(path)
        for paths in kinds.values():
            cohorts = [path.cohort for path in paths]
            with no_grad():
                rows = gather([path.waiting for path in paths], cohorts, sum([cohort.size for cohort in cohorts]))
            values = to_host(rows.array).reshape(-1)
            self.run.reads += 1
            start = 0
            for path, cohort in zip(paths, cohorts):
                self._decide(path, values[start : start + cohort.size], path is going)
                start += cohort.size

    def _decide(self, path: Path, values: Any, going: bool) -> None:
        """Let a path go on with its number, or split it where samples' numbers differ."""
        cohort, log, path.waiting = path.cohort, path.log, None
        if self.run.imposed is not None or self.run.recorder is not None:
            self.run.note(cohort, values)
        groups = split(values) if cohort.size > 1 else None
        if groups is None:
            log.append((VALUE, values[0].item()))
        else:
            self.run.splits.setdefault(path.line, []).append(tuple(len(rows) for _, rows in groups))
            for value, rows in groups[1:]:
                self.run.count_cohort()
                part = Path(self, path.args, path.kwargs, cohort.part(rows), [*log, (VALUE, value)])
                part.steps = path.steps
                self.queue.append(part)
            value, rows = groups[0]
            log.append((VALUE, value))
            path.cohort = cohort.part(rows)
        if going:
            path.position = len(log)
        else:
            self.queue.append(path)

    # -- results -----------------------------------------------------------------------------------------------

    def _joined(self, ended: list[tuple[Cohort, Any]]) -> list[tuple[Cohort, Any]]:
        """Join the results of many paths as one operation for each tensor; what is not alike is left to `join`."""
        root = self.run.root
        flat = [(cohort, *flatten(tree)) for cohort, tree in ended]
        structure = flat[0][2]
        alike = len(flat) > 1 and all(entry[2] == structure for entry in flat)
        columns = list(zip(*[leaves for _, leaves, _ in flat])) if alike else []
        if not alike or not all(_of_one_kind(column) for column in columns):
            return [(cohort, _with_rows(tree, cohort)) for cohort, tree in ended]
        cohorts = [cohort for cohort, _, _ in flat]
        samples = np.concatenate([cohort.samples() for cohort in cohorts])
        order = np.argsort(samples, kind="stable")
        tensors = [self._one(list(column), cohorts, order) for column in columns]
        return [(root, unflatten(structure, iter([Lane(tensor, root) for tensor in tensors])))]

    def _one(self, column: list[Any], cohorts: list[Cohort], order: Any) -> Any:
        if column[0].__class__ is Lane:
            if all(cohort.size == 1 for cohort in cohorts):
                return gather([column[i] for i in order], [cohorts[i] for i in order], len(order))
            rows = gather(column, cohorts, len(order))
            return gather_rows(rows, plan=((None, order, True),), count=len(order))
        numbers = np.repeat(np.array(column), [cohort.size for cohort in cohorts])[order]
        return wrap(numbers.astype(np.float32) if numbers.dtype == np.float64 else numbers)


def _with_rows(tree: Any, cohort: Cohort) -> Any:
    """Return a result whose lanes hold Tensors of the cohort's rows."""
    leaves, structure = flatten(tree)
    rows = [
        Lane(gather([leaf], [cohort], cohort.size), cohort)
        if leaf.__class__ is Lane and slot_of(leaf) is not None
        else leaf
        for leaf in leaves
    ]
    return unflatten(structure, iter(rows))


def _of_one_kind(column: tuple[Any, ...]) -> bool:
    first = column[0]
    if first.__class__ is Lane:
        spec = slot_of(first).array
        return all([leaf.__class__ is Lane and slot_of(leaf).array is spec for leaf in column])
    return first.__class__ in (float, int, bool) and all([leaf.__class__ is first.__class__ for leaf in column])
