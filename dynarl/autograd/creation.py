"""Creating tensors from data, constants and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dynarl.autograd import dispatch
from dynarl.autograd.device import device_of, is_array, namespace_for, to_device, xp
from dynarl.autograd.dtypes import get_default_dtype
from dynarl.autograd.tensor import Tensor, wrap


def _finish(array: Any, device: Any, requires_grad: bool) -> Tensor:
    out: Tensor = wrap(to_device(array, device))
    if dispatch.call_module is not None and not requires_grad:  # a batched call runs
        return dispatch.batching_rules["made"](out)
    return out.requires_grad_() if requires_grad else out


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Copy data (numbers, nested sequences, arrays, tensors) into a new tensor.

    Python floats give the default floating dtype, ints int64, bools bool; arrays keep theirs.
    """
    if data.__class__ is dispatch.sample_type or hasattr(data, "beside") or _holds_samples(data):
        out: Tensor = dispatch.batching_rules["tensor"](data, dtype)
        return out.requires_grad_() if requires_grad else out
    if isinstance(data, Tensor):
        data = data.array
    if isinstance(data, np.generic):
        data = np.asarray(data)
    if is_array(data):
        if device is None:
            device = device_of(data)
        array = data.astype(dtype or data.dtype, copy=True)
    else:
        array = _from_python(data, dtype)
    return _finish(array, device, requires_grad)


def _holds_samples(data: Any) -> bool:
    """Return whether a nested sequence holds a per-sample tensor."""
    if not isinstance(data, (list, tuple)) or not dispatch.in_batched_call():
        return False
    return any(
        part.__class__ is dispatch.sample_type or hasattr(part, "beside") or _holds_samples(part) for part in data
    )


def _from_python(data: Any, dtype: Any) -> Any:
    if dtype is None and isinstance(data, float):
        return np.array(data, dtype=get_default_dtype())
    has_tensors = isinstance(data, (list, tuple)) and any(isinstance(d, Tensor) for d in data)
    if has_tensors:
        data = [d.tolist() if isinstance(d, Tensor) else d for d in data]
    try:
        array = np.array(data, dtype=dtype)
    except ValueError as error:
        raise ValueError(f"tensor: nested sequences must have the same length at each depth; {error}") from error
    if array.dtype == object or array.dtype.kind in "US":
        raise TypeError(f"tensor: expected numbers in a regular nesting, got {type(data).__name__} of {array.dtype}")
    if dtype is None and array.dtype == np.float64 and not _holds_numpy(data):
        array = array.astype(get_default_dtype())
    return array


def _holds_numpy(data: Any) -> bool:
    """Return whether nested sequences end in NumPy values, whose dtype is kept."""
    while isinstance(data, (list, tuple)) and len(data):
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic))


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Return data as a tensor, sharing memory where dtype and device allow it."""
    if isinstance(data, Tensor):
        return data.to(dtype=dtype, device=device)
    if not is_array(data):
        return tensor(data, dtype=dtype, device=device)
    out: Tensor = wrap(data)
    return out.to(dtype=dtype, device=device)


def from_numpy(ndarray: np.ndarray[Any, Any]) -> Tensor:
    """Return a tensor that shares memory with a NumPy array."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"from_numpy: expected a numpy.ndarray, got {type(ndarray).__name__}")
    return wrap(ndarray)


def from_dlpack(ext_tensor: Any) -> Tensor:
    """Return a tensor that shares memory with an object that offers DLPack (torch, numpy, cupy, jax)."""
    if ext_tensor.__dlpack_device__()[0] == 1:  # kDLCPU
        return wrap(np.from_dlpack(ext_tensor))
    return wrap(namespace_for("cuda").from_dlpack(ext_tensor))


def _shape(size: Sequence[Any]) -> tuple[int, ...]:
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    return tuple(int(s) for s in size)


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return a tensor of zeros."""
    array = namespace_for(device).zeros(_shape(size), dtype=dtype or get_default_dtype())
    return _finish(array, device, requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return a tensor of ones."""
    array = namespace_for(device).ones(_shape(size), dtype=dtype or get_default_dtype())
    return _finish(array, device, requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return an uninitialised tensor."""
    array = namespace_for(device).empty(_shape(size), dtype=dtype or get_default_dtype())
    return _finish(array, device, requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return a tensor filled with a number, whose kind decides the dtype."""
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    if dtype is None:
        dtype = np.bool_ if isinstance(value, bool) else np.int64 if isinstance(value, int) else get_default_dtype()
    size = (size,) if isinstance(size, int) else size
    return _finish(namespace_for(device).full(_shape([size]), value, dtype=dtype), device, requires_grad)


def _like(name: str) -> Any:
    def op(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        if input.__class__ is dispatch.sample_type:  # equal for all samples
            make = globals()[name.removesuffix("_like")]
            return make(
                *input.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad
            )
        array = getattr(xp(input.array), name)(input.array, dtype=dtype)
        return _finish(array, device, requires_grad)

    op.__name__ = op.__qualname__ = name
    op.__doc__ = (
        f"Return a tensor as `{name.removesuffix('_like')}` makes it, with the shape, dtype and device of another."
    )
    return op


zeros_like, ones_like, empty_like = _like("zeros_like"), _like("ones_like"), _like("empty_like")


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return a tensor filled with a number, with the shape, dtype and device of another."""
    return _finish(xp(input.array).full_like(input.array, fill_value, dtype=dtype), device, requires_grad)


def arange(*bounds: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return the numbers of [start, end) in steps: arange(end), arange(start, end), arange(start, end, step)."""
    if dtype is None and any(isinstance(b, float) for b in bounds):
        dtype = get_default_dtype()
    start, end, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    if step == 0 or (end - start) * step < 0:
        raise ValueError(f"arange: step must lead from start to end, got start={start}, end={end}, step={step}")
    return _finish(namespace_for(device).arange(*bounds, dtype=dtype or np.int64), device, requires_grad)


def linspace(
    start: float, end: float, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return `steps` evenly spaced numbers from start to end, both included."""
    array = namespace_for(device).linspace(start, end, steps, dtype=dtype or get_default_dtype())
    return _finish(array, device, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Return a matrix with ones on the diagonal."""
    return _finish(namespace_for(device).eye(n, m, dtype=dtype or get_default_dtype()), device, requires_grad)


def _typed(dtype: Any) -> Any:
    def make(*data: Any) -> Tensor:
        if len(data) == 1 and not isinstance(data[0], int):
            return tensor(data[0], dtype=dtype)
        return empty(*data, dtype=dtype)

    return make


FloatTensor, DoubleTensor = _typed(np.float32), _typed(np.float64)
LongTensor, IntTensor, BoolTensor = _typed(np.int64), _typed(np.int32), _typed(np.bool_)


def is_tensor(obj: Any) -> bool:
    """Return whether an object is a Tensor."""
    return isinstance(obj, Tensor)


def numel(input: Tensor) -> int:
    """Return the number of elements."""
    return input.numel()
