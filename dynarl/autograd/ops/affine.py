"""Affine layers with their activation, one layer or a stack of layers as one recorded operation.

In small networks the overhead per operation dominates: fusing product, bias and activation saves two thirds of it, and
one operation for three layers another 20 microseconds of forward and backward.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from dynarl.autograd.device import xp
from dynarl.autograd.ops.activation import relu, sigmoid
from dynarl.autograd.ops.elementwise import tanh
from dynarl.autograd.ops.linalg import matmul
from dynarl.autograd.tape import primitive

__all__ = ["linear", "mlp"]

_ACTIVATIONS: dict[str | None, Any] = {None: lambda y: y, "tanh": tanh, "relu": relu, "sigmoid": sigmoid}
_SLOPES: dict[str | None, Any] = {
    None: lambda g, y: g,
    "tanh": lambda g, y: g * (1 - y * y),
    "relu": lambda g, y: g * (y > 0),
    "sigmoid": lambda g, y: g * (y * (1 - y)),
}


def _mlp_lifted(x: Any, *parameters: Any, activations: tuple[str | None, ...]) -> Any:
    """The gradients of `mlp` composed of differentiable operations, for create_graph=True."""
    values = [x]
    for i, activation in enumerate(activations):
        weight, bias = parameters[2 * i : 2 * i + 2]
        y = matmul(values[-1], weight.T)
        values.append(_ACTIVATIONS[activation](y if bias is None else y + bias))

    def vjp(g: Any, needs: Any) -> Any:
        found: list[Any] = []
        for i in range(len(activations) - 1, -1, -1):
            g = _SLOPES[activations[i]](g, values[i + 1])
            rows, gradients = values[i].reshape(-1, values[i].shape[-1]), g.reshape(-1, g.shape[-1])
            found[:0] = matmul(gradients.T, rows), gradients.sum(0)
            g = matmul(g, parameters[2 * i])
        return g, *found

    return vjp


def _linear_lifted(x: Any, weight: Any, bias: Any = None, *, activation: str | None = None) -> Any:
    return _mlp_lifted(x, weight, bias, activations=(activation,))


@primitive(lifted=_mlp_lifted)
def mlp(x: Any, *parameters: Any, activations: tuple[str | None, ...]) -> Any:
    """Return the output of a stack of layers; `parameters` are weight and bias (or None) of each layer in turn."""
    np_ = xp(x)
    values = [x if x.ndim == 2 else x.reshape(-1, x.shape[-1])]
    for i, activation in enumerate(activations):
        values.append(_layer(np_, values[-1], parameters[2 * i], parameters[2 * i + 1], activation))

    def vjp(g: Any, needs: Any) -> Any:
        g = g if g.ndim == 2 else g.reshape(-1, g.shape[-1])
        found: list[Any] = [None] * len(needs)
        lowest = next(i for i, need in enumerate(needs) if need is not False)
        for i in range(len(activations) - 1, -1, -1):
            w, b = 2 * i + 1, 2 * i + 2
            needs_rows = lowest < w  # whether a layer below, or x, needs a gradient
            g, found[w], found[b] = _pull(
                np_, values[i], values[i + 1], parameters[2 * i], activations[i], g, needs_rows, needs[w], needs[b]
            )
            if not needs_rows:
                return found
        found[0] = g if x.ndim == 2 else g.reshape(x.shape)
        return found

    out = values[-1]
    return out if x.ndim == 2 else out.reshape(*x.shape[:-1], out.shape[-1]), vjp


@primitive(lifted=_linear_lifted)
def linear(x: Any, weight: Any, bias: Any = None, *, activation: str | None = None) -> Any:
    """Return activation(x @ weight.T + bias): x [..., in], weight [out, in], bias [out] or None."""
    np_ = xp(x)
    rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    y = _layer(np_, rows, weight, bias, activation)

    def vjp(g: Any, needs: Any) -> Any:
        g = g if g.ndim == 2 else g.reshape(-1, g.shape[-1])
        want_bias = needs[2] if len(needs) == 3 else False
        dx, dw, db = _pull(np_, rows, y, weight, activation, g, needs[0] is not False, needs[1], want_bias)
        if dx is not None and x.ndim != 2:
            dx = dx.reshape(x.shape)
        return (dx, dw, db)[: len(needs)]

    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], y.shape[-1]), vjp


def _layer(np_: Any, rows: Any, weight: Any, bias: Any, activation: str | None) -> Any:
    if weight.ndim != 2 or rows.shape[-1] != weight.shape[1]:
        raise ValueError(f"x must be [..., in] and weight [out, in], here {rows.shape[-1]} and {weight.shape}")
    if rows.dtype is not weight.dtype and rows.dtype != weight.dtype:
        raise TypeError("x and weight must have one dtype")
    y = rows.dot(weight.T)  # for one row dot is five times faster than @
    if bias is not None:
        y += bias
    activate(np_, activation, y)
    return y


def activate(np_: Any, activation: str | None, y: Any) -> None:
    """Apply an activation by name to a raw array [..., out] in place."""
    if activation is None:
        return
    if activation == "tanh":
        np_.tanh(y, out=y)
    elif activation == "relu":
        np_.maximum(y, np_.zeros(y.shape[-1:], y.dtype), out=y)  # with a Python number NumPy takes a slower loop
    elif activation == "sigmoid":
        y *= 0.5
        np_.tanh(y, out=y)
        y += 1
        y *= 0.5
    else:
        raise ValueError(f"activation must be one of None, 'tanh', 'relu', 'sigmoid', not {activation!r}")


def _pull(
    np_: Any,
    rows: Any,
    y: Any,
    weight: Any,
    activation: str | None,
    g: Any,
    want_x: bool,
    want_weight: Any,
    want_bias: Any,
) -> tuple[Any, Any, Any]:
    """Return the gradients of one layer's rows [B, in], weight and bias, each None where it is not needed."""
    if activation is not None:
        g = before_activation(np_, activation, y, g)
    dw = db = None
    if want_weight is not False:
        dw = g.T.dot(rows) if want_weight is True else np_.dot(g.T, rows, out=want_weight)
    if want_bias is not False:
        db = column_sums(np_, g, None if want_bias is True else want_bias)
    return g.dot(weight) if want_x else None, dw, db


def before_activation(np_: Any, activation: str, y: Any, g: Any) -> Any:
    """Return the gradient of an activation's input from its output y and the gradient g of that (raw arrays)."""
    if activation == "relu":
        return g * (y > 0)
    if activation == "tanh":
        d = y * y
        np_.subtract(1, d, out=d)
    else:
        d = 1 - y
        d *= y
    d *= g
    return d


def column_sums(np_: Any, g: Any, out: Any = None) -> Any:
    """Return the sums of a matrix's columns, the gradient of a bias."""
    ones = _host_ones(len(g), g.dtype) if np_ is np else np_.ones(len(g), g.dtype)
    return np_.dot(ones, g, out=out)


@lru_cache(maxsize=16)
def _host_ones(size: int, dtype: Any) -> Any:
    """Return a vector of ones: ones @ g is seven times faster than g.sum(axis=0)."""
    ones = np.ones(size, dtype)
    ones.setflags(write=False)
    return ones
