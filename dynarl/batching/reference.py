"""The reference: the program as it is written, in plain Python, for one sample alone on ordinary Tensors.

`mode="loop"` runs it for every sample, the self-check for a few. Only random numbers are not plain: they come from the
sample's own stream, so that they are those of a batched run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.batching.groups.execution import state
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.groups.plain_execution import PlainExecution
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.inputs import Inputs
from dynarl.batching.values.object_batch import ObjectBatch
from dynarl.batching.values.pytree import map_leaves, unflatten
from dynarl.batching.values.ragged import END, Ragged
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.wiring import batched_run_open

__all__ = ["Noise", "PlainSequence", "run_plain"]

Noise = Callable[[Any], Any]
"""A function of the tensors in a sample's arguments."""


def _none(x: Any) -> Any:
    return x


class PlainSequence:
    """One sample's sequence of a Ragged, on ordinary Tensors."""

    _batching_constant = True

    def __init__(self, ragged: Ragged, sample: int, noise: Noise) -> None:
        start = int(ragged.segments.starts[sample])
        self.elements = [noise(ragged.values[start + t]) for t in range(int(ragged.lengths[sample]))]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.elements)

    def __len__(self) -> int:
        return len(self.elements)

    def __getitem__(self, index: int) -> Tensor:
        index = index.__index__()
        if not -len(self) <= index < len(self):
            raise IndexError(f"Ragged: index {index} is beyond the end of a sequence")
        return self.elements[index]

    def steps(self) -> Iterator[Callable[[], Any]]:
        """Yield for each step a function that returns its element, and one that returns END behind the last."""
        for element in (*self.elements, END):
            yield partial(_none, element)


def _sample_of(x: Any, sample: int, given: list[Tensor], noise: Noise) -> Any:
    """Return one sample of an argument; its tensors are appended to `given`."""
    if isinstance(x, Ragged):
        sequence = PlainSequence(x, sample, noise)
        given += sequence.elements
        return sequence
    if isinstance(x, ObjectBatch):
        item, tensors = x.of_sample(sample, noise)
        given += tensors
        return item
    row = noise(x[sample])
    given.append(row)
    return row


def run_plain(
    program: Callable[..., Any], inputs: Inputs, sample: int, run: BatchedRun, noise: Noise = _none
) -> tuple[SampleGroup, Any]:
    """Return (group, result) of the program for one sample, the result's tensors with a leading axis of 1.

    `noise` is applied to each of the sample's tensors.
    """
    group = run.root if run.root.size == 1 else run.root.part(np.array([sample]))
    outer, execution = state.execution, PlainExecution(run, group, [])
    leaves = [_sample_of(x, sample, execution.given, noise) for x in inputs.leaves]
    args, kwargs = unflatten(inputs.structure, iter(leaves))
    with batched_run_open():
        state.execution = execution
        try:
            result = program(*args, **kwargs)
        except Exception as error:
            execution.add_note(error)
            raise
        finally:
            state.execution = outer
    if result.__class__ is Tensor:
        return group, SampleTensor(result.unsqueeze(0), group)
    return group, map_leaves(lambda leaf: _with_axis(leaf, group), result)


def _with_axis(leaf: Any, group: SampleGroup) -> Any:
    return SampleTensor(leaf.unsqueeze(0), group) if isinstance(leaf, Tensor) else leaf
