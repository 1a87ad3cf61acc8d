"""Dtypes under PyTorch's names, and PyTorch's rules of promotion."""

from __future__ import annotations

from typing import Any

import numpy as np

float16 = half = np.dtype(np.float16)
float32 = np.dtype(np.float32)
float64 = double = np.dtype(np.float64)
int8 = np.dtype(np.int8)
int16 = short = np.dtype(np.int16)
int32 = np.dtype(np.int32)
int64 = long = np.dtype(np.int64)
uint8 = np.dtype(np.uint8)
bool_ = np.dtype(np.bool_)

_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2}
_SCALAR_DTYPE = {bool: bool_, int: int64, float: float32}
_default = float32


def get_default_dtype() -> np.dtype[Any]:
    """Return the dtype of new floating tensors."""
    return _default


def set_default_dtype(dtype: Any) -> None:
    """Set the dtype of new floating tensors and of Python floats that meet integer tensors."""
    global _default
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        raise TypeError(f"set_default_dtype: expected a floating dtype, got {dtype}")
    _default = _SCALAR_DTYPE[float] = dtype


def _join(x: np.dtype[Any] | None, y: np.dtype[Any]) -> np.dtype[Any]:
    if x is None or x == y:
        return y
    if _CATEGORY[x.kind] != _CATEGORY[y.kind]:
        return x if _CATEGORY[x.kind] > _CATEGORY[y.kind] else y
    return np.promote_types(x, y)


def result_type(*operands: Any) -> np.dtype[Any]:
    """Return the dtype an operation computes in, by PyTorch's rules.

    Tensors with dimensions decide; a 0-dim tensor and then a Python number count only when their
    kind (bool < integer < floating) is higher than what decided so far.
    """
    ranks: list[np.dtype[Any] | None] = [None, None, None]
    for operand in operands:
        dtype = _SCALAR_DTYPE.get(operand.__class__)
        if dtype is not None:
            ranks[2] = _join(ranks[2], dtype)
        else:
            rank = 0 if operand.ndim else 1
            ranks[rank] = _join(ranks[rank], operand.dtype)
    result: np.dtype[Any] | None = None
    for dtype in ranks:
        if dtype is None:
            continue
        if result is None or _CATEGORY[dtype.kind] > _CATEGORY[result.kind]:
            result = _join(result, dtype)
    assert result is not None
    return result
