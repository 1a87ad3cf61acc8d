"""The tracer: describes what paths ask for, so that equal calls of different paths can run as one."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from dynarl.autograd.grad_mode import mode
from dynarl.batching.groups.execution import Execution
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.lockstep.executor import Executor, Unwind
from dynarl.batching.lockstep.gather import gather
from dynarl.batching.lockstep.lazy import LazyCall, Signature, sample_tensor, slot_of
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["Signatures", "TracedExecution", "Tracer", "depth_of", "enter"]

Signatures = dict[Any, Signature]

_MOST_SIGNATURES = 20_000
_numbers = itertools.count()


class Tracer:
    """What the paths of one batched run have recorded. Signatures are shared by all runs of a program."""

    def __init__(self, run: BatchedRun, signatures: Signatures) -> None:
        self.run, self.signatures, self.tracks_views = run, signatures, run.tracks_views
        self.executor = Executor(run)
        self.queue: deque[Any] = deque()  # executions that can continue
        self.unwinding = False  # the current path has to wait
        self.numbers: dict[Any, int] = {}
        self.shared: dict[int, Any] = {}  # by id: copies of small operands that all samples share
        self.usual: dict[Any, Signature] = {}  # by operation or Module: the signature of its last usual call

    def step(self, execution: Execution) -> None:
        """Count a step of a path."""
        if (
            self.unwinding or self.executor.restart is not None
        ):  # `check_unwinding` without a call: every operation passes here
            raise Unwind
        execution.steps += 1
        if execution.steps > self.run.max_steps:
            execution.fail_endless()

    def check_unwinding(self) -> None:
        """Raise Unwind again where the program still runs after it: in an except clause, or in a finally block.

        What it asks for there belongs to no path and must not enter the log.
        """
        if self.unwinding or self.executor.restart is not None:
            raise Unwind

    def number(self, signature: Signature, fixed: list[Any]) -> int:
        """Return the number of calls with a signature and the same shared operands: those run together."""
        return self.numbers.setdefault((signature.number, tuple(fixed)), -1 - len(self.numbers))

    def new_signature(self, key: Any, kind: str, op: Any, recording: int) -> Signature:
        """Add a signature. The oldest ones are not worth tracking: when there are too many, all are dropped."""
        if len(self.signatures) > _MOST_SIGNATURES:
            self.signatures.clear()
        signature = self.signatures[key] = Signature(kind, op, recording)
        signature.number = next(_numbers)
        return signature

    def add(self, execution: Execution, key: object, call: LazyCall) -> SampleTensor:
        """Record a call, and log and return the SampleTensor of its first result."""
        self.executor.add(call)
        x = sample_tensor(call, execution.group)
        execution.log.append((key, x))
        execution.position += 1
        return x

    def rows(self, x: SampleTensor, group: SampleGroup) -> Any:
        """Return the rows of a lazy tensor, after the other paths went as far as they can."""
        slot = slot_of(x)
        if slot.call.results is None:
            if self.queue:
                self.unwinding = True
                raise Unwind
            self.executor.flush()
        return gather([x], [group], group.size)


class TracedExecution(Execution):
    """An execution whose requests a tracer records."""

    __slots__ = ("tracer",)
    tracer: Tracer


def enter(x: SampleTensor, group: SampleGroup, key: list[Any], operands: list[Any]) -> int:
    """Append an operand of a group's call to `key` and `operands`; return the depth of the call it comes from.

    The depth is -1 if that call has run.
    """
    slot: Any = x.tensor
    if slot.__class__ is not LazyCall:
        slot = slot_of(x)
    call: LazyCall = slot if slot.__class__ is LazyCall else slot.call
    key.append(slot.array)
    operands.append(x)
    if x.group is not group and not call.constant:
        group.rows_in(x.group)  # fails on the user's line if the tensor belongs to another branch
    if call.results is not None:
        return -1
    call.used = True
    return call.depth


def depth_of(args: tuple[Any, ...], signature: Signature, group: SampleGroup) -> int | None:
    """Return the depth of the operands of a call if it is a usual call of a signature, else None.

    In a usual call every tensor is the first result of another call by the same group. These are most of all calls,
    and need no key to be built and looked up.
    """
    operands = signature.operands
    if len(args) != len(operands) or signature.eager or signature.recording != mode.recording or mode.anomaly:
        return None
    depth = -1
    for a, operand in zip(args, operands):
        if a.__class__ is SampleTensor:
            call: Any = a.tensor
            if a.group is not group or call.__class__ is not LazyCall or call.array is not operand:
                return None
            if call.results is None:
                call.used = True
                if call.depth > depth:
                    depth = call.depth
        elif a.__class__ is not operand:
            return None
    return depth
