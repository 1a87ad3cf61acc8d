"""Devices: which array library holds a tensor. The one file that imports CuPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from dynarl.extras import how_to_install

__all__ = ["Backend", "cuda", "device", "device_of", "register_device", "to_device", "xp"]


class device:
    """Name a device as PyTorch does: `device("cpu")`, `device("cuda:1")`, `device("cuda", 1)`."""

    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __init__(self, type: str | device, index: int | None = None) -> None:
        if isinstance(type, device):
            name, index = type.type, type.index
        else:
            name, colon, number = type.partition(":")
            if colon and not number.isdigit():
                raise ValueError(f"device: expected 'cpu', 'cuda' or 'cuda:N', got {type!r}")
            index = int(number) if colon else index
        self.type, self.index = name, index

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            other = device(other)
        if not isinstance(other, device):
            return NotImplemented
        return self.type == other.type and (self.index or 0) == (other.index or 0)

    def __hash__(self) -> int:
        return hash((self.type, self.index or 0))


@dataclass(frozen=True)
class Backend:
    """An array library: its array type, a namespace with NumPy's names, and the ways in and out."""

    name: str
    array_type: type
    namespace: Any
    to_host: Callable[[Any], np.ndarray]
    from_host: Callable[[np.ndarray, int], Any]
    index_of: Callable[[Any], int | None]


CPU = device("cpu")
_by_name: dict[str, Backend] = {}
_namespace: dict[type, Any] = dict.fromkeys(
    (np.ndarray, np.float32, np.float64, np.int64, np.bool_, float, int, bool), np
)
_backend: dict[type, Backend] = {}


def register_device(
    name: str,
    array_type: type,
    namespace: Any,
    to_host: Callable[[Any], np.ndarray],
    from_host: Callable[[np.ndarray, int], Any],
    index_of: Callable[[Any], int | None] = lambda array: None,
) -> None:
    """Register an array library under a device name; `namespace` has NumPy's function names."""
    backend = Backend(name, array_type, namespace, to_host, from_host, index_of)
    _by_name[name] = backend
    _backend[array_type] = backend
    _namespace[array_type] = namespace


def xp(x: Any) -> Any:
    """Return the namespace (NumPy's names) of an array: numpy, cupy, or the lifted ops for a Tensor."""
    try:
        return _namespace[x.__class__]
    except KeyError:
        return _namespace_of_subclass(x)


def _namespace_of_subclass(x: Any) -> Any:
    for array_type, namespace in _namespace.items():
        if isinstance(x, array_type):
            _namespace[x.__class__] = namespace
            return namespace
    return np


def is_array(x: Any) -> bool:
    """Return whether x is an array of a known library (Tensors and scalars are not)."""
    return isinstance(x, np.ndarray) or x.__class__ in _backend


def device_of(array: Any) -> device:
    """Return the device that holds an array."""
    backend = _backend.get(array.__class__)
    return CPU if backend is None else device(backend.name, backend.index_of(array))


def to_host(array: Any) -> np.ndarray:
    """Copy an array to the CPU; a NumPy array is returned as it is."""
    backend = _backend.get(array.__class__)
    return array if backend is None else backend.to_host(array)


def to_device(array: Any, where: device | str | None) -> Any:
    """Move an array to a device; returned as it is when it is there already."""
    if where is None:
        return array
    target = where if isinstance(where, device) else device(where)
    if target == device_of(array) and (target.index is not None or target.type == device_of(array).type):
        return array
    host = to_host(array)
    return host if target.type == "cpu" else _find(target).from_host(host, target.index or 0)


def namespace_for(where: device | str | None) -> Any:
    """Return the array namespace of a device: numpy for None and cpu."""
    target = CPU if where is None else device(where)
    return np if target.type == "cpu" else _find(target).namespace


def _find(target: device) -> Backend:
    if target.type not in _by_name:
        if target.type != "cuda":
            known = ", ".join(["cpu", "cuda", *_by_name])
            raise ValueError(f"device: {target} is not known, expected one of {known}")
        _register_cupy()
    backend = _by_name[target.type]
    if target.type == "cuda" and (target.index or 0) >= cuda.device_count():
        raise RuntimeError(f"device: {target} does not exist, this machine has {cuda.device_count()} CUDA devices")
    return backend


def _import_cupy() -> ModuleType:
    try:
        return import_module("cupy")
    except ImportError as error:
        raise RuntimeError(
            f"device cuda: CuPy is not installed; {how_to_install('cuda12', 'cuda13')}, whichever matches the driver"
        ) from error


def _register_cupy() -> None:
    cupy = _import_cupy()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(f"device cuda: no usable NVIDIA driver or GPU ({error})") from error
    if count == 0:
        raise RuntimeError("device cuda: the driver reports no GPU")

    def from_host(array: np.ndarray, index: int) -> Any:
        with cupy.cuda.Device(index):
            return cupy.asarray(array)

    register_device("cuda", cupy.ndarray, cupy, cupy.asnumpy, from_host, lambda array: int(array.device.id))


class cuda:
    """The functions of `torch.cuda` that apply to CuPy."""

    @staticmethod
    def is_available() -> bool:
        """Return whether CuPy is installed and sees a GPU."""
        return cuda.device_count() > 0

    @staticmethod
    def device_count() -> int:
        """Return the number of GPUs that CuPy sees; 0 when it is not installed."""
        try:
            cupy = _import_cupy()
            return int(cupy.cuda.runtime.getDeviceCount())
        except Exception:  # a missing package and every driver error mean the same: no GPU
            return 0

    @staticmethod
    def synchronize() -> None:
        """Wait until the GPU has finished all queued work."""
        _import_cupy().cuda.get_current_stream().synchronize()
