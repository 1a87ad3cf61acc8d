"""Conversions: another dtype, another device, another memory order. Bound to Tensor as methods in methods.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.autograd.device import device_of, to_device, xp
from dynarl.autograd.tape import call, primitive
from dynarl.autograd.tensor import Tensor, wrap

__all__ = ["METHODS", "cast", "contiguous", "to"]


@primitive(linear=True)
def cast(x: Any, *, dtype: Any) -> Any:
    source = x.dtype
    return x.astype(dtype), (lambda g: g.astype(source),)


@primitive(linear=True)
def _contiguous(x: Any) -> Any:
    return (x if isinstance(x, Tensor) else xp(x).ascontiguousarray(x)), (lambda g: g,)


@primitive
def _move(x: Any, *, device: Any) -> Any:
    source = device_of(x) if not isinstance(x, Tensor) else x.device
    if isinstance(x, Tensor):
        return x, (lambda g: _move(g, device=source),)
    return to_device(x, device), (lambda g: call(_move, g, device=source),)


def to(self: Tensor, *target: Any, dtype: Any = None, device: Any = None, copy: bool = False, **_: Any) -> Tensor:
    """Return the tensor on another device or in another dtype; itself when nothing changes.

    `to(dtype)`, `to(device)`, `to(other_tensor)` and the keywords, as in PyTorch. Raises RuntimeError for a GPU that
    does not exist, ValueError for an unknown device.
    """
    for t in target:
        if isinstance(t, Tensor):
            dtype, device = t.dtype, t.device
        elif (
            (isinstance(t, str) and t.partition(":")[0] in ("cpu", "cuda"))
            or t.__class__.__name__ == "device"
            or (isinstance(t, str) and not hasattr(np, t))
        ):
            device = t
        elif not isinstance(t, bool):  # a bool is PyTorch's non_blocking
            dtype = t
    out: Any = self
    if dtype is not None and np.dtype(dtype) != self.array.dtype:
        kind = np.dtype(dtype)
        out = cast(out, dtype=kind) if kind.kind == "f" else wrap(self.array.astype(kind))
    if device is not None and to_device(out.array, device) is not out.array:
        out = _move(out, device=device)
    return out.clone() if copy and out is self else out


def contiguous(self: Tensor) -> Tensor:
    """Return the tensor with its elements in row-major order, itself if they are."""
    return self if self.array.flags.c_contiguous else _contiguous(self)


def _cpu(self: Tensor) -> Tensor:
    """Return the tensor on the CPU."""
    return self.to(device="cpu")


def _cuda(self: Tensor, index: int | None = None) -> Tensor:
    """Return the tensor on a GPU."""
    return self.to(device="cuda" if index is None else f"cuda:{index}")


def _type(self: Tensor, dtype: Any) -> Tensor:
    """Return the tensor in another dtype."""
    return self.to(dtype=dtype)


def _type_as(self: Tensor, other: Tensor) -> Tensor:
    """Return the tensor in the dtype and on the device of another."""
    return self.to(other)


def _to_dtype(name: str, dtype: Any) -> Any:
    def method(self: Tensor) -> Tensor:
        return self.to(dtype=dtype)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"Return the tensor as {np.dtype(dtype)}."
    return method


_DTYPES = {"float": "float32", "double": "float64", "half": "float16", "int": "int32", "long": "int64", "bool": "bool"}
METHODS: dict[str, Any] = {
    "to": to, "contiguous": contiguous, "cpu": _cpu, "cuda": _cuda, "type": _type, "astype": _type,
    "type_as": _type_as, **{name: _to_dtype(name, dtype) for name, dtype in _DTYPES.items()},
}  # fmt: skip
