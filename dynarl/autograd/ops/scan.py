"""A recurrent layer over a whole sequence as one operation: one matrix product for all inputs, states in one array.

`reset` [T, N] marks the steps at which an episode starts: the state of that row is set to zero before the step. Without
it, sequences that contain episode ends would need a loop of cells.
"""

from __future__ import annotations

from typing import Any

from dynarl.autograd.device import xp
from dynarl.autograd.ops.recurrent import affine, check_cell, gru_pull, gru_step, lstm_pull, lstm_step, weight_gradients
from dynarl.autograd.tape import primitive
from dynarl.autograd.tensor import wrap

__all__ = ["gru_scan", "lstm_scan"]


def _lstm_lifted(
    x: Any, h0: Any, c0: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None, *, reset: Any
) -> Any:
    """The gradients of `lstm_scan` composed of differentiable operations, for create_graph=True."""
    keep, saved, before = _kept(reset, x), [], []
    h, c = h0, c0
    for t in range(x.shape[0]):
        h, c = (h, c) if keep is None else (h * keep[t], c * keep[t])
        before.append(h)
        h, c, step = lstm_step(affine(x[t], weight_ih, bias_ih) + affine(h, weight_hh, bias_hh), c)
        saved.append(step)

    def vjp(g: Any, needs: Any) -> Any:
        d_gates: list[Any] = []
        d_h, d_c = 0.0 * h0, 0.0 * c0
        for t in range(x.shape[0] - 1, -1, -1):
            d_gate, d_c = lstm_pull(g[0, t] + d_h, g[1, t] + d_c, saved[t])
            d_h = d_gate @ weight_hh
            d_gates.insert(0, d_gate)
            d_h, d_c = (d_h, d_c) if keep is None else (d_h * keep[t], d_c * keep[t])
        stack = xp(x).stack
        d = stack(d_gates)
        weights = weight_gradients(d, d, x, stack(before), [need is not False for need in needs[3:]])
        return (d @ weight_ih, d_h, d_c, *weights)[: len(needs)]

    return vjp


@primitive(lifted=_lstm_lifted)
def lstm_scan(
    x: Any, h0: Any, c0: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None, *, reset: Any
) -> Any:
    """Return h and c after every step, [2, T, N, H], from x [T, N, I], h0 and c0 [N, H]; reset [T, N] or None."""
    _check_scan(x, h0, weight_ih, weight_hh, reset, 4)
    np_, (steps, rows, _), size = xp(x), x.shape, h0.shape[-1]
    # sigmoid(x) = (1 + tanh(x / 2)) / 2: with the rows of i, f and o halved, one tanh computes all four gates
    half = np_.full(4 * size, 0.5, x.dtype)
    half[2 * size : 3 * size] = 1.0
    offset = 1 - half
    gates = x.reshape(-1, x.shape[-1]).dot((weight_ih * half[:, None]).T).reshape(steps, rows, -1)
    for bias in (bias_ih, bias_hh):
        if bias is not None:
            gates += bias * half
    recurrent = np_.ascontiguousarray((weight_hh * half[:, None]).T)
    states = np_.empty((2, steps + 1, rows, size), x.dtype)
    states[0, 0], states[1, 0] = h0, c0
    keep = None if reset is None else _kept(reset, x)
    before = states[:, :-1] if keep is None else np_.empty((2, steps, rows, size), x.dtype)
    squashed = np_.empty((steps, rows, size), x.dtype)
    scratch, product = np_.empty((rows, 4 * size), x.dtype), np_.empty((rows, size), x.dtype)
    for t in range(steps):
        if keep is not None:
            np_.multiply(states[:, t], keep[t], out=before[:, t])
        gate, c = gates[t], states[1, t + 1]
        np_.dot(before[0, t], recurrent, out=scratch)
        gate += scratch
        np_.tanh(gate, out=gate)
        gate *= half
        gate += offset
        np_.multiply(gate[:, size : 2 * size], before[1, t], out=c)
        np_.multiply(gate[:, :size], gate[:, 2 * size : 3 * size], out=product)
        c += product
        np_.tanh(c, out=squashed[t])
        np_.multiply(gate[:, 3 * size :], squashed[t], out=states[0, t + 1])

    def vjp(g: Any, needs: Any) -> Any:
        d_gates = np_.empty_like(gates)
        d_h, d_c = np_.zeros((rows, size), x.dtype), np_.zeros((rows, size), x.dtype)
        slope, part = np_.empty((rows, 4 * size), x.dtype), np_.empty((rows, size), x.dtype)
        for t in range(steps - 1, -1, -1):
            d, gate, tanh_c = d_gates[t], gates[t], squashed[t]
            d_h += g[0, t]
            d_c += g[1, t]
            np_.multiply(d_h, tanh_c, out=d[:, 3 * size :])
            np_.multiply(tanh_c, tanh_c, out=part)
            np_.subtract(1, part, out=part)
            part *= gate[:, 3 * size :]
            part *= d_h
            d_c += part
            np_.multiply(d_c, gate[:, 2 * size : 3 * size], out=d[:, :size])
            np_.multiply(d_c, before[1, t], out=d[:, size : 2 * size])
            np_.multiply(d_c, gate[:, :size], out=d[:, 2 * size : 3 * size])
            d_c *= gate[:, size : 2 * size]
            np_.multiply(
                gate, gate, out=slope
            )  # derivatives from outputs: a - a^2 of the sigmoids, 1 - a^2 of the tanh (a - a^2 + 1 - a)
            np_.subtract(gate, slope, out=slope)
            tail, a = slope[:, 2 * size : 3 * size], gate[:, 2 * size : 3 * size]
            np_.subtract(1, a, out=part)
            tail += part
            d *= slope
            np_.dot(d, weight_hh, out=d_h)
            if keep is not None:
                d_h *= keep[t]
                d_c *= keep[t]
        d_x = _from_rows(d_gates, weight_ih) if needs[0] is not False else None
        weights = weight_gradients(d_gates, d_gates, x, before[0], needs[3:])
        return (d_x, d_h, d_c, *weights)[: len(needs)]

    return states[:, 1:], vjp


def _gru_lifted(
    x: Any, h0: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None, *, reset: Any
) -> Any:
    """The gradients of `gru_scan` composed of differentiable operations, for create_graph=True."""
    keep, saved, before, h = _kept(reset, x), [], [], h0
    for t in range(x.shape[0]):
        h = h if keep is None else h * keep[t]
        before.append(h)
        h, step = gru_step(affine(x[t], weight_ih, bias_ih), affine(h, weight_hh, bias_hh), h)
        saved.append(step)

    def vjp(g: Any, needs: Any) -> Any:
        d_inputs: list[Any] = []
        d_hiddens: list[Any] = []
        d_h = 0.0 * h0
        for t in range(x.shape[0] - 1, -1, -1):
            d_input, d_hidden, direct = gru_pull(g[t] + d_h, saved[t])
            d_h = d_hidden @ weight_hh + direct
            d_h = d_h if keep is None else d_h * keep[t]
            d_inputs.insert(0, d_input)
            d_hiddens.insert(0, d_hidden)
        stack = xp(x).stack
        d = stack(d_inputs)
        wanted = [need is not False for need in needs[2:]]
        weights = weight_gradients(d, stack(d_hiddens), x, stack(before), wanted)
        return (d @ weight_ih, d_h, *weights)[: len(needs)]

    return vjp


@primitive(lifted=_gru_lifted)
def gru_scan(
    x: Any, h0: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None, *, reset: Any
) -> Any:
    """Return h after every step, [T, N, H], from x [T, N, I] and h0 [N, H]; reset [T, N] or None."""
    _check_scan(x, h0, weight_ih, weight_hh, reset, 3)
    np_, (steps, rows, _), size = xp(x), x.shape, h0.shape[-1]
    gates = x.reshape(-1, x.shape[-1]).dot(weight_ih.T).reshape(steps, rows, -1)
    if bias_ih is not None:
        gates += bias_ih
    recurrent = np_.ascontiguousarray(weight_hh.T)
    states = np_.empty((steps + 1, rows, size), x.dtype)
    states[0] = h0
    keep = None if reset is None else _kept(reset, x)
    before = states[:-1] if keep is None else np_.empty((steps, rows, size), x.dtype)
    hidden = np_.empty((steps, rows, 3 * size), x.dtype)
    for t in range(steps):
        if keep is not None:
            np_.multiply(states[t], keep[t], out=before[t])
        gate, h_next = gates[t], states[t + 1]
        np_.dot(before[t], recurrent, out=hidden[t])
        if bias_hh is not None:
            hidden[t] += bias_hh
        both, n = gate[:, : 2 * size], gate[:, 2 * size :]
        both += hidden[t, :, : 2 * size]
        both *= 0.5
        np_.tanh(both, out=both)
        both *= 0.5
        both += 0.5
        np_.multiply(gate[:, :size], hidden[t, :, 2 * size :], out=h_next)
        n += h_next
        np_.tanh(n, out=n)
        np_.subtract(before[t], n, out=h_next)
        h_next *= gate[:, size : 2 * size]
        h_next += n

    def vjp(g: Any, needs: Any) -> Any:
        d_inputs, d_hiddens = np_.empty_like(gates), np_.empty_like(gates)
        d_h = np_.zeros((rows, size), x.dtype)
        product = np_.empty((rows, size), x.dtype)
        for t in range(steps - 1, -1, -1):
            gate = gates[t]
            r, z, n = gate[:, :size], gate[:, size : 2 * size], gate[:, 2 * size :]
            d_h += g[t]
            d, d_hidden = d_inputs[t], d_hiddens[t]
            d_r, d_z, d_n = d[:, :size], d[:, size : 2 * size], d[:, 2 * size :]
            np_.multiply(n, n, out=d_n)
            np_.subtract(1, d_n, out=d_n)
            np_.subtract(1, z, out=d_z)
            d_n *= d_z
            d_n *= d_h
            d_z *= z
            d_z *= d_h
            np_.subtract(before[t], n, out=product)
            d_z *= product
            np_.subtract(1, r, out=d_r)
            d_r *= r
            d_r *= d_n
            d_r *= hidden[t, :, 2 * size :]
            d_hidden[:, : 2 * size] = d[:, : 2 * size]
            np_.multiply(d_n, r, out=d_hidden[:, 2 * size :])
            np_.dot(d_hidden, weight_hh, out=product)
            d_h *= z
            d_h += product
            if keep is not None:
                d_h *= keep[t]
        d_x = _from_rows(d_inputs, weight_ih) if needs[0] is not False else None
        weights = weight_gradients(d_inputs, d_hiddens, x, before, needs[2:])
        return (d_x, d_h, *weights)[: len(needs)]

    return states[1:], vjp


def _from_rows(d_gates: Any, weight: Any) -> Any:
    return d_gates.reshape(-1, d_gates.shape[-1]).dot(weight).reshape(*d_gates.shape[:2], -1)


def _kept(reset: Any, x: Any) -> Any:
    """Return 0 where a state is reset and 1 elsewhere, [T, N, 1], or None without resets."""
    if reset is None:
        return None
    keep = xp(reset).asarray(~reset[..., None], dtype=x.dtype)
    return keep if not hasattr(x, "_node") else wrap(keep)


def _check_scan(x: Any, h0: Any, weight_ih: Any, weight_hh: Any, reset: Any, gates: int) -> None:
    if x.ndim != 3 or h0.shape[:-1] != x.shape[1:2]:
        raise ValueError(f"x must be [T, N, in] and the state [N, hidden], here {tuple(x.shape)} and {tuple(h0.shape)}")
    if x.shape[0] == 0:
        raise ValueError("the sequence must have at least one step")
    if reset is not None and (reset.shape != x.shape[:2] or reset.dtype.kind != "b"):
        raise ValueError(f"reset must be bool {tuple(x.shape[:2])}, here {reset.dtype} {tuple(reset.shape)}")
    check_cell(x, h0, weight_ih, weight_hh, gates)
