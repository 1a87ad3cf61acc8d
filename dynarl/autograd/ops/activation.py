"""Activation functions, softmax and logsumexp."""

from __future__ import annotations

import math
from typing import Any

from dynarl.autograd.device import xp
from dynarl.autograd.ops.elementwise import clamp, exp, expm1, tanh, where
from dynarl.autograd.tape import primitive


@primitive
def relu(x: Any) -> Any:
    return xp(x).maximum(x, 0), (lambda g: g * (x > 0),)


@primitive(floats=True)
def sigmoid(x: Any) -> Any:
    y = x * 0.5  # sigmoid(x) = (1 + tanh(x / 2)) / 2 overflows for no x; 1 / (1 + exp(-x)) does for x < -88 in float32
    if hasattr(x, "_node") or not x.ndim:
        y = 0.5 * (xp(x).tanh(y) + 1)
        return y, (lambda g: g * (y * (1 - y)),)
    xp(x).tanh(y, out=y)
    y += 1
    y *= 0.5
    return y, (lambda g: _sigmoid_slope(g, y),)


def _sigmoid_slope(g: Any, y: Any) -> Any:
    d = 1 - y
    d *= y
    d *= g
    return d


@primitive(floats=True)
def logsigmoid(x: Any) -> Any:
    np_ = xp(x)
    y = np_.minimum(x, 0.0) - np_.log1p(np_.exp(-np_.abs(x)))
    return y, (lambda g: g * (1 - np_.exp(y)),)


@primitive(floats=True)
def _softplus(x: Any) -> Any:
    np_ = xp(x)
    y = np_.maximum(x, 0.0) + np_.log1p(np_.exp(-np_.abs(x)))
    return y, (lambda g: g * (0.5 * (np_.tanh(x * 0.5) + 1)),)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """Return log(1 + exp(beta x)) / beta, computed without overflow; linear above `threshold` as in PyTorch."""
    if beta == 1.0:
        return _softplus(input)
    return _softplus(input * beta) / beta


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Any:
    """Return x where positive, else negative_slope * x."""
    return where(input > 0, input, input * negative_slope)


def elu(input: Any, alpha: float = 1.0) -> Any:
    """Return x where positive, else alpha (exp(x) - 1)."""
    return where(input > 0, input, expm1(clamp(input, max=0.0)) * alpha)


def selu(input: Any) -> Any:
    """Return the scaled ELU of arXiv:1706.02515."""
    return elu(input, 1.6732632423543772) * 1.0507009873554805


@primitive(floats=True)
def erf(x: Any) -> Any:
    np_ = xp(x)
    return _erf_values(x), (lambda g: g * (np_.exp(-(x * x)) * (2 / math.sqrt(math.pi))),)


def _erf_values(x: Any) -> Any:
    if hasattr(x, "_node"):
        return x
    np_ = xp(x)
    # Rational approximations of W. J. Cody (1969), accurate to 1e-16.
    y = np_.abs(x).astype("float64")
    small = y <= 0.46875
    middle = (~small) & (y <= 4.0)
    z = np_.where(small, y, 0.0) ** 2
    near = y * _ratio(z, _ERF_P, _ERF_Q)
    w = np_.where(middle, y, 1.0)
    far1 = np_.exp(-w * w) * _ratio(w, _ERFC_P, _ERFC_Q)
    v = np_.where(y > 4.0, y, 5.0)
    u = 1 / (v * v)
    far2 = np_.exp(-np_.minimum(v * v, 700.0)) / v * (1 / math.sqrt(math.pi) - u * _ratio(u, _ERFC_R, _ERFC_S))
    out = np_.where(small, near, 1 - np_.where(middle, far1, far2))
    return (np_.sign(x) * np_.where(np_.isnan(y), y, out)).astype(x.dtype)


def _ratio(x: Any, p: tuple[float, ...], q: tuple[float, ...]) -> Any:
    top, bottom = 0.0, 0.0
    for a, b in zip(p, q):
        top = top * x + a
        bottom = bottom * x + b
    return top / bottom


_ERF_P = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_ERF_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_ERFC_P = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1, 2.98635138197400131e2,
    8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
)  # fmt: skip
_ERFC_Q = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip
_ERFC_R = (
    1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
    1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4,
)  # fmt: skip
_ERFC_S = (
    1.0, 2.56852019228982242e0, 1.87295284992346725e0,
    5.27905102951428412e-1, 6.05183413124413191e-2, 2.33520497626869185e-3,
)  # fmt: skip


def gelu(input: Any, approximate: str = "none") -> Any:
    """Return x Phi(x) (arXiv:1606.08415), exactly or by the tanh approximation."""
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (input + 0.044715 * input * input * input)
        return input * (tanh(inner) + 1) * 0.5
    if approximate != "none":
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return input * (erf(input / math.sqrt(2.0)) + 1) * 0.5


def silu(input: Any) -> Any:
    """Return x sigmoid(x)."""
    return input * sigmoid(input)


def mish(input: Any) -> Any:
    """Return x tanh(softplus(x))."""
    return input * tanh(softplus(input))


def softsign(input: Any) -> Any:
    """Return x / (1 + |x|)."""
    return input / (input.abs() + 1)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """Limit values to [min_val, max_val]."""
    return clamp(input, min_val, max_val)


def _softmax_axis(x: Any, dim: int | None) -> int:
    if dim is None:
        raise ValueError("softmax: dim must be given, got None")
    return dim


def _top(x: Any, axis: Any) -> Any:
    """Return the maximum along an axis, subtracted before exp so that it cannot overflow; its gradient cancels."""
    return x.detach().amax(axis, True) if hasattr(x, "_node") else x.max(axis=axis, keepdims=True)


@primitive(floats=True)
def _softmax(x: Any, *, axis: int) -> Any:
    np_ = xp(x)
    y = np_.exp(x - _top(x, axis))
    y = y / y.sum(axis=axis, keepdims=True)
    return y, (lambda g: y * (g - (g * y).sum(axis=axis, keepdims=True)),)


def softmax(input: Any, dim: int | None = None, dtype: Any = None) -> Any:
    """Return exp(x) / sum(exp(x)) along dim, shifted by the maximum so that nothing overflows."""
    return _softmax(input if dtype is None else input.to(dtype), axis=_softmax_axis(input, dim))


@primitive(floats=True)
def _log_softmax(x: Any, *, axis: int) -> Any:
    np_ = xp(x)
    shifted = x - _top(x, axis)
    y = shifted - np_.log(np_.exp(shifted).sum(axis=axis, keepdims=True))
    return y, (lambda g: g - np_.exp(y) * g.sum(axis=axis, keepdims=True),)


def log_softmax(input: Any, dim: int | None = None, dtype: Any = None) -> Any:
    """Return log(softmax(x)) along dim without forming the softmax."""
    return _log_softmax(input if dtype is None else input.to(dtype), axis=_softmax_axis(input, dim))


@primitive(floats=True)
def _logsumexp(x: Any, *, axis: Any, keepdims: bool) -> Any:
    np_ = xp(x)
    top = _top(x, axis)
    top = np_.where(np_.isfinite(top), top, 0.0)  # a row of -inf has logsumexp -inf, not NaN
    y = np_.log(np_.exp(x - top).sum(axis=axis, keepdims=True)) + top

    def vjp(g: Any) -> Any:
        g = g if keepdims else g.reshape(y.shape)
        return g * np_.exp(x - np_.where(np_.isfinite(y), y, 0.0))

    return y if keepdims else y.squeeze(axis), (vjp,)


def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Any:
    """Return log(sum(exp(x))) along dim (an int or several), shifted by the maximum."""
    axis = (dim,) if isinstance(dim, int) else tuple(dim)
    return _logsumexp(input, axis=axis, keepdims=keepdim)


__all__ = [
    "elu", "erf", "exp", "gelu", "hardtanh", "leaky_relu", "log_softmax", "logsigmoid", "logsumexp", "mish",
    "relu", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign",
]  # fmt: skip
