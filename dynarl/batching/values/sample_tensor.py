"""SampleTensor: a tensor as one sample's program sees it, with the batch axis hidden.

A lane behaves as a Tensor of the sample's shape. Underneath it is a Tensor [n, ...] with a row per sample of a
group; operations run on all rows at once, and reading a concrete value (`if`, `int()`, `.item()`) splits the
group where the rows disagree.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.autograd import Tensor, dispatch, is_grad_enabled
from dynarl.autograd.device import to_host
from dynarl.autograd.ops import inplace
from dynarl.autograd.ops.indexing import getitem
from dynarl.batching.eager.execution import read_value, state
from dynarl.batching.groups.group import PerSampleError, SampleGroup
from dynarl.batching.groups.rows import taken

__all__ = ["SampleTensor"]


class SampleTensor:
    """One sample's view of a Tensor [n, ...] that belongs to a group of n samples."""

    __slots__ = ("__weakref__", "_at", "group", "tensor")
    __array_priority__ = 2000
    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(self, tensor: Tensor, group: SampleGroup) -> None:
        self.tensor, self.group = tensor, group
        self._at: dict[SampleGroup, Tensor] | None = None

    def at(self, group: SampleGroup) -> Tensor:
        """Return the rows of a group that this lane's own contains."""
        if self.tensor.__class__ is not Tensor and state.context is not None and state.context.scheduler is not None:
            return state.context.scheduler.ready(self, group)
        if group is self.group:
            return self.tensor
        tensor = self.held(group)
        if tensor is None:
            if self._at is None:
                self._at = {}
            tensor = self._at[group] = taken(self.tensor, group.rows_in(self.group))
        return tensor

    def held(self, group: SampleGroup) -> Tensor | None:
        """Return the rows of a group if they are at hand."""
        if group is self.group:
            return self.tensor
        tensor = None if self._at is None else self._at.get(group)
        if tensor is not None and tensor._node is None and self.tensor._node is not None and is_grad_enabled():
            return None
        return tensor

    # -- what it is -----------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of one sample's dimensions."""
        return self.tensor.array.shape[1:]

    @property
    def ndim(self) -> int:
        """The number of one sample's dimensions."""
        return self.tensor.array.ndim - 1

    @property
    def dtype(self) -> Any:
        """The element type."""
        return self.tensor.array.dtype

    @property
    def device(self) -> Any:
        """The device of the batch."""
        return self.tensor.device

    @property
    def _node(self) -> Any:
        return self.tensor._node

    @property
    def requires_grad(self) -> bool:
        """Whether backward computes a gradient for it."""
        return self.tensor._node is not None

    @property
    def array(self) -> Any:
        """Refused: one sample has no array of its own."""
        raise PerSampleError(
            "this operation reads a tensor's raw array and is not offered inside a per-sample program; "
            "compose it of others, or do it on the batch outside"
        )

    def size(self, dim: int | None = None) -> Any:
        """Return one sample's shape, or the size of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """Return the number of one sample's dimensions."""
        return self.ndim

    def numel(self) -> int:
        """Return the number of elements of one sample."""
        return int(np.prod(self.shape, dtype=np.int64))

    def is_floating_point(self) -> bool:
        """Tell whether the dtype is floating."""
        return bool(self.dtype.kind == "f")

    # -- concrete values: where groups split -----------------------------------------------------------------------

    def item(self) -> Any:
        """Return the sample's number; samples whose numbers differ go separate ways from here."""
        return read_value(self)

    def __bool__(self) -> bool:
        return bool(read_value(self))

    def __int__(self) -> int:
        return int(read_value(self))

    def __float__(self) -> float:
        return float(read_value(self))

    def __index__(self) -> int:
        if self.dtype.kind not in "iub":
            raise TypeError(f"index: expected an integer, got {self.dtype}")
        return int(read_value(self))

    def tolist(self) -> Any:
        """Return the sample's values as Python numbers; samples that differ go separate ways."""
        return self.item() if self.ndim == 0 else [part.tolist() for part in self]

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len: a 0-dim tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Any:
        if self.ndim == 0:
            raise TypeError("iter: a 0-dim tensor cannot be iterated")
        return (getitem(self, i) for i in range(self.shape[0]))

    # -- without a batch axis these mean the same -------------------------------------------------------------------

    def to(self, *target: Any, dtype: Any = None, **_: Any) -> SampleTensor:
        """Return the tensor in another dtype."""
        for t in target:
            dtype = t.dtype if isinstance(t, (Tensor, SampleTensor)) else t if dtype is None else dtype
        if dtype is None or np.dtype(dtype) == self.dtype:
            return self
        return state.apply(_to, (self,), {"dtype": np.dtype(dtype)})

    def detach(self) -> SampleTensor:
        """Return the tensor without history."""
        return state.apply(_detach, (self,), {})

    def clone(self) -> SampleTensor:
        """Return a copy."""
        return state.apply(_clone, (self,), {})

    def contiguous(self) -> SampleTensor:
        """Return the tensor: where its elements lie is not for one sample to know."""
        return self

    def sample(self, index: int) -> Any:
        """Return the value of one sample of the batch as an array, to look at while debugging."""
        rows = np.flatnonzero(self.group.samples() == index)
        if not len(rows):
            raise IndexError(f"sample: {index} is not in this group of samples {self.group.samples().tolist()}")
        return to_host(self.at(self.group).array)[rows[0]]

    def __setitem__(self, index: Any, value: Any) -> None:
        raise PerSampleError(
            "assignment into a tensor inside a per-sample program would change other samples' past; "
            "build a new tensor with stack, cat or where"
        )

    def backward(self, *args: Any, **kwargs: Any) -> None:
        """Refused: gradients are taken of the batch."""
        raise PerSampleError("backward: call it outside the per-sample program, on what the batched call returned")

    def __repr__(self) -> str:
        array = to_host(self.at(self.group).array)
        samples = self.group.samples()
        return f"per-sample tensor of samples {samples.tolist()}, rows:\n{array}"

    def __format__(self, spec: str) -> str:
        return repr(self) if not spec or self.ndim else format(self.item(), spec)


def _to(x: Tensor, *, dtype: Any) -> Tensor:
    return x.to(dtype=dtype)


def _clone(x: Tensor) -> Tensor:
    return x.clone()


def _detach(x: Tensor) -> Tensor:
    return x.detach()


def _refused(name: str) -> Any:
    def method(self: SampleTensor, *args: Any, **kwargs: Any) -> Any:
        raise PerSampleError(
            f"{name}: changing a tensor in place inside a per-sample program would change other samples' past; "
            f"use the operation without the underscore"
        )

    method.__name__ = name
    return method


def _bind() -> None:
    """Give lanes the methods of Tensors: they are made of operations, which know lanes."""
    for name, value in vars(Tensor).items():
        if name in vars(SampleTensor) or name in (
            "__array__",
            "__array_ufunc__",
            "__dlpack__",
            "__reduce__",
            "__deepcopy__",
        ):
            continue
        if name in inplace.METHODS or name in ("uniform_", "normal_", "bernoulli_", "exponential_", "random_"):
            setattr(SampleTensor, name, _refused(name))
        elif name in ("T", "mT") or (callable(value) and not isinstance(value, type)):
            setattr(SampleTensor, name, value)
    for name in ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__"):
        if hasattr(SampleTensor, name):
            delattr(SampleTensor, name)  # `x += y` then means x = x + y


_bind()
dispatch.register_sample_type(SampleTensor, state.apply, lambda: state.context is not None)
