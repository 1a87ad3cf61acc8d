"""SampleTensor: a tensor as one sample's program sees it, with the batch axis hidden.

It behaves as a Tensor of the sample's shape. Underneath is a Tensor [n, ...] with one row for each sample of a group.
Operations run on all rows at once; reading a concrete value (`if`, `int()`, `.item()`) splits the group where the rows
differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.device import to_host
from dynarl.autograd.ops import elementwise, indexing, inplace
from dynarl.batching.groups.execution import Operation, apply, read, state
from dynarl.batching.groups.group import PerSampleError, SampleGroup
from dynarl.batching.groups.rows import take_unchecked

__all__ = ["SampleTensor", "cast", "cloned", "detached"]


def cast(x: Tensor, *, dtype: Any) -> Tensor:
    """Return x in another dtype."""
    return x.to(dtype=dtype)


def cloned(x: Tensor) -> Tensor:
    """Return a copy of x."""
    return x.clone()


def detached(x: Tensor) -> Tensor:
    """Return x without history."""
    return x.detach()


def _operator(op: Operation) -> Callable[[Any, Any], Any]:
    """Return the operator method of an operation."""

    def method(x: Any, y: Any) -> Any:
        execution = state.execution
        if execution is None or execution.position < len(execution.log):
            return apply(op, (x, y), {})
        return execution.binary(op, x, y)

    method.__name__, method.__doc__ = op.__name__, op.__doc__
    return method


def _reflected(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda x, y: method(y, x)


class SampleTensor:
    """One sample's view of a Tensor [n, ...] that belongs to a group of n samples."""

    __slots__ = ("__weakref__", "_parts", "group", "tensor")
    __array_priority__ = 2000
    __array_ufunc__ = None
    __hash__ = object.__hash__

    tensor: Any  # in lock-step execution a LazyCall or LazyOutput stands in for the Tensor
    group: SampleGroup
    _parts: dict[SampleGroup, Tensor] | None

    def __init__(self, tensor: Tensor, group: SampleGroup) -> None:
        self.tensor, self.group, self._parts = tensor, group, None

    def at(self, group: SampleGroup) -> Any:
        """Return the Tensor of the rows of a group, which must be part of this tensor's own."""
        own = self.tensor
        if own.__class__ is not Tensor and not isinstance(own, Tensor) and state.execution is not None:
            return state.execution.materialize(self, group)
        if group is self.group:
            return own
        tensor = self.held(group)
        if tensor is None:
            if self._parts is None:
                self._parts = {}
            tensor = self._parts[group] = take_unchecked(own, group.rows_in(self.group))
        return tensor

    def held(self, group: SampleGroup) -> Tensor | None:
        """Return the rows of a group if they were taken before."""
        if group is self.group:
            own: Tensor = self.tensor
            return own
        return None if self._parts is None else self._parts.get(group)

    # -- description ------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of one sample's dimensions."""
        shape: tuple[int, ...] = self.tensor.array.shape[1:]
        return shape

    @property
    def ndim(self) -> int:
        """The number of one sample's dimensions."""
        return int(self.tensor.array.ndim) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type."""
        dtype: np.dtype[Any] = self.tensor.array.dtype
        return dtype

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
    def array(self) -> NoReturn:
        """Refused: one sample has no array of its own."""
        raise PerSampleError(
            "this operation reads a tensor's raw array and is not offered inside a per-sample program; "
            "compose it of others, or do it on the batch outside"
        )

    def size(self, dim: int | None = None) -> tuple[int, ...] | int:
        """Return one sample's shape, or the size of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """Return the number of one sample's dimensions."""
        return self.ndim

    def numel(self) -> int:
        """Return the number of elements of one sample."""
        return int(np.prod(self.shape, dtype=np.int64))

    def is_floating_point(self) -> bool:
        """Return whether the dtype is floating."""
        return bool(self.dtype.kind == "f")

    # -- concrete values: these split groups ------------------------------------------------------------------------

    def item(self) -> Any:
        """Return the sample's number; samples with different numbers go separate ways from here."""
        return read(self)

    def __bool__(self) -> bool:
        return bool(read(self))

    def __int__(self) -> int:
        return int(read(self))

    def __float__(self) -> float:
        return float(read(self))

    def __index__(self) -> int:
        if self.dtype.kind not in "iub":
            raise TypeError(f"index: expected an integer, got {self.dtype}")
        return int(read(self))

    def tolist(self) -> Any:
        """Return the sample's values as Python numbers; samples with different values go separate ways."""
        return self.item() if self.ndim == 0 else [part.tolist() for part in self]

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len: a 0-dim tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if self.ndim == 0:
            raise TypeError("iter: a 0-dim tensor cannot be iterated")
        return (self[i] for i in range(self.shape[0]))

    # -- operations -------------------------------------------------------------------------------------------------

    __add__, __sub__, __mul__ = _operator(elementwise.add), _operator(elementwise.sub), _operator(elementwise.mul)
    __radd__, __rsub__, __rmul__ = _reflected(__add__), _reflected(__sub__), _reflected(__mul__)

    def __getitem__(self, index: Any) -> Any:
        if not indexing._is_basic(index):
            return indexing.getitem(self, index)
        execution = state.execution
        if execution is None or execution.position < len(execution.log):
            return apply(indexing._getitem, (self,), {"index": index})
        return execution.getitem(self, index)

    def to(self, *target: Any, dtype: Any = None, **_: Any) -> Any:
        """Return the tensor in another dtype; its device is the batch's."""
        for t in target:
            dtype = t.dtype if isinstance(t, (Tensor, SampleTensor)) else t if dtype is None else dtype
        if dtype is None or np.dtype(dtype) == self.dtype:
            return self
        return apply(cast, (self,), {"dtype": np.dtype(dtype)})

    def detach(self) -> Any:
        """Return the tensor without history."""
        return apply(detached, (self,), {})

    def clone(self) -> Any:
        """Return a copy."""
        return apply(cloned, (self,), {})

    def contiguous(self) -> SampleTensor:
        """Return the tensor itself: the memory layout is the batch's."""
        return self

    def sample(self, index: int) -> Any:
        """Return the value of sample `index` of the batch as an array, for debugging."""
        rows = np.flatnonzero(self.group.samples() == index)
        if not len(rows):
            raise IndexError(f"sample: {index} is not in this group of samples {self.group.samples().tolist()}")
        return to_host(self.at(self.group).array)[rows[0]]

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise PerSampleError(
            "assignment into a tensor inside a per-sample program would change other samples' past; "
            "build a new tensor with stack, cat or where"
        )

    def backward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: only the batch has gradients."""
        raise PerSampleError("backward: call it outside the per-sample program, on what the batched call returned")

    def __repr__(self) -> str:
        array = to_host(self.at(self.group).array)
        samples = self.group.samples()
        return f"per-sample tensor of samples {samples.tolist()}, rows:\n{array}"

    def __format__(self, spec: str) -> str:
        return repr(self) if not spec or self.ndim else format(self.item(), spec)


def _refused(name: str) -> Callable[..., NoReturn]:
    def method(self: SampleTensor, *args: Any, **kwargs: Any) -> NoReturn:
        raise PerSampleError(
            f"{name}: changing a tensor in place inside a per-sample program would change other samples' past; "
            f"use the operation without the underscore"
        )

    method.__name__ = name
    return method


def _add_tensor_methods() -> None:
    """Give SampleTensor the methods of Tensor: these are composed of operations, which accept per-sample tensors."""
    for name, value in vars(Tensor).items():
        if name in vars(SampleTensor) or name in _NOT_OFFERED:
            continue
        if name in inplace.METHODS or name in _RANDOM_IN_PLACE:
            setattr(SampleTensor, name, _refused(name))
        elif name in ("T", "mT") or (callable(value) and not isinstance(value, type)):
            setattr(SampleTensor, name, value)
    for name in ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__"):
        if hasattr(SampleTensor, name):
            delattr(SampleTensor, name)  # Python then computes `x += y` as x = x + y


_NOT_OFFERED = ("__array__", "__array_ufunc__", "__dlpack__", "__reduce__", "__deepcopy__")
_RANDOM_IN_PLACE = ("uniform_", "normal_", "bernoulli_", "exponential_", "random_")
_add_tensor_methods()
