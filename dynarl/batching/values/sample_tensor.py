"""SampleTensor: a tensor as one sample's program sees it, with the batch axis hidden.

It is a Tensor of the sample's shape. Underneath is a Tensor [n, ...] with one row for each sample of a group.
Operations run on all rows at once; reading a concrete value (`if`, `int()`, `.item()`) splits the group where the rows
differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.device import to_host, xp
from dynarl.autograd.graph import Leaf
from dynarl.autograd.ops import elementwise, indexing
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.execution import Operation, apply, read, state
from dynarl.batching.groups.group import PerSampleError, SampleGroup
from dynarl.batching.groups.rows import take_unchecked

__all__ = ["STALE", "SampleTensor", "cast", "cloned", "detached"]

STALE = SampleGroup(None, None, 0)
"""The group of a view whose base has changed in place: it is taken again when it is used."""


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


def _common_number(execution: Any, index: Any) -> int | None:
    """Return the index that all samples of the current group have of a number that differs between samples, if one."""
    if not hasattr(index, "as_index"):
        return None
    position, log = execution.position, execution.log
    if position < len(log):  # as the first execution did: it may have had a group with several indices
        return 0 if log[position][0] is indexing._getitem else None
    number: int | None = index.common(execution.group) if index.kind is int else None
    return number


def _with_indices(x: Any, index: Any) -> Any:
    """Return an index with tensors in place of numbers that differ between samples (SampleNumber)."""
    parts = index if index.__class__ is tuple else (index,)
    found = tuple([part.as_index(x) if hasattr(part, "as_index") else part for part in parts])
    return found if index.__class__ is tuple else found[0]


def _reflected(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda x, y: method(y, x)


class SampleTensor(Tensor):
    """One sample's view of a Tensor [n, ...] that belongs to a group of n samples.

    It has no slots of its own, so that it is as small as a Tensor: those of Tensor hold its Tensor, group and parts.
    """

    if TYPE_CHECKING:
        __slots__ = ("_parts", "group", "tensor")
        tensor: Any
        group: SampleGroup
        _parts: dict[SampleGroup, Tensor] | None
    else:
        __slots__ = ()
        tensor = vars(Tensor)["array"]  # in lock-step a LazyCall or LazyOutput stands in for the Tensor
        group = vars(Tensor)["_leaf"]
        _parts = vars(Tensor)["_node"]
        # `_base` is unset unless a view was made of it or it is one: see values/shared_memory.py
    __array_priority__ = 2000
    __hash__ = object.__hash__

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
            tensor = self._parts[group] = take_unchecked(self.tensor, group.rows_in(self.group))
        return tensor

    def held(self, group: SampleGroup) -> Tensor | None:
        """Return the rows of a group if they were taken before."""
        if self.group is STALE:
            self._refresh()
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
    def _leaf(self) -> None:
        return None

    @property
    def array(self) -> NoReturn:
        """Refused: one sample has no array of its own."""
        raise PerSampleError(
            "this operation reads a tensor's raw array and is not offered inside a per-sample program; "
            "compose it of others, read values by item() or tolist(), or do it on the batch outside"
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

    nelement = numel

    @property
    def nbytes(self) -> int:
        """The bytes of one sample's elements."""
        return self.numel() * self.element_size()

    def element_size(self) -> int:
        """Return the bytes of one element."""
        return int(self.dtype.itemsize)

    def is_contiguous(self) -> bool:
        """Return True: the memory layout is the batch's."""
        return True

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

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    def numpy(self, *, force: bool = False) -> NoReturn:
        """Refused: one sample has no array of its own."""
        raise PerSampleError(
            "NumPy needs a tensor's array, and one sample of a per-sample program has none: use dynarl's functions, "
            "or the sample's values (item(), tolist()), for which samples with different values go separate ways"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        self.numpy()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = getattr(xp(wrap(0.0)), ufunc.__name__, None)
        if method != "__call__" or function is None or kwargs:
            raise TypeError(
                f"numpy.{ufunc.__name__}: not offered for a per-sample tensor; use dynarl's functions, or NumPy's on "
                "its values (item(), tolist()), for which samples with different values go separate ways"
            )
        return function(*inputs)

    def __str__(self) -> str:
        return self._alone().__repr__()

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.ndim == 0 else object.__format__(self, spec)

    def _alone(self) -> Tensor:
        """Return the sample's own Tensor, for its text; samples with different values go separate ways."""
        flat = self.reshape(-1)
        values = [flat[i].item() for i in range(self.numel())]
        held = self.tensor
        if not isinstance(held, Tensor):  # lock-step: reading the values has computed it, unless they were recorded
            results, execution = held.call.results, state.execution
            held = execution.rows(self) if results is None and execution is not None else results[held.index]
        alone: Tensor = wrap(np.array(values, self.dtype).reshape(self.shape), _origin(held._node))
        return alone

    # -- operations -------------------------------------------------------------------------------------------------

    __add__, __sub__, __mul__ = _operator(elementwise.add), _operator(elementwise.sub), _operator(elementwise.mul)
    __radd__, __rsub__, __rmul__ = _reflected(__add__), _reflected(__sub__), _reflected(__mul__)

    def __getitem__(self, index: Any) -> Any:
        execution = state.execution
        if not indexing._is_basic(index):
            number = None if execution is None else _common_number(execution, index)
            if number is None:
                return indexing.getitem(self, _with_indices(self, index))
            index = number
        if execution is None or execution.position < len(execution.log):
            return apply(indexing._getitem, (self,), {"index": index})
        return execution.getitem(self, index)

    def to(self, *target: Any, dtype: Any = None, device: Any = None, copy: bool = False, **_: Any) -> Any:
        """Return the tensor in another dtype; its device is the batch's."""
        for t in target:
            if isinstance(t, Tensor):
                dtype = t.dtype
            elif not isinstance(t, bool) and not _names_device(t):
                dtype = t
        if dtype is None or np.dtype(dtype) == self.dtype:
            return self.clone() if copy else self
        return apply(cast, (self,), {"dtype": np.dtype(dtype)})

    def detach(self) -> Any:
        """Return the tensor without history."""
        return apply(detached, (self,), {})

    def clone(self) -> Any:
        """Return a copy."""
        return apply(cloned, (self,), {})

    def sample(self, index: int) -> Any:
        """Return the value of sample `index` of the batch as an array, for debugging."""
        if self.group is STALE:
            self._refresh()
        rows = np.flatnonzero(self.group.samples() == index)
        if not len(rows):
            raise IndexError(f"sample: {index} is not in this group of samples {self.group.samples().tolist()}")
        return to_host(self.at(self.group).array)[rows[0]]

    # -- gradients --------------------------------------------------------------------------------------------------

    @property
    def is_leaf(self) -> bool:
        """Whether it was created by the program rather than computed by a recorded operation."""
        node = self._node
        if node is True:  # lock-step
            held = self.tensor
            node = None if held.call.results is None else held.call.results[held.index]._node
            return node.__class__ is Leaf
        return node is None or node.__class__ is Leaf

    @property
    def grad(self) -> None:
        """None: only the batch has gradients."""
        return

    @grad.setter
    def grad(self, value: Any) -> NoReturn:
        raise PerSampleError("grad: only the batch outside the per-sample program has gradients")

    @property
    def data(self) -> Any:
        """The tensor without history."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> NoReturn:
        raise PerSampleError("data: cannot be assigned inside a per-sample program; make a new tensor")

    def retain_grad(self) -> None:
        """Check that it requires grad, and do nothing: only backward, on the batch outside, sets `.grad`."""
        if self._node is None:
            raise RuntimeError("retain_grad: the tensor does not require grad")

    def register_hook(self, hook: Any) -> NoReturn:
        """Refused: a hook would see the gradients of all samples."""
        raise PerSampleError("register_hook: a hook would see the gradients of all samples; hook the batch outside")

    def backward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: only the batch has gradients."""
        raise PerSampleError(
            "backward: call it outside the per-sample program, on what the batched call returned; "
            "for gradients inside use dynarl.autograd.grad(loss, inputs)"
        )

    # -- copies -----------------------------------------------------------------------------------------------------

    def __copy__(self) -> Any:
        return self.detach()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if not self.is_leaf:
            raise RuntimeError("deepcopy: only leaf tensors can be copied deeply; use detach() or clone()")
        copy = memo[id(self)] = self.detach().clone()
        return copy

    def __reduce__(self) -> NoReturn:
        raise PerSampleError("pickle: a per-sample tensor belongs to one batched call; pickle its values, tolist()")

    def _refresh(self) -> None:
        """Take a stale view again: set in rules/change_in_place.py."""

    def __repr__(self) -> str:
        if self.group is STALE:
            self._refresh()
        execution, group = state.execution, self.group
        if execution is not None and execution.group.within(group):
            group = execution.group
        array = to_host(self.at(group).array)
        samples = group.samples()
        return f"per-sample tensor of samples {samples.tolist()}, rows:\n{array}"


def _names_device(target: Any) -> bool:
    return target.__class__.__name__ == "device" or (
        isinstance(target, str) and (target.partition(":")[0] in ("cpu", "cuda") or not hasattr(np, target))
    )


def _origin(node: Any) -> Any:
    """Return the operation that computed a sample's value: not the ones that moved its row between groups."""
    while node is not None and getattr(getattr(node, "op", None), "__name__", None) in _MOVES:
        node = next((edge for edge in node.edges if edge is not None), None)
    return node


_MOVES = ("take_rows", "join_rows", "gather_rows")
