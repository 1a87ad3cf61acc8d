"""Recurrent cells: the equations of one step and of its gradient.

They are written once, in operators that arrays and Tensors share; cells and all second derivatives use them.
`lstm_scan` and `gru_scan` compute the same in place for whole sequences (see scan.py).
Gate order and the two biases are PyTorch's: i, f, g, o of an LSTM, r, z, n of a GRU.
"""

from __future__ import annotations

from typing import Any

from dynarl.autograd.device import xp
from dynarl.autograd.tape import primitive

__all__ = ["gru_cell", "lstm_cell"]


@primitive
def lstm_cell(x: Any, h: Any, c: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None) -> Any:
    """Return the next h and c concatenated, [..., 2H], from x [..., I], h and c [..., H]; weights are [4H, ...]."""
    check_cell(x, h, weight_ih, weight_hh, 4)
    h_next, c_next, saved = lstm_step(affine(x, weight_ih, bias_ih) + affine(h, weight_hh, bias_hh), c)
    size = h.shape[-1]

    def vjp(g: Any, needs: Any) -> Any:
        d_gates, d_c = lstm_pull(g[..., :size], g[..., size:], saved)
        d_weights = weight_gradients(d_gates, d_gates, x, h, needs[3:])
        return (d_gates @ weight_ih, d_gates @ weight_hh, d_c, *d_weights)[: len(needs)]

    return xp(x).concatenate((h_next, c_next), -1), vjp


@primitive
def gru_cell(x: Any, h: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None) -> Any:
    """Return the next h [..., H] from x [..., I] and h [..., H]; weights are [3H, ...]."""
    check_cell(x, h, weight_ih, weight_hh, 3)
    h_next, saved = gru_step(affine(x, weight_ih, bias_ih), affine(h, weight_hh, bias_hh), h)

    def vjp(g: Any, needs: Any) -> Any:
        d_input, d_hidden, d_h = gru_pull(g, saved)
        d_weights = weight_gradients(d_input, d_hidden, x, h, needs[2:])
        return (d_input @ weight_ih, d_hidden @ weight_hh + d_h, *d_weights)[: len(needs)]

    return h_next, vjp


def lstm_step(gates: Any, c: Any) -> tuple[Any, Any, Any]:
    """Return h, c and the values saved for the gradient, given the gates [..., 4H] before activation."""
    size = c.shape[-1]
    i, f = sigmoid(gates[..., :size]), sigmoid(gates[..., size : 2 * size])
    g, o = xp(gates).tanh(gates[..., 2 * size : 3 * size]), sigmoid(gates[..., 3 * size :])
    c_next = f * c + i * g
    squashed = xp(c_next).tanh(c_next)
    return o * squashed, c_next, (i, f, g, o, c, squashed)


def lstm_pull(d_h: Any, d_c: Any, saved: Any) -> tuple[Any, Any]:
    """Return the gradients of a step's gates [..., 4H] and of the c before it."""
    i, f, g, o, c, squashed = saved
    d_c = d_c + d_h * o * (1 - squashed * squashed)
    parts = (d_c * g * (i * (1 - i)), d_c * c * (f * (1 - f)), d_c * i * (1 - g * g), d_h * squashed * (o * (1 - o)))
    return xp(d_c).concatenate(parts, -1), d_c * f


def gru_step(from_input: Any, from_hidden: Any, h: Any) -> tuple[Any, Any]:
    """Return h and the values saved for the gradient, given the two affine parts [..., 3H]."""
    size = h.shape[-1]
    r = sigmoid(from_input[..., :size] + from_hidden[..., :size])
    z = sigmoid(from_input[..., size : 2 * size] + from_hidden[..., size : 2 * size])
    hidden = from_hidden[..., 2 * size :]
    n = xp(h).tanh(from_input[..., 2 * size :] + r * hidden)
    return n + z * (h - n), (r, z, n, h, hidden)


def gru_pull(d_h: Any, saved: Any) -> tuple[Any, Any, Any]:
    """Return the gradients of the two affine parts [..., 3H] and the direct one of the h before the step."""
    r, z, n, h, hidden = saved
    d_n = d_h * (1 - z) * (1 - n * n)
    d_z = d_h * (h - n) * (z * (1 - z))
    d_r = d_n * hidden * (r * (1 - r))
    join = xp(d_h).concatenate
    return join((d_r, d_z, d_n), -1), join((d_r, d_z, d_n * r), -1), d_h * z


def weight_gradients(d_input: Any, d_hidden: Any, x: Any, h: Any, needs: Any) -> list[Any]:
    """Return the gradients of weight_ih, weight_hh, bias_ih, bias_hh, written into the arrays that `needs` gives."""
    d_input, d_hidden = d_input.reshape(-1, d_input.shape[-1]), d_hidden.reshape(-1, d_hidden.shape[-1])
    pairs = ((d_input, x.reshape(-1, x.shape[-1])), (d_hidden, h.reshape(-1, h.shape[-1])), (d_input,), (d_hidden,))
    return [None if need is False else _sum_over_rows(need, *pair) for need, pair in zip(needs, pairs)]


def _sum_over_rows(out: Any, g: Any, rows: Any = None) -> Any:
    if out is True:
        return g.sum(axis=0) if rows is None else g.T @ rows
    return g.sum(axis=0, out=out) if rows is None else xp(g).dot(g.T, rows, out=out)


def affine(x: Any, weight: Any, bias: Any) -> Any:
    """Return x @ weight.T + bias."""
    y = x @ weight.T
    return y if bias is None else y + bias


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 0.5 * xp(x).tanh(0.5 * x) + 0.5


def check_cell(x: Any, h: Any, weight_ih: Any, weight_hh: Any, gates: int) -> None:
    """Raise ValueError for shapes, TypeError for dtypes that do not match."""
    size = h.shape[-1]
    if weight_ih.shape != (gates * size, x.shape[-1]) or weight_hh.shape != (gates * size, size):
        raise ValueError(
            f"for {x.shape[-1]} inputs and a state of {size} the weights must be {(gates * size, x.shape[-1])} and "
            f"{(gates * size, size)}, here {tuple(weight_ih.shape)} and {tuple(weight_hh.shape)}"
        )
    if not x.dtype == h.dtype == weight_ih.dtype == weight_hh.dtype:
        raise TypeError(
            f"input, state and weights must have one dtype, here {x.dtype}, {h.dtype} and {weight_ih.dtype}"
        )
