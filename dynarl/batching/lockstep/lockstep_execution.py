"""Lock-step execution: what a program asks for is recorded, and runs when no path can continue without it."""

from __future__ import annotations

from types import CodeType
from typing import Any, Protocol

import numpy as np

from dynarl.autograd.call_site import Line
from dynarl.autograd.ops.indexing import _getitem
from dynarl.batching.groups.execution import Log, Operands, Operation, Static
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.lockstep.lazy import as_now, computed, constant, sample_tensor, slot_of
from dynarl.batching.lockstep.trace_calls import trace_call
from dynarl.batching.lockstep.trace_loops import trace_loop, trace_statement
from dynarl.batching.lockstep.trace_ops import trace_draw, trace_operation
from dynarl.batching.lockstep.tracer import TracedExecution, Tracer
from dynarl.batching.scopes.rewritten import rewritten
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["LockstepExecution", "Reader"]


class Reader(Protocol):
    """Answers reads of concrete values: the scheduler, which knows the other paths."""

    def read(self, execution: LockstepExecution, x: SampleTensor) -> Any:
        """Return the number of a path, or leave its program until the number is computed."""
        ...


class LockstepExecution(TracedExecution):
    """One execution of the whole program for a group, on a path of its own."""

    __slots__ = ("args", "kwargs", "line", "reader", "waits_for")

    def __init__(
        self, reader: Reader, tracer: Tracer, args: Operands, kwargs: Static, group: SampleGroup, log: Log
    ) -> None:
        super().__init__(tracer.run, group, log)
        self.reader, self.tracer, self.args, self.kwargs = reader, tracer, args, kwargs
        self.waits_for: SampleTensor | None = None  # a tensor that the program reads
        self.line: Line | None = None  # where it reads it

    # These functions take the execution first: as methods they need no call of their own for each operation.
    apply = trace_operation
    call_scope = trace_call
    run_loop = trace_loop
    run_statement = trace_statement
    draw = trace_draw

    def binary(self, op: Operation, x: Any, y: Any) -> Any:
        """Record an operation of an operator."""
        return trace_operation(self, op, (x, y), {})

    def getitem(self, x: Any, index: Any) -> Any:
        """Record an index."""
        return trace_operation(self, _getitem, (x,), {"index": index})

    def rows(self, x: Any) -> Any:
        """Return the rows of this path, after the other paths went as far as they can."""
        x = as_now(x)
        slot_of(x)
        return self.tracer.rows(x, self.group)

    def source(self, x: Any) -> tuple[Any, Any]:
        """Return the Tensor of a combined call, and the rows of this path in it."""
        x = as_now(x)
        slot = slot_of(x)
        self.tracer.rows(x, self.group)
        call = slot.call
        if call.constant:
            return call.results[slot.index], np.zeros(self.group.size, np.int64)
        own = np.arange(self.group.size) if x.group is self.group else self.group.rows_in(x.group)
        return call.results[slot.index], own + call.start

    def of_rows(self, tensor: Any) -> Any:
        """Return the SampleTensor of this path's rows."""
        return sample_tensor(computed(tensor, self.group), self.group)

    def constant(self, x: Any) -> Any:
        """Return a per-sample tensor whose rows are one Tensor."""
        return constant(x, self.group)

    def read(self, x: Any) -> Any:
        """Return a number when all paths have come as far as they can."""
        return self.reader.read(self, x)

    def call_module(self, module: Any, args: Operands, kwargs: Static) -> Any:
        """Record a call of a Module."""
        return trace_call(self, module, None, args, kwargs)

    def helper(self, code: CodeType, function: Any) -> Any:
        """Return a rewritten function. It runs as part of its caller: paths meet in operations, whatever calls them."""
        return rewritten(function)

    def materialize(self, x: Any, group: SampleGroup) -> Any:
        """Return the rows of a lazy tensor."""
        return self.tracer.rows(x, group)
