"""Lock-step merging: samples on paths of their own run side by side, and what they ask for alike is run as one.

Every path (a group, often of one sample) is an execution of the program that notes down what it asks for instead of
computing it. Where a path needs a number, it stops; once all paths have stopped or ended, the calls that were noted
are run: those of one kind, shape and depth together, forward and, as the tape holds the merged ones, backward. A path
that stopped is taken up by running its program again, with what was noted before looked up in its log.

Calls of Modules and `per_sample` functions that take tensors are noted as a whole, and their merged run is a group
like any other, which may split inside. What they return must be known before: it is learned from the first call of a
kind. A call that then behaves otherwise (raises, draws, returns another structure) is a mistake that costs time only:
the batched call starts again, and runs calls of that kind where they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dynarl.autograd import no_grad
from dynarl.autograd.call_site import user_line
from dynarl.autograd.device import to_host
from dynarl.autograd.grad_mode import mode
from dynarl.autograd.tensor import wrap
from dynarl.batching.eager.execution import VALUE, state
from dynarl.batching.groups.group import SampleGroup, split
from dynarl.batching.groups.run import BatchedRun, shown
from dynarl.batching.lockstep.executor import Restart, Unwind
from dynarl.batching.lockstep.gather import gather_rows
from dynarl.batching.lockstep.lazy import Signature, gather, slot_of
from dynarl.batching.lockstep.trace_ops import draw, record
from dynarl.batching.lockstep.tracer import LockstepPath, Tracer
from dynarl.batching.values.pytree import flatten, unflatten
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["Entry", "run_lockstep"]

Entry = tuple[Any, Any, SampleGroup]


def run_lockstep(
    program: Callable[..., Any], entries: list[Entry], run: BatchedRun, signatures: dict[Any, Signature]
) -> list[tuple[SampleGroup, Any]]:
    """Run a program for entries (args, kwargs, group) in lock-step and return (group, result) of each path."""
    while True:
        marks = run.mark()
        try:
            return LockstepScheduler(run, signatures).results(program, entries)
        except Restart:
            run.start_again(marks)


class LockstepScheduler(Tracer):
    """The paths of one batched call: who goes on, who waits for a number, and what came out."""

    record, draw = record, draw

    def __init__(self, run: BatchedRun, signatures: dict[Any, Signature]) -> None:
        super().__init__(run, signatures)
        self.waiting: list[LockstepPath] = []

    def results(self, program: Callable[..., Any], entries: list[Entry]) -> list[tuple[SampleGroup, Any]]:
        """Run the program for every entry (args, kwargs, group) and return (group, result) of each path."""
        ended: list[tuple[SampleGroup, Any]] = []
        outer, recording = state.context, mode.recording
        self.queue.extend(LockstepPath(self, args, kwargs, group, []) for args, kwargs, group in entries)
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
                            samples = shown(path.group.samples())
                            error.add_note(f"in a per-sample program, for samples {samples} of the batch")
                        raise
                if self.pending.again is not None:
                    raise self.pending.again
                if path.unwinding:
                    self.waiting.append(path)
                    continue
                if path.position < len(path.log):
                    path.recall(None)
                ended.append((path.group, result))
            self.pending.flush()
        finally:
            state.context, mode.recording = outer, recording
        return self._joined(ended)

    def read(self, path: LockstepPath, x: Any) -> Any:
        """Return a number of the program's; where others have still to go, after they have."""
        self.step(path)
        if x.shape != () and x.numel() != 1:
            raise RuntimeError(f"item: expected one number per sample, got shape {x.shape}; use any() or all()")
        slot_of(x)
        group = path.group
        if x.group is not group:
            group.rows_in(x.group)
        path.waiting, path.line = x, user_line() if group.size > 1 else None
        if self.run.replay is not None:
            self._decide(path, self.run.decide(group.samples(), x.dtype), True)
            return path.log[path.position - 1][1]
        if self.queue:
            path.unwinding = True
            raise Unwind
        self.waiting.append(path)
        self._answer(path)
        return path.log[path.position - 1][1]

    def _answer(self, going: LockstepPath | None = None) -> None:
        """Compute what all waiting paths want to know, and let them go on; `going` is the one that runs."""
        self.pending.flush()
        waiting, self.waiting = self.waiting, []
        kinds: dict[Any, list[LockstepPath]] = {}
        for path in waiting:
            if path.waiting is None:  # it waits for rows, not for a number
                self.queue.append(path)
            else:
                kinds.setdefault(path.waiting.tensor.array, []).append(path)
        for paths in kinds.values():
            groups = [path.group for path in paths]
            with no_grad():
                rows = gather([path.waiting for path in paths], groups, sum([group.size for group in groups]))
            values = to_host(rows.array).reshape(-1)
            self.run.reads += 1
            start = 0
            for path, group in zip(paths, groups):
                self._decide(path, values[start : start + group.size], path is going)
                start += group.size

    def _decide(self, path: LockstepPath, values: Any, going: bool) -> None:
        """Let a path go on with its number, or split it where samples' numbers differ."""
        group, log, path.waiting = path.group, path.log, None
        if self.run.replay is not None or self.run.recorder is not None:
            self.run.note(group, values)
        groups = split(values) if group.size > 1 else None
        if groups is None:
            log.append((VALUE, values[0].item()))
        else:
            self.run.splits.setdefault(path.line, []).append(tuple(len(rows) for _, rows in groups))
            for value, rows in groups[1:]:
                self.run.count_group()
                part = LockstepPath(self, path.args, path.kwargs, group.part(rows), [*log, (VALUE, value)])
                part.steps = path.steps
                self.queue.append(part)
            value, rows = groups[0]
            log.append((VALUE, value))
            path.group = group.part(rows)
        if going:
            path.position = len(log)
        else:
            self.queue.append(path)

    # -- results -----------------------------------------------------------------------------------------------

    def _joined(self, ended: list[tuple[SampleGroup, Any]]) -> list[tuple[SampleGroup, Any]]:
        """Join the results of many paths as one operation for each tensor; what is not alike is left to `join`."""
        root = self.run.root
        flat = [(group, *flatten(tree)) for group, tree in ended]
        structure = flat[0][2]
        alike = len(flat) > 1 and all(entry[2] == structure for entry in flat)
        columns = list(zip(*[leaves for _, leaves, _ in flat])) if alike else []
        if not alike or not all(_of_one_kind(column) for column in columns):
            return [(group, _with_rows(tree, group)) for group, tree in ended]
        groups = [group for group, _, _ in flat]
        samples = np.concatenate([group.samples() for group in groups])
        order = np.argsort(samples, kind="stable")
        tensors = [self._one(list(column), groups, order) for column in columns]
        return [(root, unflatten(structure, iter([SampleTensor(tensor, root) for tensor in tensors])))]

    def _one(self, column: list[Any], groups: list[SampleGroup], order: Any) -> Any:
        if column[0].__class__ is SampleTensor:
            if all(group.size == 1 for group in groups):
                return gather([column[i] for i in order], [groups[i] for i in order], len(order))
            rows = gather(column, groups, len(order))
            return gather_rows(rows, plan=((None, order, True),), count=len(order))
        numbers = np.repeat(np.array(column), [group.size for group in groups])[order]
        return wrap(numbers.astype(np.float32) if numbers.dtype == np.float64 else numbers)


def _with_rows(tree: Any, group: SampleGroup) -> Any:
    """Return a result whose lanes hold Tensors of the group's rows."""
    leaves, structure = flatten(tree)
    rows = [
        SampleTensor(gather([leaf], [group], group.size), group)
        if leaf.__class__ is SampleTensor and slot_of(leaf) is not None
        else leaf
        for leaf in leaves
    ]
    return unflatten(structure, iter(rows))


def _of_one_kind(column: tuple[Any, ...]) -> bool:
    first = column[0]
    if first.__class__ is SampleTensor:
        spec = slot_of(first).array
        return all([leaf.__class__ is SampleTensor and slot_of(leaf).array is spec for leaf in column])
    return first.__class__ in (float, int, bool) and all([leaf.__class__ is first.__class__ for leaf in column])
