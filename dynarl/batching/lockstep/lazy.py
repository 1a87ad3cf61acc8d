"""Lazy values: what lock-step execution knows of tensors that are not computed yet.

In lock-step a `SampleTensor` holds a `LazyCall` in place of a Tensor (a `LazyOutput` for every result after the first).
Its shape and dtype come from a `Signature`: calls with the same signature can run as one. Once they have run, the
results of each call are rows of Tensors that many calls share.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.device import is_array
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.group import SampleGroup, number_key
from dynarl.batching.values.object_batch import RowsOf
from dynarl.batching.values.sample_tensor import STALE, SampleTensor
from dynarl.batching.values.shared_memory import LINKS_OF_ARGUMENT

__all__ = [
    "CombinedGroup",
    "LazyCall",
    "LazyOutput",
    "Signature",
    "TensorSpec",
    "as_now",
    "computed",
    "constant",
    "frozen",
    "is_small",
    "lazy_rows",
    "sample_tensor",
    "slot_of",
    "spec_of",
]


class TensorSpec:
    """Shape [1, ...], dtype, device and gradient of a lazy tensor; one object for each combination.

    It stands where a Tensor has its array, so specs are compared by identity, and the leading 1 stands for the rows.
    """

    __slots__ = ("device", "dtype", "ndim", "needs", "shape", "size")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], needs: bool, device: object) -> None:
        self.shape, self.dtype, self.needs, self.device = shape, dtype, needs, device
        self.ndim, self.size = len(shape), 1


_specs: dict[tuple[tuple[int, ...], np.dtype[Any], bool, str], TensorSpec] = {}


def spec_of(tensor: Tensor) -> TensorSpec:
    """Return the description of one row of a Tensor [n, ...]."""
    array, needs = tensor.array, tensor._node is not None
    device = "cpu" if array.__class__ is np.ndarray else str(tensor.device)
    key = (array.shape[1:], array.dtype, needs, device)
    spec = _specs.get(key)
    if spec is None:
        spec = _specs[key] = TensorSpec((1, *array.shape[1:]), array.dtype, needs, tensor.device)
    return spec


class Signature:
    """What calls must have in common to run as one: the operation or function, and the specs of their operands.

    Signatures outlive a batched run, with what was learned from the first call: the specs and structure of results.
    """

    __slots__ = ("columns", "eager", "kind", "number", "op", "operands", "recording", "specs", "structure")

    def __init__(self, kind: str, op: Any, recording: int) -> None:
        self.kind = kind  # "operation", "draw" or "scope"
        self.op, self.recording = op, recording
        self.eager = False  # calls run where they stand: they cannot be lazy
        self.columns = False  # calls with different numbers can run as one, with a row for each number
        self.number = -1
        self.specs: tuple[TensorSpec, ...] = ()
        self.structure: Any = "leaf"
        self.operands: tuple[object, ...] = ()  # the specs and classes of operands in the usual case


class LazyCall:
    """One call by one group; it stands for its first result in place of a SampleTensor's Tensor.

    `array` has shape and dtype but no numbers. `function` is what runs: the function or Module of a scope, or of a
    draw; for an operation, which its signature names, it holds the static arguments. `results` are Tensors with this
    call's rows from `start` on. `depth` is the number of lazy calls that must run before, `used` says whether another
    call has it as an operand. With `constant` all samples share the result, and `args` is the shared Tensor.
    """

    __slots__ = (
        "_node", "args", "array", "constant", "depth", "function", "group", "number", "operands", "results",
        "signature", "start", "used",
    )  # fmt: skip
    index = 0

    def __init__(
        self,
        signature: Any,
        spec: TensorSpec,
        group: SampleGroup,
        args: Any,
        function: Any,
        operands: list[Any],
        depth: int,
    ) -> None:
        self.signature, self.array, self._node, self.group = signature, spec, spec.needs or None, group
        self.args, self.function, self.operands, self.depth = args, function, operands, depth
        self.used = self.constant = False
        self.results: Any = None
        self.number = self.start = 0

    @property
    def device(self) -> object:
        """The device of the result."""
        return self.array.device

    @property
    def call(self) -> LazyCall:
        """The call that gives this result."""
        return self


class LazyOutput:
    """A result of a call after its first."""

    __slots__ = ("_node", "array", "call", "index")

    def __init__(self, call: LazyCall, index: int, spec: TensorSpec) -> None:
        self.call, self.index, self.array = call, index, spec
        self._node = spec.needs or None

    @property
    def device(self) -> object:
        """The device of the result."""
        return self.array.device


def computed(tensor: Tensor, group: SampleGroup) -> LazyCall:
    """Return a call whose result exists: a Tensor of the rows of a group."""
    call = LazyCall(None, spec_of(tensor), group, (), None, _NONE, -1)
    call.results = (tensor,)
    return call


_NONE: list[Any] = []


def constant(tensor: Tensor, group: SampleGroup) -> SampleTensor:
    """Return a SampleTensor of a Tensor that all samples share."""
    call = computed(wrap(tensor.array[None]), group)
    call.constant, call.args = True, tensor
    return sample_tensor(call, group)


def lazy_rows(source: Tensor) -> RowsOf:
    """Return what makes SampleTensors of consecutive rows of a stacked array, without slicing it for each."""
    spec, results = spec_of(source), (source,)

    def rows(group: SampleGroup, start: int) -> SampleTensor:
        # `sample_tensor(computed(...))` written out: this runs for every leaf of every object.
        call = LazyCall(None, spec, group, (), None, _NONE, -1)
        call.results, call.start = results, start
        x = _new(SampleTensor)
        x.tensor, x.group, x._parts, x._base = call, group, None, LINKS_OF_ARGUMENT
        return x

    return rows


def sample_tensor(slot: LazyCall | LazyOutput, group: SampleGroup) -> SampleTensor:
    """Return a SampleTensor of a lazy result."""
    x = _new(SampleTensor)
    x.tensor, x.group, x._parts = slot, group, None
    return x


_new: Callable[[type[SampleTensor]], SampleTensor] = object.__new__


def as_now(x: SampleTensor) -> SampleTensor:
    """Return what stands for a tensor as it is now: it might change in place before a call of it runs."""
    if x.group is STALE:
        x._refresh()
    return sample_tensor(x.tensor, x.group)


def slot_of(x: SampleTensor) -> Any:
    """Return the LazyCall or LazyOutput in a SampleTensor, giving it one if it holds a Tensor."""
    slot = x.tensor
    if slot.__class__ is not LazyCall and slot.__class__ is not LazyOutput:
        slot = x.tensor = computed(slot, x.group)
    return slot


class CombinedGroup(SampleGroup):
    """The rows of several calls that run as one; it is no part of the batch's root group."""

    __slots__ = ()

    def __init__(self, size: int) -> None:
        super().__init__(None, None, size)


def frozen(value: Any) -> Hashable:
    """Return a static argument as a key: by type and value, slices and containers by their parts."""
    kind = value.__class__
    if kind is slice:
        return slice, frozen(value.start), frozen(value.stop), frozen(value.step)
    if kind in (tuple, list):
        return kind, *[frozen(part) for part in value]
    if is_array(value) or isinstance(value, Tensor):
        return "object", id(value)
    return kind, number_key(value)


def is_small(tensor: Tensor) -> bool:
    """Return whether a shared tensor is small enough to be copied into a row for each sample."""
    return tensor._node is None and tensor.array.size <= 4096
