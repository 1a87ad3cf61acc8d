"""Reductions and scans: sums, moments, extremes, logical reductions, norms."""

from __future__ import annotations

import math
from typing import Any

from dynarl.autograd.device import xp
from dynarl.autograd.dispatch import overridable
from dynarl.autograd.ops.elementwise import maximum, minimum
from dynarl.autograd.ops.shape import stack
from dynarl.autograd.ops.sorting import Found, values_at
from dynarl.autograd.tape import primitive
from dynarl.autograd.tensor import wrap


def axes_of(x: Any, dim: Any) -> Any:
    """Return `dim` as NumPy's axis: None for all, a checked int, or a tuple of them."""
    if dim is None:
        return None
    if isinstance(dim, int):
        if not -max_dim(x) <= dim < max_dim(x):
            raise IndexError(f"dim: expected -{max_dim(x)} to {max_dim(x) - 1} for shape {tuple(x.shape)}, got {dim}")
        return dim if x.ndim else None
    if len(dim) == 0:
        return None
    return tuple(int(d) for d in dim)


def max_dim(x: Any) -> int:
    """Return the number of dimensions, at least 1 (a scalar counts as one dimension when named)."""
    return int(x.ndim) or 1


def _counted(x: Any, axis: Any) -> int:
    if axis is None:
        return math.prod(x.shape)
    return math.prod(x.shape[a] for a in ((axis,) if isinstance(axis, int) else axis))


def _respread(g: Any, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    np_ = xp(g)
    if axis is not None and not keepdims:
        g = np_.expand_dims(g, axis)
    if hasattr(g, "_node"):
        return np_.broadcast_to(g, shape)
    out = np_.empty(shape, dtype=g.dtype)  # three times faster than np.broadcast_to, which is written in Python
    out[...] = g
    return out


@primitive(linear=True)
def _sum(x: Any, *, axis: Any, keepdims: bool) -> Any:
    shape = x.shape
    return x.sum(axis=axis, keepdims=keepdims), (lambda g: _respread(g, shape, axis, keepdims),)


def sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Sum over all elements or over dim (an int or several)."""
    if dtype is not None:
        input = input.to(dtype)
    return _sum(_signed(input), axis=axes_of(input, dim), keepdims=keepdim)


def _signed(input: Any) -> Any:
    """Return unsigned integers as int64: PyTorch sums every integer dtype in int64, NumPy sums uint8 in uint64."""
    return input.long() if input.dtype.kind == "u" else input


@primitive(linear=True)
def _mean(x: Any, *, axis: Any, keepdims: bool) -> Any:
    if x.dtype.kind != "f":
        raise TypeError("the dtype must be floating; convert with .float()")
    shape, count = x.shape, _counted(x, axis)
    value = x.sum(axis=axis, keepdims=keepdims) / count if count else x.mean(axis=axis, keepdims=keepdims)
    return value, (lambda g: _respread(g / count, shape, axis, keepdims),)


def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Average over all elements or over dim."""
    if dtype is not None:
        input = input.to(dtype)
    return _mean(input, axis=axes_of(input, dim), keepdims=keepdim)


@primitive
def _var(x: Any, *, axis: Any, correction: float, keepdims: bool) -> Any:
    if x.dtype.kind != "f":
        raise TypeError("the dtype must be floating; convert with .float()")
    freedom = _counted(x, axis) - correction
    scale = 1.0 / freedom if freedom > 0 else math.nan  # PyTorch: NaN below one degree of freedom
    centred = x - x.mean(axis=axis, keepdims=True)
    value = (centred * centred).sum(axis=axis, keepdims=keepdims) * scale
    return value, (lambda g: _respread(g, x.shape, axis, keepdims) * (centred * (2 * scale)),)


def var(
    input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Any:
    """Return the variance with divisor n - correction (1 by default, Bessel's)."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return _var(input, axis=axes_of(input, dim), correction=correction, keepdims=keepdim)


def std(
    input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Any:
    """Return the standard deviation with divisor n - correction (1 by default: not NumPy's 0)."""
    return _root(var(input, dim, unbiased, keepdim, correction=correction))


@primitive
def _root(x: Any) -> Any:
    """The square root of a variance: PyTorch's gradient of std is zero where all elements are equal."""
    np_ = xp(x)
    y = np_.sqrt(x)
    return y, (lambda g: np_.where(y == 0, 0.0, g * 0.5 / np_.where(y == 0, 1.0, y)),)


@primitive
def _extreme(x: Any, *, axis: Any, keepdims: bool, name: str) -> Any:
    if hasattr(x, "_node"):
        best = {"max": amax, "min": amin}[name](x.detach(), axis, True)
    else:
        best = getattr(x, name)(axis=axis, keepdims=True)

    def vjp(g: Any) -> Any:
        ties = (x == best).astype(x.dtype)
        share = ties / ties.sum(axis=axis, keepdims=True)
        return _respread(g, x.shape, axis, keepdims) * share

    return best if keepdims else best.reshape(()) if axis is None else best.squeeze(axis), (vjp,)


_extreme.__name__ = "amax"


def amax(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Return the maximum over dim; ties share the gradient evenly."""
    return _extreme(input, axis=axes_of(input, dim), keepdims=keepdim, name="max")


def amin(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Return the minimum over dim; ties share the gradient evenly."""
    return _extreme(input, axis=axes_of(input, dim), keepdims=keepdim, name="min")


def max(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Return the maximum of all elements; with dim (values, indices) along it; with a tensor the elementwise one."""
    return _max_or_min(input, dim, keepdim, argmax, amax, maximum, Found)


def min(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Return the minimum of all elements; with dim (values, indices) along it; with a tensor the elementwise one."""
    return _max_or_min(input, dim, keepdim, argmin, amin, minimum, Found)


def _max_or_min(input: Any, dim: Any, keepdim: bool, arg: Any, reduce: Any, elementwise: Any, result: Any) -> Any:
    if dim is None:
        return reduce(input)
    if hasattr(dim, "_node"):
        return elementwise(input, dim)
    axes_of(input, dim)
    indices = arg(input, dim, keepdim=True)
    values = values_at(input, indices, dim, keepdim)
    return result(values, indices if keepdim or input.ndim == 0 else indices.squeeze(dim))


@overridable
def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the index of the maximum, of the flattened tensor or along dim."""
    return _arg(input, dim, keepdim, "argmax")


@overridable
def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the index of the minimum, of the flattened tensor or along dim."""
    return _arg(input, dim, keepdim, "argmin")


def _arg(input: Any, dim: int | None, keepdim: bool, name: str) -> Any:
    if input.array.size == 0 and (dim is None or input.shape[dim] == 0):
        raise ValueError(f"{name}: the tensor of shape {tuple(input.shape)} is empty")
    if keepdim and dim is not None and input.ndim:
        found = getattr(input.array, name)(axis=dim)
        return wrap(xp(input.array).expand_dims(found, dim))
    return wrap(getattr(input.array, name)(axis=axes_of(input, dim)))


@primitive(linear=True)
def _cumsum(x: Any, *, axis: int) -> Any:
    np_ = xp(x)

    def vjp(g: Any) -> Any:
        return xp(g).flip(xp(g).cumsum(xp(g).flip(g, axis), axis), axis)

    return np_.cumsum(x, axis), (vjp,)


def cumsum(input: Any, dim: int) -> Any:
    """Return running sums along dim."""
    return _cumsum(_signed(input), axis=dim)


@primitive
def _cumprod(x: Any, *, axis: int) -> Any:
    np_ = xp(x)
    y = np_.cumprod(x, axis)
    return y, (lambda g: xp(g).flip(xp(g).cumsum(xp(g).flip(g * y, axis), axis), axis) / x,)


@overridable
def cumprod(input: Any, dim: int) -> Any:
    """Return running products along dim."""
    input = _signed(input)
    if input._node is None or not bool((input.array == 0).any()):
        return _cumprod(input, axis=dim)
    running: list[Any] = []  # a zero: dividing by it would lose the gradient, so multiply step by step
    for part in input.unbind(dim):
        running.append(running[-1] * part if running else part)
    return stack(running, dim)


@overridable
def prod(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Multiply all elements, or along dim."""
    input = _signed(input)
    if dim is None:
        input, dim = input.reshape(-1), 0
    if input._node is None:
        return wrap(input.array.prod(axis=dim, keepdims=keepdim))
    last = cumprod(input, dim).select(dim, -1)
    return last.unsqueeze(dim) if keepdim else last


def norm(input: Any, p: Any = 2, dim: Any = None, keepdim: bool = False) -> Any:
    """Return the vector p-norm over all elements or over dim."""
    if p in (2, 2.0, "fro", None):
        return _norm2(input, axis=axes_of(input, dim), keepdims=keepdim)
    if p == math.inf:
        return amax(input.abs(), dim, keepdim)
    if p == 1:
        return sum(input.abs(), dim, keepdim)
    return sum(input.abs() ** p, dim, keepdim) ** (1.0 / p)


@primitive
def _norm2(x: Any, *, axis: Any, keepdims: bool) -> Any:
    if x.dtype.kind != "f":
        raise TypeError("the dtype must be floating; convert with .float()")
    np_ = xp(x)
    y = np_.sqrt((x * x).sum(axis=axis, keepdims=True))

    def vjp(g: Any) -> Any:
        safe = np_.where(y == 0, 1.0, y)  # the subgradient at zero is zero
        return _respread(g, x.shape, axis, keepdims) * (x / safe)

    return y if keepdims else (y.reshape(()) if axis is None else y.squeeze(axis)), (vjp,)


@overridable
def all(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Return whether all elements are true."""
    return wrap(input.array.all(axis=axes_of(input, dim), keepdims=keepdim))


@overridable
def any(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Return whether any element is true."""
    return wrap(input.array.any(axis=axes_of(input, dim), keepdims=keepdim))


@overridable
def count_nonzero(input: Any, dim: Any = None) -> Any:
    """Count elements that are not zero."""
    return wrap((input.array != 0).sum(axis=axes_of(input, dim)))


@primitive
def mean_squared_error(x: Any, y: Any) -> Any:
    """Return mean((x - y)^2) of two tensors of one shape and dtype.

    Forward and backward of 128 numbers take 8 us as one operation, 13 us as subtraction, square and mean.
    """
    error = x - y
    flat = error.reshape(-1)
    scale = 2.0 / flat.shape[0]
    return flat.dot(flat) * (0.5 * scale), (lambda g: error * (g * scale), lambda g: error * (g * -scale))
