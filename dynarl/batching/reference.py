"""The reference: the program as it is written, in plain Python, for one sample alone on ordinary Tensors.

`mode="loop"` runs it for every sample, the self-check for a few. Only random numbers are not plain: they come from the
sample's own stream, so that they are those of a batched run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from dynarl.autograd import Tensor
from dynarl.autograd.tensor import wrap
from dynarl.batching.draws import DeviceLike
from dynarl.batching.groups.execution import Execution, Names, Operands, Operation, Static, state
from dynarl.batching.groups.group import PerSampleError, SampleGroup
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.inputs import Inputs
from dynarl.batching.values.object_batch import ObjectBatch
from dynarl.batching.values.pytree import map_leaves, unflatten
from dynarl.batching.values.ragged import END, Ragged
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.wiring import batched_run_open

__all__ = ["PlainSequence", "run_plain", "sample_arguments"]


Own = Callable[[Tensor], Tensor]
"""Makes the sample's own tensor of a row of an argument, with its history."""


def _given(x: Any) -> Any:
    return x


def _copy(row: Tensor) -> Tensor:
    return row.clone()


class PlainSequence:
    """One sample's sequence of a Ragged, on ordinary Tensors."""

    _batching_constant = True

    def __init__(self, ragged: Ragged, sample: int, own: Own) -> None:
        start = int(ragged.segments.starts[sample])
        self._elements = [own(ragged.values[start + t]) for t in range(int(ragged.lengths[sample]))]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)

    def __getitem__(self, index: int) -> Tensor:
        index = index.__index__()
        if not -len(self) <= index < len(self):
            raise IndexError(f"Ragged: index {index} is beyond the end of a sequence")
        return self._elements[index]

    def steps(self) -> Iterator[Callable[[], Any]]:
        """Yield for each step a function that returns its element, and one that returns END behind the last."""
        for element in (*self._elements, END):
            yield partial(_given, element)


def sample_arguments(inputs: Inputs, sample: int, own: Own = _copy) -> tuple[Operands, Static]:
    """Return the arguments of a call as one sample's program sees them: rows, its object, its sequences."""
    given = [_sample_of(x, sample, own) for x in inputs.leaves]
    arguments: tuple[Operands, Static] = unflatten(inputs.structure, iter(given))
    return arguments


def _sample_of(x: Any, sample: int, own: Own) -> Any:
    if isinstance(x, Ragged):
        return PlainSequence(x, sample, own)
    if isinstance(x, ObjectBatch):
        return x.of_sample(sample, own)
    return own(x[sample])


def run_plain(
    program: Callable[..., Any], inputs: Inputs, sample: int, run: BatchedRun, own: Own = _copy
) -> tuple[SampleGroup, Any]:
    """Return (group, result) of the program for one sample, the result's tensors with a leading axis of 1."""
    group = run.root if run.root.size == 1 else run.root.part(np.array([sample]))
    args, kwargs = sample_arguments(inputs, sample, own)
    outer, execution = state.execution, PlainExecution(run, group, [])
    with batched_run_open():
        state.execution = execution
        try:
            result = program(*args, **kwargs)
        except Exception as error:
            execution.add_note(error)
            raise
        finally:
            state.execution = outer
    return group, map_leaves(lambda leaf: _with_axis(leaf, group), result)


def _with_axis(leaf: Any, group: SampleGroup) -> Any:
    return SampleTensor(leaf.unsqueeze(0), group) if isinstance(leaf, Tensor) else leaf


def _foreign() -> PerSampleError:
    return PerSampleError(
        "a per-sample tensor was used outside the call or the branch it was computed in; "
        "return it from the program and pass it in as an argument next time"
    )


class PlainExecution(Execution):
    """The execution of one sample's program on ordinary Tensors: nothing is batched, logged or rewritten."""

    __slots__ = ()

    def draw(self, kind: str, shape: tuple[int, ...], dtype: DTypeLike | None, device: DeviceLike) -> Tensor:
        """Return random numbers of the sample's own stream."""
        samples, streams = self.group.samples(), self.run.streams()
        rows: Tensor = streams.make(samples, streams.reserve(samples), kind, shape, dtype, device)
        row: Tensor = wrap(rows.array[0])
        return row

    def call_scope(self, key: object, function: Operation, args: Operands, kwargs: Static) -> Any:
        """Call a function."""
        return function(*args, **kwargs)

    def call_module(self, module: Any, args: Operands, kwargs: Static) -> Any:
        """Call a Module as it is written, with its hooks."""
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
