"""Lock-step execution: what a program asks for is recorded, and runs when no path can continue without it."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import DTypeLike

from dynarl.autograd.call_site import Line
from dynarl.batching.draws import DeviceLike
from dynarl.batching.groups.execution import Execution, Log, Operands, Operation, Static, Step
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.lockstep.trace_calls import trace_call
from dynarl.batching.lockstep.trace_loops import trace_loop
from dynarl.batching.lockstep.trace_ops import trace_draw, trace_operation
from dynarl.batching.lockstep.tracer import Tracer
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["LockstepExecution", "Reader"]


class Reader(Protocol):
    """Answers reads of concrete values: the scheduler, which knows the other paths."""

    def read(self, execution: LockstepExecution, x: SampleTensor) -> Any:
        """Return the number of a path, or leave its program until the number is computed."""
        ...


class LockstepExecution(Execution):
    """One execution of the whole program for a group, on a path of its own."""

    __slots__ = ("args", "kwargs", "line", "reader", "tracer", "waits_for")

    def __init__(
        self, reader: Reader, tracer: Tracer, args: Operands, kwargs: Static, group: SampleGroup, log: Log
    ) -> None:
        super().__init__(tracer.run, group, log)
        self.reader, self.tracer, self.args, self.kwargs = reader, tracer, args, kwargs
        self.waits_for: SampleTensor | None = None  # a tensor that the program reads
        self.line: Line | None = None  # where it reads it

    def apply(self, op: Operation, operands: Operands, static: Static) -> Any:
        """Record an operation."""
        return trace_operation(self.tracer, self, op, operands, static)

    def read(self, x: Any) -> Any:
        """Return a number when all paths have come as far as they can."""
        return self.reader.read(self, x)

    def call_scope(self, key: object, function: Operation, args: Operands, kwargs: Static) -> Any:
        """Record a call of a `per_sample` function."""
        return trace_call(self.tracer, self, key, function, args, kwargs)

    def call_module(self, module: Any, args: Operands, kwargs: Static) -> Any:
        """Record a call of a Module."""
        return trace_call(self.tracer, self, module, None, args, kwargs)

    def run_loop(self, step: Step, items: Any, values: Operands) -> tuple[int, Operands]:
        """Repeat a step on this path."""
        return trace_loop(self.tracer, self, step, items, values)

    def draw(self, kind: str, shape: tuple[int, ...], dtype: DTypeLike | None, device: DeviceLike) -> SampleTensor:
        """Record a random draw."""
        return trace_draw(self.tracer, self, self.run.streams(), kind, shape, dtype, device)

    def materialize(self, x: Any, group: SampleGroup) -> Any:
        """Return the rows of a lazy tensor."""
        return self.tracer.rows(x, group)
