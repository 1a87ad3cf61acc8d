"""The scheduler of lock-step execution: all paths run side by side, and their equal calls run as one.

Every path (a group, often of one sample) is an execution of the program that records what it asks for instead of
computing it. When a path needs a number, it stops. When all paths have stopped or ended, the recorded calls run: those
with one signature and depth together, forward and, since the tape holds the combined calls, backward. A path that
stopped continues by running its program again, with everything recorded before taken from its log.

Calls of Modules and `per_sample` functions that get tensors are recorded as a whole. Their combined call runs eagerly
as a group like any other, and may split inside. What such a call returns is learned from the first of its kind. A call
that later behaves otherwise (raises, draws, returns another structure) only costs time: the batched run starts again
and runs calls of that kind where they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dynarl.autograd import Tensor, no_grad
from dynarl.autograd.call_site import user_line
from dynarl.autograd.device import to_host
from dynarl.autograd.grad_mode import mode
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.execution import VALUE, Entry, Operation, state
from dynarl.batching.groups.group import SampleGroup, split
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.lockstep.executor import Restart, Unwind
from dynarl.batching.lockstep.gather import gather, gather_rows
from dynarl.batching.lockstep.lazy import TensorSpec, as_now, slot_of
from dynarl.batching.lockstep.lockstep_execution import LockstepExecution
from dynarl.batching.lockstep.tracer import Signatures, Tracer
from dynarl.batching.values.changes import frozen, roll_back
from dynarl.batching.values.pytree import flatten, unflatten
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["run_lockstep"]

Outcomes = list[tuple[SampleGroup, Any]]


def run_lockstep(program: Operation, entries: Sequence[Entry], run: BatchedRun, signatures: Signatures) -> Outcomes:
    """Run a program for entries in lock-step and return (group, result) of each path."""
    while True:
        marks = run.mark()
        try:
            return _Scheduler(run, signatures).outcomes(program, entries)
        except Restart:
            run.restart(marks)


class _Scheduler:
    """The paths of one batched run: which can continue, which wait for a number, and what the others returned."""

    def __init__(self, run: BatchedRun, signatures: Signatures) -> None:
        self.run = run
        self.tracer = Tracer(run, signatures)
        self.queue, self.executor = self.tracer.queue, self.tracer.executor
        self.waiting: list[LockstepExecution] = []

    def outcomes(self, program: Operation, entries: Sequence[Entry]) -> Outcomes:
        """Run the program for every entry and return (group, result) of each path."""
        ended: Outcomes = []
        outer, recording = state.execution, mode.recording
        for args, kwargs, group in entries:
            self.queue.append(LockstepExecution(self, self.tracer, args, kwargs, group, []))
        try:
            while self.queue or self.waiting:
                if not self.queue:
                    self._answer()
                execution = self.queue.popleft()
                mode.recording = recording  # the program may have left it inside a no_grad block
                result = self._continue(program, execution)
                if self.executor.restart is not None:
                    raise self.executor.restart
                if self.tracer.unwinding:
                    self.waiting.append(execution)
                    continue
                if execution.position < len(execution.log):  # it returned before it asked for everything in its log
                    execution.recall(None)
                ended.append((execution.group, result))
            self.executor.flush()
            roll_back(self.run, 0)  # results of paths without changes in place hold what they held
        finally:
            state.execution, mode.recording = outer, recording
        return self._joined(ended)

    def _continue(self, program: Operation, execution: LockstepExecution) -> Any:
        """Run the program from the start of its log until it returns or has to wait; what it returns, or None."""
        state.execution, execution.position, execution.waits_for = execution, 0, None
        if self.run.undo:
            roll_back(self.run, 0)
        self.tracer.unwinding = False
        try:
            result = program(*execution.args, **execution.kwargs)
            return frozen(result) if self.run.undo else result
        except Unwind:
            return None
        except Exception as error:
            if self.tracer.unwinding or self.executor.restart is not None:
                return None  # the program replaced Unwind by an exception of its own
            execution.add_note(error)
            raise

    # -- concrete values --------------------------------------------------------------------------------------------

    def read(self, execution: LockstepExecution, x: SampleTensor) -> Any:
        """Return the number that a program reads; if other paths can still continue, they come first."""
        self.tracer.step(execution)
        if x.shape != () and x.numel() != 1:
            raise RuntimeError(f"item: expected one number per sample, got shape {x.shape}; use any() or all()")
        if self.tracer.tracks_views:
            x = as_now(x)
        slot_of(x)
        group = execution.group
        if x.group is not group:
            group.rows_in(x.group)
        execution.waits_for, execution.line = x, user_line() if group.size > 1 else None
        if self.run.replay is not None:
            self._decide(execution, self.run.repeat_decisions(group.samples(), x.dtype), current=True)
            return execution.log[execution.position - 1][1]
        if self.queue:
            self.tracer.unwinding = True
            raise Unwind
        self.waiting.append(execution)
        self._answer(execution)
        return execution.log[execution.position - 1][1]

    def _answer(self, current: LockstepExecution | None = None) -> None:
        """Compute the numbers that all waiting paths read, and let them continue; `current` is running now."""
        self.executor.flush()
        waiting, self.waiting = self.waiting, []
        kinds: dict[TensorSpec, list[LockstepExecution]] = {}
        for execution in waiting:
            if execution.waits_for is None:  # it waits for rows, not for a number
                self.queue.append(execution)
            else:
                kinds.setdefault(execution.waits_for.tensor.array, []).append(execution)
        for executions in kinds.values():
            groups = [execution.group for execution in executions]
            tensors = [execution.waits_for for execution in executions if execution.waits_for is not None]
            with no_grad():
                rows = gather(tensors, groups, sum([group.size for group in groups]))
            values = to_host(rows.array).reshape(-1)  # one transfer from the device for all paths
            self.run.reads += 1
            start = 0
            for execution, group in zip(executions, groups):
                self._decide(execution, values[start : start + group.size], current=execution is current)
                start += group.size

    def _decide(self, execution: LockstepExecution, values: Any, *, current: bool) -> None:
        """Let a path continue with its number, or split it if its samples have different ones."""
        group, log, execution.waits_for = execution.group, execution.log, None
        if self.run.decides():
            self.run.record_read(group, values)
        parts = split(values) if group.size > 1 else None
        if parts is None:
            log.append((VALUE, values[0].item()))
        else:
            assert execution.line is not None
            groups = [group.part(rows) for _, rows in parts]
            self.run.count_split(execution.line, groups)
            for (value, _), own in zip(parts[1:], groups[1:]):
                self.run.count_group()
                entries = [*log, (VALUE, value)]
                part = LockstepExecution(self, self.tracer, execution.args, execution.kwargs, own, entries)
                part.steps = execution.steps
                self.queue.append(part)
            log.append((VALUE, parts[0][0]))
            execution.group = groups[0]
        if current:
            execution.position = len(log)
        else:
            self.queue.append(execution)

    # -- results ----------------------------------------------------------------------------------------------------

    def _joined(self, ended: Outcomes) -> Outcomes:
        """Join the results of many paths, each tensor with one operation; other results are left to `join_all`."""
        root = self.run.root
        flat = [(group, *flatten(tree)) for group, tree in ended]
        structure = flat[0][2]
        equal = len(flat) > 1 and all(entry[2] == structure for entry in flat)
        columns = list(zip(*[leaves for _, leaves, _ in flat])) if equal else []
        if not equal or not all(_of_one_kind(column) for column in columns):
            return [(group, _with_rows(tree, group)) for group, tree in ended]
        groups = [group for group, _, _ in flat]
        order = np.argsort(np.concatenate([group.samples() for group in groups]), kind="stable")
        tensors = [_joined_column(column, groups, order) for column in columns]
        return [(root, unflatten(structure, iter([SampleTensor(tensor, root) for tensor in tensors])))]


def _joined_column(column: tuple[Any, ...], groups: list[SampleGroup], order: Any) -> Tensor:
    """Return one result of all paths as a Tensor [N, ...] in the order of the samples."""
    joined: Tensor
    if column[0].__class__ is SampleTensor:
        if all(group.size == 1 for group in groups):
            joined = gather([column[i] for i in order], [groups[i] for i in order], len(order))
            return joined
        rows = gather(column, groups, len(order))
        joined = gather_rows(rows, plan=((None, order, True),), count=len(order))
        return joined
    numbers = np.repeat(np.array(column), [group.size for group in groups])[order]
    joined = wrap(numbers.astype(np.float32) if numbers.dtype == np.float64 else numbers)
    return joined


def _with_rows(tree: Any, group: SampleGroup) -> Any:
    """Return a result whose SampleTensors hold Tensors of the group's rows."""
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
