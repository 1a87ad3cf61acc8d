"""Affine layers side by side: the members of an ensemble evaluated in one operation."""

from __future__ import annotations

from typing import Any

from dynarl.autograd.device import xp
from dynarl.autograd.ops.activation import _ACTIVATIONS, _SLOPES, _activation_grad, activate
from dynarl.autograd.ops.linalg import matmul
from dynarl.autograd.tape import primitive

__all__ = ["batched_linear"]


def _lifted(x: Any, weight: Any, bias: Any = None, *, activation: str | None = None) -> Any:
    """The gradients composed of plain ops, for when they must be differentiable themselves."""
    y = matmul(x, weight.swapaxes(-1, -2))
    y = _ACTIVATIONS[activation](y if bias is None else y + bias.unsqueeze(1))

    def vjp(g: Any, needs: Any) -> Any:
        g = _SLOPES[activation](g, y)
        dx = matmul(g, weight)
        return dx.sum(0) if x.ndim == 2 else dx, matmul(g.swapaxes(-1, -2), x), g.sum(1)

    return vjp


@primitive(lifted=_lifted)
def batched_linear(x: Any, weight: Any, bias: Any = None, *, activation: str | None = None) -> Any:
    """Return activation(x[c] @ weight[c].T + bias[c]) of C layers in one step, [C, B, out].

    x is [C, B, in], or [B, in] where all layers see the same; weight [C, out, in], bias [C, out] or None.
    """
    if weight.ndim != 3 or x.ndim not in (2, 3) or x.shape[-1] != weight.shape[-1]:
        raise ValueError("x must be [C, B, in] or [B, in] and weight [C, out, in]")
    if x.ndim == 3 and x.shape[0] != weight.shape[0]:
        raise ValueError("x and weight must have one number of layers")
    if x.dtype != weight.dtype:
        raise TypeError("x and weight must have one dtype")
    np_ = xp(x)
    y = np_.matmul(x, weight.swapaxes(-1, -2))
    if bias is not None:
        y += bias.reshape(bias.shape[0], 1, bias.shape[1])
    activate(np_, activation, y)

    def vjp(g: Any, needs: Any) -> Any:
        if activation is not None:
            g = _activation_grad(np_, activation, y, g)
        want_x, want_weight, *want_bias = needs
        dx = dw = db = None
        if want_weight is not False:
            dw = np_.matmul(g.swapaxes(-1, -2), x, **({} if want_weight is True else {"out": want_weight}))
        if want_bias and want_bias[0] is not False:
            db = g.sum(axis=1, out=None if want_bias[0] is True else want_bias[0])
        if want_x is not False:
            dx = np_.matmul(g, weight)
            if x.ndim == 2:
                dx = dx.sum(axis=0)
        return dx, dw, db

    return y, vjp
