"""Recurrent layers: GRU and LSTM, as cells and over sequences."""

from __future__ import annotations

import math
from typing import Any

from dynarl.autograd import Parameter, Tensor, empty, zeros
from dynarl.autograd.device import to_device
from dynarl.autograd.ops.recurrent import gru_cell, lstm_cell
from dynarl.autograd.ops.scan import gru_scan, lstm_scan
from dynarl.autograd.ops.shape import cat, flip, stack
from dynarl.nn import init
from dynarl.nn.functional import dropout
from dynarl.nn.module import Module


class _Recurrent(Module):
    """Weights of cells, uniform in ±1/sqrt(hidden_size), as in PyTorch."""

    gates: int
    hidden_size: int

    def _add_weights(self, suffix: str, inputs: int, bias: bool, device: Any, dtype: Any) -> None:
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, self.hidden_size)}
        if bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        for name, shape in shapes.items():
            setattr(self, name + suffix, Parameter(empty(shape, device=device, dtype=dtype)))
        if not bias:
            self.register_parameter("bias_ih" + suffix, None)
            self.register_parameter("bias_hh" + suffix, None)

    def _weights(self, suffix: str) -> tuple[Any, ...]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return tuple(getattr(self, name + suffix) for name in names)

    def reset_parameters(self) -> None:
        """Sample new initial values."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)


class _Cell(_Recurrent):
    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self._add_weights("", input_size, bias, device, dtype)
        self.reset_parameters()

    def _zeros(self, input: Any) -> Any:
        return zeros(*input.shape[:-1], self.hidden_size, dtype=input.dtype, device=input.device)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class GRUCell(_Cell):
    """One step of a gated recurrent unit: input [B, input_size] or [input_size], hx [B, hidden_size] (default 0).

    Returns the next hx. Gates in the order r, z, n (arXiv:1406.1078 with PyTorch's reset after the product).
    """

    gates = 3

    def forward(self, input: Any, hx: Any = None) -> Any:
        return gru_cell(input, self._zeros(input) if hx is None else hx, *self._weights(""))


class LSTMCell(_Cell):
    """One step of a long short-term memory: input [B, input_size] or [input_size], hx = (h, c) (default 0).

    Returns the next (h, c), [B, hidden_size] each. Gates in the order i, f, g, o.
    """

    gates = 4

    def forward(self, input: Any, hx: Any = None) -> Any:
        h, c = (self._zeros(input), self._zeros(input)) if hx is None else hx
        both = lstm_cell(input, h, c, *self._weights(""))
        return both[..., : self.hidden_size], both[..., self.hidden_size :]


class _Sequence(_Recurrent):
    states: int  # tensors that a state consists of

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if num_layers < 1:
            raise ValueError(f"{name}: num_layers must be at least 1, got {num_layers}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout must lie in [0, 1], got {dropout}")
        if dropout and num_layers == 1:
            raise ValueError(f"{name}: dropout acts between layers, got dropout={dropout} with one layer")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        self._directions = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else hidden_size * len(self._directions)
            for direction in self._directions:
                self._add_weights(f"_l{layer}{direction}", inputs, bias, device, dtype)
        self.reset_parameters()

    def _scan(self, x: Any, state: tuple[Any, ...], weights: tuple[Any, ...], reset: Any) -> list[Any]:
        """Return the states after each step, [T, N, H] each, the output first."""
        raise TypeError(f"{type(self).__name__}: _scan must be defined by the subclass")

    def forward(self, input: Any, hx: Any = None, *, reset: Any = None) -> Any:
        name = type(self).__name__
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            raise ValueError(f"{name}: input must be [T, N, {self.input_size}], got {tuple(input.shape)}")
        if reset is not None and self.bidirectional:
            raise ValueError(f"{name}: reset is for one direction of time, this layer is bidirectional")
        single = input.ndim == 2
        x = input.unsqueeze(1) if single else input.transpose(0, 1) if self.batch_first else input
        reset = None if reset is None else self._reset(reset, single, input)
        first = self._first(hx, single, x)
        last: list[list[Any]] = [[] for _ in range(self.states)]
        for layer in range(self.num_layers):
            outputs = []
            for k, direction in enumerate(self._directions):
                at = layer * len(self._directions) + k
                state = tuple(part[at] for part in first)
                sequence = flip(x, (0,)) if k else x
                found = self._scan(sequence, state, self._weights(f"_l{layer}{direction}"), reset)
                for kept, part in zip(last, found):
                    kept.append(part[-1])
                outputs.append(flip(found[0], (0,)) if k else found[0])
            x = outputs[0] if len(outputs) == 1 else cat(outputs, -1)
            if self.dropout and layer < self.num_layers - 1:
                x = dropout(x, self.dropout, self.training)
        ends = tuple(stack(parts) if len(parts) > 1 else parts[0].unsqueeze(0) for parts in last)
        if single:
            x, ends = x.squeeze(1), tuple(end.squeeze(1) for end in ends)
        elif self.batch_first:
            x = x.transpose(0, 1)
        return x, ends if self.states > 1 else ends[0]

    def _first(self, hx: Any, single: bool, x: Any) -> tuple[Any, ...]:
        shape = (self.num_layers * len(self._directions), x.shape[1], self.hidden_size)
        if hx is None:
            return (zeros(*shape, dtype=x.dtype, device=x.device),) * self.states
        parts = tuple(hx) if self.states > 1 else (hx,)
        if single:
            parts = tuple(part.unsqueeze(1) for part in parts)
        for part in parts:
            if tuple(part.shape) != shape:
                expected = list(shape[:1] + shape[2:] if single else shape)
                found = [n for i, n in enumerate(part.shape) if not (single and i == 1)]
                raise ValueError(f"{type(self).__name__}: each initial state must be {expected}, got {found}")
        return parts

    def _reset(self, reset: Any, single: bool, input: Any) -> Any:
        array = reset.array if isinstance(reset, Tensor) else reset
        array = array[:, None] if single else array.T if self.batch_first else array
        return to_device(array, input.device)

    def extra_repr(self) -> str:
        options = [f"{self.input_size}, {self.hidden_size}"]
        options += [f"num_layers={self.num_layers}"] if self.num_layers > 1 else []
        options += ["batch_first=True"] if self.batch_first else []
        options += ["bidirectional=True"] if self.bidirectional else []
        return ", ".join(options)


class GRU(_Sequence):
    """Layers of gated recurrent units over a sequence.

    input is [T, N, input_size] ([N, T, ...] with batch_first, [T, ...] for one sequence), hx
    [layers x directions, N, hidden_size] (default 0). Returns (output [T, N, directions x hidden_size], h_n).
    Beyond PyTorch: `reset`, bool like input without its last axis, sets the state to zero before those steps.
    """

    gates, states = 3, 1

    def _scan(self, x: Any, state: tuple[Any, ...], weights: tuple[Any, ...], reset: Any) -> list[Any]:
        return [gru_scan(x, *state, *weights, reset=reset)]


class LSTM(_Sequence):
    """Layers of long short-term memory over a sequence.

    input is [T, N, input_size] ([N, T, ...] with batch_first, [T, ...] for one sequence), hx = (h_0, c_0),
    each [layers x directions, N, hidden_size] (default 0). Returns (output [T, N, directions x hidden_size],
    (h_n, c_n)). Beyond PyTorch: `reset`, bool like input without its last axis, sets the state to zero
    before those steps.
    """

    gates, states = 4, 2

    def _scan(self, x: Any, state: tuple[Any, ...], weights: tuple[Any, ...], reset: Any) -> list[Any]:
        both = lstm_scan(x, *state, *weights, reset=reset)
        return [both[0], both[1]]
