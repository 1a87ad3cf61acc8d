"""Tensor: one array and its edge into the graph. Operations, conversions and backward are bound in methods.py."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from sys import getrefcount
from typing import TYPE_CHECKING, Any

import numpy as np

from dynarl.autograd import dispatch
from dynarl.autograd.device import device, device_of, is_array, to_device, to_host, xp
from dynarl.autograd.dtypes import get_default_dtype
from dynarl.autograd.graph import Leaf, Node, RemovableHandle
from dynarl.autograd.versions import mark_modified

__all__ = ["Parameter", "Tensor", "wrap"]


class Tensor:
    """An n-dimensional array that knows the operation it was computed by.

    `array` is the raw numpy or cupy array. The constructor does what `torch.Tensor` does: it copies data as the
    default floating dtype, or makes an uninitialised tensor of the given sizes; `tensor(...)` infers the dtype.
    """

    __slots__ = ("__weakref__", "_base", "_leaf", "_node", "array")
    __array_priority__ = 1000

    array: Any
    _node: Any
    _leaf: Any
    _base: Any  # set on views only: (tensor, operation, its static arguments)

    def __init__(self, *data: Any, device: Any = None) -> None:
        dtype = get_default_dtype()
        if len(data) == 1 and not isinstance(data[0], int):
            source = data[0].array if isinstance(data[0], Tensor) else data[0]
            array = source.astype(dtype) if is_array(source) else np.array(source, dtype=dtype)
        else:
            array = np.empty(data or (0,), dtype=dtype)
        self.array = to_device(array, device)
        self._node = self._leaf = None

    if TYPE_CHECKING:  # backward, conversions and operations, which stand above this class: bound in methods.py

        def backward(
            self,
            gradient: Tensor | None = None,
            retain_graph: bool | None = None,
            create_graph: bool = False,
            inputs: Any = None,
        ) -> None: ...
        def to(self, *target: Any, dtype: Any = None, device: Any = None, copy: bool = False) -> Tensor: ...

        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    # -- properties -----------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the dimensions."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type, a NumPy dtype."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim

    @property
    def device(self) -> device:
        """The device that holds the array."""
        return device_of(self.array)

    @property
    def is_cuda(self) -> bool:
        """Whether the array is on a GPU."""
        return self.device.type == "cuda"

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or the size of one dimension."""
        return self.array.shape if dim is None else self.array.shape[dim]

    def dim(self) -> int:
        """Return the number of dimensions."""
        return self.array.ndim

    def numel(self) -> int:
        """Return the number of elements."""
        return int(self.array.size)

    nelement = numel

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return int(self.array.nbytes)

    def element_size(self) -> int:
        """Return the bytes of one element."""
        return int(self.array.itemsize)

    def is_floating_point(self) -> bool:
        """Return whether the dtype is floating."""
        return bool(self.array.dtype.kind == "f")

    def is_contiguous(self) -> bool:
        """Return whether the elements lie in row-major order without gaps."""
        return bool(self.array.flags.c_contiguous)

    def data_ptr(self) -> int:
        """Return the address of the first element."""
        array = self.array
        return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)

    # -- gradients ------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether backward computes a gradient for it."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Switch the gradient of a leaf on or off, in place."""
        if dispatch.call_module is not None and requires_grad is not (self._node is not None):  # a batched call runs
            dispatch.refuse_memory(self, "requires_grad_")
        if not self.is_leaf:
            if requires_grad:
                return self
            raise RuntimeError("requires_grad_: only leaf tensors can stop requiring grad; use detach()")
        if not requires_grad:
            self._node = None
            return self
        if self.array.dtype.kind != "f":
            raise RuntimeError(f"requires_grad_: only floating tensors can require grad, got {self.array.dtype}")
        if self._leaf is None:
            self._leaf = Leaf()
        self._node = self._leaf
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether it was created by the user rather than computed by a recorded operation."""
        return self._node is None or self._node.__class__ is Leaf

    @property
    def grad_fn(self) -> Any:
        """The recorded operation that computed it, None for a leaf."""
        return None if self.is_leaf else self._node

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward accumulated; None before."""
        return None if self._leaf is None else self._leaf.grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if self._leaf is None:
            self._leaf = Leaf()
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(f"grad: must be a Tensor or None, got {value.__class__.__name__}")
        if value is not None and tuple(value.shape) != tuple(self.shape):
            raise RuntimeError(
                f"grad: a gradient of shape {tuple(value.shape)} for a tensor of shape {tuple(self.shape)}"
            )
        release_grad_view(self._leaf)
        self._leaf.grad = value

    def retain_grad(self) -> None:
        """Keep the gradient of a tensor that is no leaf in its `.grad`."""
        if self._node is None:
            raise RuntimeError("retain_grad: the tensor does not require grad")
        if self.is_leaf or self._leaf is not None:
            return
        leaf = self._leaf = Leaf()

        def keep(g: Tensor) -> None:
            leaf.grad = g if leaf.grad is None else leaf.grad + g

        self.register_hook(keep)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call `hook(grad)` when this tensor's gradient is known; a Tensor that it returns replaces the gradient."""
        if self._node is None:
            raise RuntimeError("register_hook: the tensor does not require grad")
        if self._node.__class__ not in (Leaf, Node):
            raise RuntimeError("register_hook: not offered on one of several outputs of a Function; hook a clone()")
        if self._node.hooks is None:
            self._node.hooks = []
        entry = (hook,)  # a new tuple, because one function may be registered twice
        self._node.hooks.append(entry)
        return RemovableHandle(self._node.hooks, entry)

    def detach(self) -> Tensor:
        """Return a tensor over the same memory without history."""
        return wrap(self.array)

    def detach_(self) -> Tensor:
        """Forget the history in place."""
        self._node = None
        return self

    @property
    def data(self) -> Tensor:
        """A tensor over the same memory without history; assigning copies into the parameter's memory."""
        return wrap(self.array)

    @data.setter
    def data(self, value: Tensor) -> None:
        array = value.array
        at_home = self._leaf is not None and self._leaf.flat is not None
        same = array.shape == self.array.shape and array.dtype == self.array.dtype
        if at_home and same and array.__class__ is self.array.__class__:
            xp(array).copyto(self.array, array)
            mark_modified(self.array)
        else:
            self.array = array
            if at_home:
                self._leaf.flat = self._leaf.grad_view = None

    # -- conversions ----------------------------------------------------------------------------------------------

    def numpy(self, *, force: bool = False) -> np.ndarray[Any, Any]:
        """Return the CPU array, sharing memory."""
        if not isinstance(self.array, np.ndarray):
            if not force:
                raise TypeError(f"numpy: the tensor is on {self.device}; copy it to the CPU first with .cpu()")
            return to_host(self.array)
        if self._node is not None and not force:
            raise RuntimeError("numpy: the tensor requires grad; use detach().numpy()")
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = getattr(xp(self), ufunc.__name__, None)
        if method != "__call__" or function is None or kwargs:
            raise TypeError(f"numpy.{ufunc.__name__}.{method}: not offered for Tensors; use .detach().numpy()")
        return function(*inputs)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.detach().array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    def item(self) -> Any:
        """Return the only element as a Python number."""
        if self.array.size != 1:
            raise RuntimeError(f"item: expected one element, got shape {tuple(self.shape)}")
        return self.array.item()

    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers."""
        return to_host(self.array).tolist()

    def __bool__(self) -> builtins.bool:
        if self.array.size != 1:
            raise RuntimeError(
                f"bool: the truth of a tensor of shape {tuple(self.shape)} is ambiguous; use any() or all()"
            )
        return bool(self.array.item())

    def __float__(self) -> builtins.float:
        return float(self.item())

    def __int__(self) -> builtins.int:
        return int(self.item())

    def __index__(self) -> builtins.int:
        if self.array.dtype.kind not in "iub" or self.array.size != 1:
            raise TypeError(f"index: expected one integer, got {self.array.dtype} of shape {tuple(self.shape)}")
        return int(self.array.item())

    def __len__(self) -> builtins.int:
        if self.array.ndim == 0:
            raise TypeError("len: a 0-dim tensor has no length")
        return int(self.array.shape[0])

    def __iter__(self) -> Iterator[Tensor]:
        if self.array.ndim == 0:
            raise TypeError("iter: a 0-dim tensor cannot be iterated")
        return (self[i] for i in range(self.array.shape[0]))

    def __contains__(self, value: Any) -> builtins.bool:
        return bool((self.array == (value.array if isinstance(value, Tensor) else value)).any())

    def __hash__(self) -> builtins.int:
        return id(self)

    def __deepcopy__(self, memo: dict[builtins.int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError("deepcopy: only leaf tensors can be copied deeply; use detach() or clone()")
        copy = _new(type(self))
        memo[id(self)] = copy
        copy.array, copy._node, copy._leaf = xp(self.array).array(self.array), None, None
        if self._node is not None:
            copy.requires_grad_()
        if self.grad is not None:
            copy.grad = self.grad.detach().clone()
        return copy

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), to_host(self.array), self._node is not None, str(self.device))

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.array.ndim == 0 else object.__format__(self, spec)

    def __repr__(self) -> str:
        return _render(self)


_new: Callable[[type], Any] = object.__new__


def wrap(array: Any, node: Any = None) -> Any:
    """Return a Tensor over an array without copying it; `node` is the edge to what made it."""
    if not is_array(array):
        array = np.asarray(array)
    tensor = _new(Tensor)
    tensor.array = array
    tensor._node = node
    tensor._leaf = None
    return tensor


class Parameter(Tensor):
    """A leaf tensor that a Module lists among its parameters."""

    __slots__ = ()

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        if data is None:
            data = wrap(np.empty(0, dtype=get_default_dtype()))
        self.array = data.array if isinstance(data, Tensor) else np.array(data, dtype=get_default_dtype())
        self._node = self._leaf = None
        if requires_grad:
            self.requires_grad_()


def release_grad_view(leaf: Leaf) -> None:
    """Before the next gradient overwrites the flat buffer, copy the old values for Tensors that still refer to them."""
    grad_view = leaf.grad_view
    if grad_view is None:
        return
    # `g = p.grad` must keep its values after zero_grad() and the next backward, as in PyTorch. Three references are
    # expected (leaf.grad_view, the local name, the argument of getrefcount) and one more from leaf.grad.
    if getrefcount(grad_view) > 3 + (leaf.grad is grad_view):
        view = grad_view.array
        grad_view.array = xp(view).array(view)
        leaf.grad_view = wrap(view)


def _rebuild(kind: type, array: np.ndarray[Any, Any], requires_grad: bool, where: str) -> Tensor:
    tensor = _new(kind)
    tensor.array, tensor._node, tensor._leaf = to_device(array, where), None, None
    return tensor.requires_grad_() if requires_grad else tensor


def _render(x: Tensor) -> str:
    body = np.array2string(to_host(x.array), separator=", ", precision=4, suppress_small=False, prefix="tensor(")
    parts = [f"tensor({body}"]
    if x.array.dtype not in (np.dtype(np.int64), np.dtype(np.bool_), get_default_dtype()):
        parts.append(f"dtype={x.array.dtype}")
    if x.device.type != "cpu":
        parts.append(f"device='{x.device}'")
    if not x.is_leaf:
        parts.append(f"grad_fn=<{x._node.name()}>")
    elif x._node is not None:
        parts.append("requires_grad=True")
    text = ", ".join(parts) + ")"
    return f"Parameter containing:\n{text}" if isinstance(x, Parameter) else text
