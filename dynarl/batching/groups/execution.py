"""Executions: one run of a program's Python code for one group of samples, with a log from which it can be replayed.

A program runs once for all samples of a group. Where samples disagree, the parts of the group run it again from the
start and take what was computed before from the log. Which operations run when is decided by the two implementations
of `Execution`: `dynarl.batching.eager` and `dynarl.batching.lockstep`. User code reaches the one that is current in
its thread through `state`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import CodeType
from typing import Any

from numpy.typing import DTypeLike

from dynarl.autograd import dispatch
from dynarl.autograd.call_site import line_of, user_line
from dynarl.batching.draws import DeviceLike
from dynarl.batching.groups.group import PerSampleError, SampleGroup
from dynarl.batching.groups.run import BatchedRun, name_of, some_samples

__all__ = [
    "DRAW",
    "MADE",
    "VALUE",
    "Entry",
    "Execution",
    "Log",
    "Names",
    "Operands",
    "Operation",
    "Static",
    "apply",
    "ended",
    "read",
    "state",
]

Operation = Callable[..., Any]
Operands = tuple[Any, ...]
Static = dict[str, Any]
Names = tuple[str, ...]
"""Names of variables of a program."""
Entry = tuple[Operands, Static, SampleGroup]
"""(args, kwargs, group) of an execution that begins."""
Log = list[tuple[object, Any]]
"""(key, value) of everything that was computed or read; the key is what asked for it."""

MADE = "a tensor that the program made"
VALUE = "a concrete value"
DRAW = "a per-sample random draw"


class Execution(ABC):
    """One execution of a program for a group; the methods below are all that user code asks of it."""

    __slots__ = ("counted", "group", "log", "position", "run", "steps")

    def __init__(self, run: BatchedRun, group: SampleGroup, log: Log) -> None:
        self.run, self.group, self.log = run, group, log
        self.position = 0  # of the log; operations at the end of the log are new
        self.steps = self.counted = 0

    # -- what a program asks for ------------------------------------------------------------------------------------

    @abstractmethod
    def apply(self, op: Operation, operands: Operands, static: Static) -> Any:
        """Return the result of an operation on per-sample tensors and shared operands. Not called during replay."""

    @abstractmethod
    def binary(self, op: Operation, x: Any, y: Any) -> Any:
        """Return `op(x, y)` for the operators `+`, `-`, `*`. Not called during replay."""

    @abstractmethod
    def getitem(self, x: Any, index: Any) -> Any:
        """Return `x[index]` for slices, numbers and new axes. Not called during replay."""

    @abstractmethod
    def read(self, x: Any) -> Any:
        """Return a sample's number; split the group if its samples have different ones. Not called during replay."""

    @abstractmethod
    def call_scope(self, key: object, function: Operation, args: Operands, kwargs: Static) -> Any:
        """Call a function whose diverged samples are joined at its return."""

    @abstractmethod
    def call_module(self, module: Any, args: Operands, kwargs: Static) -> Any:
        """Call a Module whose diverged samples are joined at its return."""

    @abstractmethod
    def helper(self, code: CodeType, function: Any) -> Any:
        """Return what to call in place of a function or method of the user's own: rewritten, in a scope if useful."""

    @abstractmethod
    def run_statement(self, statement: Callable[[], None], outs: Names) -> None:
        """Run a statement that assigns the variables `outs`; samples that diverge in it are joined behind it."""

    @abstractmethod
    def run_loop(self, step: Callable[[Any], int], items: Any, outs: Names, live: tuple[Names | None, ...]) -> int:
        """Repeat a step until it leaves the loop; samples that leave early wait for the others."""

    @abstractmethod
    def draw(self, kind: str, shape: tuple[int, ...], dtype: DTypeLike | None, device: DeviceLike) -> Any:
        """Return "uniform" or "normal" random numbers of each sample's own stream. Not called during replay."""

    @abstractmethod
    def rows(self, x: Any) -> Any:
        """Return the Tensor [n, ...] of this group's rows of a per-sample tensor."""

    @abstractmethod
    def source(self, x: Any) -> tuple[Any, Any]:
        """Return the Tensor that a per-sample tensor is rows of, and which rows this group's are (None: all)."""

    @abstractmethod
    def of_rows(self, tensor: Any) -> Any:
        """Return the per-sample tensor of this group's rows [n, ...]."""

    @abstractmethod
    def constant(self, x: Any) -> Any:
        """Return a per-sample tensor that equals a Tensor for every sample."""

    def number(self, x: Any, kind: type | None) -> Any:
        """Return `kind(x)`, or `x.item()`, of a tensor with one element: a number that may differ between samples."""
        value = read(x)
        return value if kind is None else kind(value)

    def read_values(self, values: Any) -> dict[SampleGroup, Any]:
        """Read values [n] of this group; return those of the groups into which it split, or of the whole group."""
        raise PerSampleError("a Python value that differs between samples has left the scope it was computed in")

    def materialize(self, x: Any, group: SampleGroup) -> Any:
        """Return the rows of a group that are not computed yet."""
        raise PerSampleError(
            "a per-sample tensor was used outside the call or the branch it was computed in; "
            "return it from the program and pass it in as an argument next time"
        )

    # -- the log ----------------------------------------------------------------------------------------------------

    def replaying(self) -> bool:
        """Return whether the next request was already answered before the group split."""
        return self.position < len(self.log)

    def recall(self, key: object) -> Any:
        """Return the next logged result; fail if the program asks for something else than it did the first time."""
        logged, value = self.log[self.position]
        if logged is not key:
            raise self.run.fail(
                f"the program did not repeat itself: replaying for another branch, {name_of(key)} came at "
                f"{line_of(user_line())} where {name_of(logged)} was before. Per-sample programs must depend on their "
                "arguments alone: no clocks, counters, outside state or random numbers but dynarl's per-sample ones"
            )
        self.position += 1
        self.run.replayed += 1
        return value

    def remember(self, key: object, value: Any) -> None:
        """Log a result for the parts of this group that may split off later."""
        self.log.append((key, value))
        self.position += 1

    # -- the limit of steps -----------------------------------------------------------------------------------------

    def step(self, steps: int = 1) -> None:
        """Count steps that are no operations of this execution, and fail if the program does not end."""
        self.steps += steps
        self.counted += steps
        if self.steps > self.run.max_steps:
            self.fail_endless()

    def fail_endless(self) -> None:
        """Fail because the program made too many steps."""
        raise self.run.fail(
            f"the program made more than max_steps={self.run.max_steps} operations for samples "
            f"{some_samples(self.group.samples())} and stands at {line_of(user_line())}: a loop that does not end? "
            "Raise max_steps if it does"
        )

    def add_note(self, error: Exception) -> None:
        """Add the samples of this group to an error of the program, once."""
        if not getattr(error, "__notes__", None):
            error.add_note(f"in a per-sample program, for samples {some_samples(self.group.samples())} of the batch")


class _State(threading.local):
    """The execution whose program runs in this thread, if there is one."""

    execution: Execution | None = None


state = _State()


def ended(done: str = "used") -> PerSampleError:
    """Return the error of a per-sample tensor that is used where no program runs."""
    if dispatch.call_module is not None:
        return PerSampleError(
            f"a per-sample tensor was {done} in another thread than the one that runs its program; "
            "a per-sample program runs in one thread"
        )
    return PerSampleError(
        f"a per-sample tensor was {done} after its call had ended; return it from the program to keep it"
    )


def apply(op: Operation, operands: Operands, static: Static) -> Any:
    """Apply an operation to operands of which at least one is a per-sample tensor."""
    execution = state.execution
    if execution is None:
        raise ended()
    position, log = execution.position, execution.log
    if position < len(log):
        logged, value = log[position]
        if logged is not op:
            return execution.recall(op)
        execution.position = position + 1
        return value
    return execution.apply(op, operands, static)


def read(x: Any) -> Any:
    """Return the Python number of a per-sample tensor with one element; samples that differ go separate ways."""
    execution = state.execution
    if execution is None:
        raise ended("read")
    if execution.position < len(execution.log):
        return execution.recall(VALUE)
    return execution.read(x)
