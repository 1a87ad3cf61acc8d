"""Elementwise operations: arithmetic, powers, exponentials, comparisons, selection."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dynarl.autograd.device import xp
from dynarl.autograd.dispatch import overridable
from dynarl.autograd.dtypes import result_type
from dynarl.autograd.operands import operand, promote
from dynarl.autograd.tape import primitive
from dynarl.autograd.tensor import wrap


def quiet(body: Any) -> Any:
    """Silence NumPy's warnings: 0/0, log(0) and overflow give NaN and inf, as in PyTorch."""
    return np.errstate(all="ignore")(body)


@primitive(promotes=True, linear=True)
def add(x: Any, y: Any) -> Any:
    return x + y, (lambda g: g, lambda g: g)


@primitive(promotes=True, linear=True)
def sub(x: Any, y: Any) -> Any:
    return x - y, (lambda g: g, lambda g: -g)


@primitive(promotes=True)
def mul(x: Any, y: Any) -> Any:
    return x * y, (lambda g: g * y, lambda g: g * x)


@primitive(promotes=True)
@quiet
def _true_divide(x: Any, y: Any) -> Any:
    out = x / y
    return out, (lambda g: g / y, lambda g: -g * out / y)


_true_divide.__name__ = "div"


def div(x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
    """Divide; integers give the default floating dtype. rounding_mode "floor" or "trunc" rounds the quotient."""
    if rounding_mode == "floor":
        return floor_divide(x, y)
    if rounding_mode == "trunc":
        return truncated_divide(x, y)
    if rounding_mode is not None:
        raise ValueError(f"div: rounding_mode must be None, 'floor' or 'trunc', got {rounding_mode!r}")
    dtype = getattr(x, "dtype", None)
    if dtype is not None and dtype.kind == "f":
        return _true_divide(x, y)
    return divide_whole(x, y)


@overridable
def truncated_divide(x: Any, y: Any) -> Any:
    """Return x / y rounded towards zero, in the operands' dtype."""
    return trunc(_true_divide(x, y)).to(result_type(operand(x), operand(y)))


@overridable
def divide_whole(x: Any, y: Any) -> Any:
    """Return x / y for an x that is no floating tensor."""
    x, y = operand(x), operand(y) if not hasattr(y, "_node") else y
    raw = getattr(y, "array", y)
    if result_type(x, raw).kind != "f":
        x = np.asarray(x) if not hasattr(x, "dtype") else x
        x = x.astype(result_type(x, 0.0))
    return _true_divide(wrap(x), y) if hasattr(x, "dtype") else _true_divide(x, y)


@primitive(promotes=True)
@quiet
def pow(x: Any, y: Any) -> Any:
    if y.__class__ in (int, float):
        if y == 2:
            return x * x, (lambda g: g * (x * 2), None)
        return x**y, (lambda g: g * (x ** (y - 1) * y) if y != 0 else g * 0.0, None)
    out = x**y
    np_ = xp(out)

    def vjp_exponent(g: Any) -> Any:
        safe = np_.where(x > 0, x, 1.0) if hasattr(x, "dtype") else x
        return g * out * xp(safe).log(safe) if hasattr(safe, "dtype") else g * out * (math.log(x) if x > 0 else 0.0)

    def vjp_base(g: Any) -> Any:
        return g * np_.where(y == 0, 0.0, y * x ** np_.where(y == 0, 1.0, y - 1))

    return out, (vjp_base, vjp_exponent)


@primitive(promotes=True)
def logaddexp(x: Any, y: Any) -> Any:
    np_ = xp(y if x.__class__ in (int, float, bool) else x)
    out = np_.logaddexp(x, y)
    return out, (lambda g: g * np_.exp(x - out), lambda g: g * np_.exp(y - out))


@primitive(linear=True)
def neg(x: Any) -> Any:
    return -x, (lambda g: -g,)


def positive(x: Any) -> Any:
    """Return x itself (the unary +)."""
    return x


@primitive(floats=True)
@quiet
def exp(x: Any) -> Any:
    y = xp(x).exp(x)
    return y, (lambda g: g * y,)


@primitive(floats=True)
def exp2(x: Any) -> Any:
    y = xp(x).exp2(x)
    return y, (lambda g: g * y * math.log(2.0),)


@primitive(floats=True)
@quiet
def expm1(x: Any) -> Any:
    y = xp(x).expm1(x)
    return y, (lambda g: g * (y + 1),)


@primitive(floats=True)
@quiet
def log(x: Any) -> Any:
    return xp(x).log(x), (lambda g: g / x,)


@primitive(floats=True)
@quiet
def log2(x: Any) -> Any:
    return xp(x).log2(x), (lambda g: g / (x * math.log(2.0)),)


@primitive(floats=True)
@quiet
def log10(x: Any) -> Any:
    return xp(x).log10(x), (lambda g: g / (x * math.log(10.0)),)


@primitive(floats=True)
@quiet
def log1p(x: Any) -> Any:
    return xp(x).log1p(x), (lambda g: g / (x + 1),)


@primitive(floats=True)
@quiet
def sqrt(x: Any) -> Any:
    y = xp(x).sqrt(x)
    return y, (lambda g: g / (y * 2),)


@primitive(floats=True)
@quiet
def rsqrt(x: Any) -> Any:
    y = 1 / xp(x).sqrt(x)
    return y, (lambda g: g * y * y * y * -0.5,)


@primitive
def square(x: Any) -> Any:
    return x * x, (lambda g: g * (x * 2),)


@primitive(floats=True)
@quiet
def reciprocal(x: Any) -> Any:
    y = 1 / x
    return y, (lambda g: -g * y * y,)


@primitive
def abs(x: Any) -> Any:
    return xp(x).abs(x), (lambda g: g * xp(x).sign(x),)


@primitive
def sign(x: Any) -> Any:
    return xp(x).sign(x), (lambda g: g * 0.0,)


@primitive(floats=True)
def tanh(x: Any) -> Any:
    y = xp(x).tanh(x)
    return y, (lambda g: g * (1 - y * y),)


def _step(y: Any, name: str) -> Any:
    @primitive
    def op(x: Any) -> Any:
        return getattr(xp(x), y)(x) if x.dtype.kind == "f" else x, (lambda g: g * 0.0,)

    op.__name__ = name
    return op


floor = _step("floor", "floor")
ceil = _step("ceil", "ceil")
trunc = _step("trunc", "trunc")
_rint = _step("rint", "round")


def round(x: Any, *, decimals: int = 0) -> Any:
    """Round half to even; `decimals` places."""
    return _rint(x) if decimals == 0 else _rint(x * 10**decimals) / 10**decimals


def frac(x: Any) -> Any:
    """Return x - trunc(x)."""
    return x - trunc(x)


@primitive(promotes=True)
def maximum(x: Any, y: Any) -> Any:
    out = xp(y if x.__class__ in (int, float, bool) else x).maximum(x, y)
    # A tie gives each side half of the gradient, as in PyTorch.
    return out, (lambda g: g * (x > y) + g * 0.5 * (x == y), lambda g: g * (y > x) + g * 0.5 * (x == y))


@primitive(promotes=True)
def minimum(x: Any, y: Any) -> Any:
    out = xp(y if x.__class__ in (int, float, bool) else x).minimum(x, y)
    return out, (lambda g: g * (x < y) + g * 0.5 * (x == y), lambda g: g * (y < x) + g * 0.5 * (x == y))


@primitive(promotes=True)
@quiet
def fmod(x: Any, y: Any) -> Any:
    quotient = x / y
    return xp(quotient).fmod(x, y), (lambda g: g, lambda g: -g * xp(quotient).trunc(quotient))


@primitive(promotes=True)
@quiet
def remainder(x: Any, y: Any) -> Any:
    np_ = xp(y if x.__class__ in (int, float, bool) else x)
    return np_.remainder(x, y), (lambda g: g, lambda g: -g * np_.floor(x / y))


@overridable
def floor_divide(x: Any, y: Any) -> Any:
    """Return floor(x / y); no gradient."""
    x, y = promote([operand(x), operand(y)])
    return wrap(x // y)


@primitive
def _clamp(x: Any, *, low: Any, high: Any) -> Any:
    out = xp(x).clip(x, low, high)

    def vjp(g: Any) -> Any:
        inside = True
        if low is not None:
            inside = x >= low
        if high is not None:
            inside = inside & (x <= high)
        return g * inside

    return out, (vjp,)


def clamp(input: Any, min: Any = None, max: Any = None) -> Any:
    """Limit values to [min, max]; each bound is a number, a tensor that broadcasts, or None (not both None)."""
    if min is None and max is None:
        raise ValueError("clamp: at least one of min and max must be given, got None for both")
    if hasattr(min, "shape") or hasattr(max, "shape"):
        out = input if min is None else maximum(input, min)
        return out if max is None else minimum(out, max)
    if input.dtype.kind != "f" and (min.__class__ is float or max.__class__ is float):
        input = input.to(result_type(input, 0.0))
    return _clamp(input, low=min, high=max)


def clamp_min(input: Any, min: Any) -> Any:
    """Limit values from below."""
    return clamp(input, min=min)


def clamp_max(input: Any, max: Any) -> Any:
    """Limit values from above."""
    return clamp(input, max=max)


@primitive
def _where(cond: Any, x: Any, y: Any) -> Any:
    np_ = xp(cond)
    return np_.where(cond, x, y), (
        None,
        lambda g: np_.where(cond, g, 0.0),
        lambda g: np_.where(cond, 0.0, g),
    )


_where.promotes = True


@overridable
def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """Choose from input where the condition holds, else from other; no gradient (so no NaN) reaches the other side.

    With the condition alone, return the indices where it holds, one tensor per dimension.
    """
    if input is None:
        return tuple(wrap(i) for i in condition.array.nonzero())
    if condition.dtype != np.bool_:
        raise TypeError(f"where: the condition must be a bool tensor, got {condition.dtype}; compare, or use .bool()")
    dtype = result_type(operand(input), operand(other))
    np_ = xp(condition.array)
    x, y = (
        (a if a.dtype == dtype else a.to(dtype)) if hasattr(a, "_node") else wrap(np_.asarray(operand(a), dtype=dtype))
        for a in (input, other)
    )
    return _where(condition, x, y)


@primitive
def _nan_to_num(x: Any, *, nan: float, posinf: float | None, neginf: float | None) -> Any:
    return xp(x).nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf), (lambda g: g * xp(x).isfinite(x),)


def nan_to_num(input: Any, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Any:
    """Replace NaN by `nan` (0) and infinities by the given numbers (the largest of the dtype)."""
    return _nan_to_num(input, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf)


@primitive(linear=True)
def clone(x: Any) -> Any:
    return xp(x).array(x) if not hasattr(x, "_node") else x, (lambda g: g,)
