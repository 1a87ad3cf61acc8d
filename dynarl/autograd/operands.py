"""Operands: which values an operation accepts, their common dtype, gradients that fit them, errors that name them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dynarl.autograd.device import device_of, is_array
from dynarl.autograd.dtypes import result_type
from dynarl.autograd.graph import Node
from dynarl.autograd.tensor import Tensor

__all__ = ["NUMBERS", "describe", "explained", "fit", "fitted", "numbers_moved", "operand", "promote", "same_dtype"]

NUMBERS = frozenset((float, int, bool))


def operand(value: Any) -> Any:
    """Return an operand as the body receives it: a raw array, or a Python number (which never promotes a tensor)."""
    if type(value) in NUMBERS:  # not __class__: a number that differs between samples has the class of its values
        return value
    if isinstance(value, Tensor):
        return value.array
    if value.__class__ is np.ndarray or is_array(value):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "beside"):  # a number that differs between samples: the operation fails, see `numbers_moved`
        return value
    if isinstance(value, (list, tuple)):
        raise TypeError(f"expected a Tensor, an array or a number, got {type(value).__name__}; wrap it: tensor(...)")
    raise TypeError(f"expected a Tensor, an array or a number, got {type(value).__name__}")


def promote(arrays: list[Any]) -> list[Any]:
    """Cast arrays to their common dtype; numbers stay numbers unless all operands are."""
    dtype = result_type(*arrays)
    if all(x.__class__ in NUMBERS for x in arrays):
        return [np.asarray(x, dtype=dtype) for x in arrays]
    return [x if x.__class__ in NUMBERS or x.dtype == dtype else x.astype(dtype) for x in arrays]


def fit(g: Any, like: Any) -> Any:
    """Sum a gradient over the axes along which its operand was broadcast, and cast it to the operand's dtype."""
    shape = like.shape
    if g.shape != shape:
        extra = g.ndim - len(shape)
        axes = tuple(range(extra)) + tuple(
            i + extra for i, size in enumerate(shape) if size == 1 and g.shape[i + extra] != 1
        )
        if axes:
            g = g.sum(axis=axes, keepdims=True)
        g = g.reshape(shape)
    return g if g.dtype == like.dtype else g.astype(like.dtype)


def fitted(vjp: Callable[[Any], Any], shape: tuple[int, ...], dtype: Any) -> Callable[[Any], Any]:
    target = _Like(shape, dtype)
    return lambda g: fit(vjp(g), target)


class _Like:
    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype = shape, dtype


def same_dtype(x: Any, y: Any) -> bool:
    """Return whether NumPy's own promotion gives what PyTorch's would; both operands plain numbers become an array."""
    if y.__class__ in NUMBERS:
        return x.__class__ not in NUMBERS and x.dtype.kind == "f"
    if x.__class__ in NUMBERS:
        return bool(y.dtype.kind == "f")
    return x.dtype is y.dtype


def describe(args: Any) -> str:
    """Render operands for an error message: shapes, dtypes and devices."""
    parts = []
    for a in args:
        if isinstance(a, Tensor):
            a = a.array
        if is_array(a):
            parts.append(f"{tuple(a.shape)} {a.dtype} on {device_of(a)}")
        else:
            parts.append(repr(a) if isinstance(a, (int, float, bool, type(None))) else type(a).__name__)
    return ", ".join(parts)


def numbers_moved(args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Move 0-dim CPU tensors to the other operand's device, as PyTorch does; None when that changes nothing.

    A Python number that differs between samples (SampleNumber) becomes a per-sample tensor.
    """
    if any(type(a) not in NUMBERS and hasattr(a, "beside") for a in args):
        like = next(a for a in args if isinstance(a, Tensor))
        return tuple(a.beside(like) if hasattr(a, "beside") else a for a in args)
    target = next((a.device for a in args if isinstance(a, Tensor) and a.device.type != "cpu"), None)
    lonely = [isinstance(a, Tensor) and a.ndim == 0 and a.device.type == "cpu" for a in args]
    if target is None or not any(lonely):
        return None
    return tuple(a.to(device=target) if alone else a for a, alone in zip(args, lonely))


def explained(op: Any, args: tuple[Any, ...], error: Exception) -> Exception:
    """Return an error that names the operation, the condition that failed and the operands."""
    devices = {str(device_of(a.array)) for a in args if isinstance(a, Tensor)}
    if len(devices) > 1:
        text = f"{op.__name__}: all operands must be on one device, got {describe(args)}; move one with .to(device)"
        return RuntimeError(text)
    kind = next(k for k in (IndexError, TypeError, ValueError) if isinstance(error, k))  # NumPy's AxisError is two
    made = [
        f"operand {i} came from {a._node!r}"
        for i, a in enumerate(args)
        if isinstance(a, Tensor) and isinstance(a._node, Node)
    ]
    return kind("; ".join([f"{op.__name__}: {error}, got {describe(args)}", *made]))
