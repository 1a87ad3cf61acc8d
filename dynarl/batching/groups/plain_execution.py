"""The execution of one sample's program in plain Python: only random numbers, Modules and errors pass through it."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, NoReturn

from numpy.typing import DTypeLike

from dynarl.autograd import Tensor
from dynarl.autograd.tensor import wrap
from dynarl.batching.draws import DeviceLike
from dynarl.batching.groups.execution import Execution, Log, Names, Operands, Operation, Static
from dynarl.batching.groups.group import PerSampleError, SampleGroup
from dynarl.batching.groups.run import BatchedRun

__all__ = ["PlainExecution"]


def _foreign() -> PerSampleError:
    return PerSampleError(
        "a per-sample tensor was used outside the call or the branch it was computed in; "
        "return it from the program and pass it in as an argument next time"
    )


class PlainExecution(Execution):
    """The execution of one sample's program on ordinary Tensors: nothing is batched, logged or rewritten."""

    __slots__ = ("given",)

    def __init__(self, run: BatchedRun, group: SampleGroup, log: Log) -> None:
        super().__init__(run, group, log)
        self.given: list[Tensor] = []  # the tensors in the sample's arguments, the caller's data

    def draw(self, kind: str, shape: tuple[int, ...], dtype: DTypeLike | None, device: DeviceLike) -> Tensor:
        """Return random numbers of the sample's own stream."""
        samples, streams = self.group.samples(), self.run.streams()
        rows: Tensor = streams.make(samples, streams.reserve(samples), kind, shape, dtype, device)
        return wrap(rows.array[0])

    def call_scope(self, key: object, function: Operation, args: Operands, kwargs: Static) -> Any:
        """Call a function."""
        return function(*args, **kwargs)

    def call_module(self, module: Any, args: Operands, kwargs: Static) -> Any:
        """Call a Module as it is written, with its hooks; each call counts as a step."""
        self.steps += 1
        if self.steps > self.run.max_steps:
            self.fail_endless()
        if module._hooks is not None:
            return module._hooks.call(module, args, kwargs)
        return module.forward(*args, **kwargs)

    def helper(self, code: CodeType, function: Any) -> Any:
        """Return the function as it is written."""
        return function

    def run_statement(self, statement: Callable[[], None], outs: Names) -> None:
        """Run a statement."""
        statement()

    def run_loop(self, step: Callable[[Any], int], items: Any, outs: Names, live: Any) -> NoReturn:
        """Raise: no rewritten code runs here."""
        raise PerSampleError("rewritten code in a plain run")

    def apply(self, op: Operation, operands: Operands, static: Static) -> NoReturn:
        """Raise: a per-sample tensor is one of another call."""
        raise _foreign()

    def binary(self, op: Operation, x: Any, y: Any) -> NoReturn:
        """Raise: a per-sample tensor is one of another call."""
        raise _foreign()

    def getitem(self, x: Any, index: Any) -> NoReturn:
        """Raise: a per-sample tensor is one of another call."""
        raise _foreign()

    def read(self, x: Any) -> NoReturn:
        """Raise: a per-sample tensor is one of another call."""
        raise _foreign()

    def rows(self, x: Any) -> NoReturn:
        """Raise: a per-sample tensor is one of another call."""
        raise _foreign()

    def source(self, x: Any) -> NoReturn:
        """Raise: a per-sample tensor is one of another call."""
        raise _foreign()

    def of_rows(self, tensor: Any) -> NoReturn:
        """Raise: a per-sample tensor is one of another call."""
        raise _foreign()

    def constant(self, x: Any) -> Any:
        """Return a Tensor that equals x."""
        return x
