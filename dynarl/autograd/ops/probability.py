"""Densities and entropies as single operations, because policies compute them at every step and every minibatch.

Log-prob, entropy and their backward at batch 64, one thread, against the same composed of plain operations:
categorical 48 µs against 70, normal with three dimensions 55 against 90. All from logits; 0 log 0 = 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dynarl.autograd.device import xp
from dynarl.autograd.operands import fit
from dynarl.autograd.ops.activation import _erf_values, log_softmax, softmax
from dynarl.autograd.ops.elementwise import clamp
from dynarl.autograd.tape import primitive

Statistics = tuple[Any, Any, Any]

# Replaces a log-probability of -inf in p log p: its p is exactly 0, and 0 * -inf would be NaN.
_LOG_ZERO = -1e4
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def row_statistics(logits: Any) -> Statistics:
    """Return (logits - max, exp of that, its sum), along the last dimension of a raw array [..., K]."""
    np_ = xp(logits)
    shifted = logits - _fold(np_, np_.maximum, logits)
    weights = np_.exp(shifted)
    return shifted, weights, _fold(np_, np_.add, weights)


def _fold(np_: Any, ufunc: Any, x: Any) -> Any:
    """Return ufunc.reduce over the last dimension [..., 1].

    NumPy reduces short rows one by one (the maximum of [256, 2] takes 8 us), columns as whole vectors (1 us).
    """
    if np_ is not np or not 0 < x.shape[-1] <= 8:
        return x.max(axis=-1, keepdims=True) if ufunc is np_.maximum else x.sum(axis=-1, keepdims=True)
    total = x[..., :1]
    for k in range(1, x.shape[-1]):
        total = ufunc(total, x[..., k : k + 1])
    return total


def invert_cdf(weights: Any, uniform: Any) -> Any:
    """Return class indices [...] for uniforms [...] in [0, 1] and unnormalised weights [..., K] (raw arrays).

    A class of weight zero is never chosen, also not where rounding puts a uniform at 1.
    """
    np_ = xp(weights)
    below_one = 1.0 - (2.0**-52 if weights.dtype == np.float64 else 2.0**-23)
    if np_ is np and weights.shape[-1] <= 4:  # for few columns, operations on whole columns are faster: see _fold
        sums = [weights[..., 0]]
        for k in range(1, weights.shape[-1]):
            sums.append(sums[-1] + weights[..., k])
        threshold = np.minimum(uniform, below_one, dtype=weights.dtype) * sums[-1]
        index = (sums[0] <= threshold).astype(np.int64)
        for cumulative in sums[1:-1]:
            index += cumulative <= threshold
        return index
    cdf = weights.cumsum(axis=-1)
    threshold = np_.minimum(uniform.astype(weights.dtype), below_one) * cdf[..., -1]
    return (cdf <= threshold[..., None]).sum(axis=-1)


def _one_hot(index: Any, like: Any) -> Any:
    np_ = xp(index)
    return (index[..., None] == np_.arange(like.shape[-1])).astype(like.dtype)


def _log_prob_lifted(logits: Any, *, index: Any, statistics: Statistics) -> Any:
    difference = -softmax(logits, -1) + _one_hot(index, logits)
    return (lambda g: difference * g.reshape(*g.shape, 1),)


@primitive(lifted=_log_prob_lifted)
def categorical_log_prob(logits: Any, *, index: Any, statistics: Statistics) -> Any:
    """Return log softmax(logits)[index]: logits [..., K], index [...] (raw), statistics = row_statistics(logits)."""
    shifted, weights, total = statistics
    np_ = xp(logits)
    where = np_.arange(0, shifted.size, shifted.shape[-1]) + index.reshape(-1)
    picked = shifted.reshape(-1)[where].reshape(index.shape)

    def vjp(g: Any) -> Any:
        flat = (weights * (g.reshape(total.shape) / -total)).reshape(-1)
        flat[where] += g.reshape(-1)
        return flat.reshape(weights.shape)

    return picked - np_.log(total[..., 0]), (vjp,)


def _entropy_lifted(logits: Any, *, statistics: Statistics) -> Any:
    p = softmax(logits, -1)
    log_p = clamp(log_softmax(logits, -1), min=_LOG_ZERO)
    mean = (p * log_p).sum(-1, keepdim=True)
    return (lambda g: p * (mean - log_p) * g.reshape(*g.shape, 1),)


@primitive(lifted=_entropy_lifted)
def categorical_entropy(logits: Any, *, statistics: Statistics) -> Any:
    """Return -sum p log p, p = softmax(logits): logits [..., K], statistics = row_statistics(logits)."""
    shifted, weights, total = statistics
    np_ = xp(logits)
    finite = np_.maximum(shifted, _LOG_ZERO)
    mean = _fold(np_, np_.add, weights * finite) / total

    def vjp(g: Any) -> Any:
        d = mean - finite
        d *= weights
        d *= g.reshape(total.shape) / total
        return d

    return (np_.log(total) - mean)[..., 0], (vjp,)


@primitive
def normal_log_prob(x: Any, mean: Any, scale: Any, *, dims: int = 0) -> Any:
    """Return the log-density of normal(mean, scale^2) at x, summed over the last `dims` dimensions.

    The operands broadcast; a `scale` of the last dimensions alone (one for all rows) is used as it is.
    """
    inverse = 1 / scale
    z = (x - mean) * inverse
    log_scale = xp(scale).log(scale)
    axes = tuple(range(-dims, 0))
    if dims:
        size = math.prod(z.shape[-dims:])
        if scale.shape[-dims:] == z.shape[-dims:]:
            log_scale = log_scale.sum(axis=axes)
        else:
            log_scale = xp(scale).broadcast_to(log_scale, z.shape).sum(axis=axes)
        out = (z * z).sum(axis=axes) * -0.5 - log_scale - size * _HALF_LOG_2PI
    else:
        out = z * z * -0.5 - log_scale - _HALF_LOG_2PI

    def vjp(g: Any, needs: Any) -> Any:
        g = g.reshape(*g.shape, *(1,) * dims)
        slope = g * z * inverse
        return (
            None if needs[0] is False else fit(-slope, x),
            None if needs[1] is False else fit(slope, mean),
            None if needs[2] is False else fit(slope * z - g * inverse, scale),
        )

    return out, vjp


def _entropy_vjp(scale: Any, *, dims: int, batch_shape: tuple[int, ...]) -> Any:
    shape = scale.shape[: scale.ndim - dims]

    def vjp(g: Any) -> Any:
        if g.shape != shape:  # one scale for many rows: sum the gradients of the rows
            extra = g.ndim - len(shape)
            axes = tuple(i for i in range(g.ndim) if i < extra or g.shape[i] != shape[i - extra])
            g = g.sum(axis=axes, keepdims=True).reshape(shape)
        return g.reshape(*shape, *(1,) * dims) / scale

    return (vjp,)


@primitive(lifted=_entropy_vjp)
def normal_entropy(scale: Any, *, dims: int, batch_shape: tuple[int, ...]) -> Any:
    """Return the entropy of normals, summed over the last `dims` dimensions, for every row of batch_shape.

    `scale` has all of the last `dims` dimensions; before them it broadcasts to batch_shape.
    """
    size = math.prod(scale.shape[scale.ndim - dims :])
    out = xp(scale).log(scale)
    if dims:
        out = out.sum(axis=tuple(range(-dims, 0)))
    out = out + size * (0.5 + _HALF_LOG_2PI)
    if out.shape != batch_shape:
        out = xp(scale).zeros(batch_shape, dtype=scale.dtype) + out
    return out, _entropy_vjp(scale, dims=dims, batch_shape=batch_shape)


def _pad_lifted(logits: Any, *, columns: Any, width: int, fill: float) -> Any:
    return (lambda g: g[..., columns],)


@primitive(lifted=_pad_lifted)
def pad_components(logits: Any, *, columns: Any, width: int, fill: float) -> Any:
    """Return [..., width] full of `fill` with logits [..., len(columns)] at `columns`."""
    out = xp(logits).full((*logits.shape[:-1], width), fill, dtype=logits.dtype)
    out[..., columns] = logits
    return out, (lambda g: g[..., columns],)


def _erfinv_values(y: Any) -> Any:
    np_ = xp(y)
    y64 = y.astype("float64")
    inside = np_.abs(y64) < 1
    p = np_.where(inside, y64, 0.0)
    # Start from S. Winitzki's closed form (error 2e-3), then Newton's steps on erf.
    log = np_.log1p(-p * p)
    half = 2 / (math.pi * 0.147) + log / 2
    x = np_.sign(p) * np_.sqrt(np_.sqrt(half * half - log / 0.147) - half)
    for _ in range(3):
        error = (_erf_values(x) - p) * (math.sqrt(math.pi) / 2) * np_.exp(x * x)
        x = x - error / (1 + x * error)  # Halley: erf'' / erf' = -2 x
    edge = np_.where(y64 == 1, math.inf, np_.where(y64 == -1, -math.inf, math.nan))
    return np_.where(inside, x, edge).astype(y.dtype)


def _erfinv_lifted(y: Any) -> Any:
    x = erfinv(y)
    return (lambda g: g * xp(x).exp(x * x) * (math.sqrt(math.pi) / 2),)


@primitive(floats=True, lifted=_erfinv_lifted)
def erfinv(y: Any) -> Any:
    """Return x with erf(x) = y, ±inf at ±1, NaN beyond."""
    x = _erfinv_values(y)
    return x, (lambda g: g * xp(x).exp(x * x) * (math.sqrt(math.pi) / 2),)


__all__ = [
    "categorical_entropy",
    "categorical_log_prob",
    "erfinv",
    "invert_cdf",
    "normal_entropy",
    "normal_log_prob",
    "pad_components",
    "row_statistics",
]
