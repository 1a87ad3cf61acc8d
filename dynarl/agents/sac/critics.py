"""Q networks of SAC: an ensemble evaluated as one batched network."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

from dynarl import nn
from dynarl.autograd import Parameter, Tensor, empty, no_grad
from dynarl.autograd.ops.ensemble import batched_mlp
from dynarl.autograd.tensor import wrap

__all__ = ["Critics"]

FUSED = ("relu", "tanh")


class Critics(nn.Module):
    """`num_critics` Q-networks (C) in one: layer l has weight [C, out, in] and bias [C, out].

    Called with observations [B, F] and actions [B, A], F + A = `inputs`, it returns [C, B, outputs] by one
    operation, with one flat vector of parameters for Adam and Polyak for any number of critics.
    Initial weights and biases are those of C separate `nn.Linear` layers, uniform in ±1/sqrt(in). `features` is an
    encoder of all critics together, from observations [B, ...] to [B, F].
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        hidden_sizes: Sequence[int] = (256, 256),
        num_critics: int = 2,
        activation: str = "relu",
        features: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        if num_critics < 1:
            raise ValueError(f"num_critics: must be at least 1, got {num_critics}")
        if activation not in FUSED:
            raise ValueError(f"activation: must be one of {list(FUSED)}, got {activation!r}")
        self.num_critics, self.activation, self.num_inputs = num_critics, activation, inputs
        sizes = (inputs, *hidden_sizes, outputs)
        depth = len(sizes) - 1
        self._names = [f"{kind}_{i}" for i in range(depth) for kind in ("weight", "bias")]
        self._activations = (*[activation] * (depth - 1), None)
        for i, (n, m) in enumerate(itertools.pairwise(sizes)):
            bound = 1.0 / math.sqrt(n)
            for name, shape in ((f"weight_{i}", (num_critics, m, n)), (f"bias_{i}", (num_critics, m))):
                parameter = Parameter(empty(shape))
                nn.init.uniform_(parameter, -bound, bound)
                self.register_parameter(name, parameter)

    def forward(self, obs: Tensor, action: Any = None, *, frozen: bool = False) -> Tensor:
        """Return Q [C, B, outputs] of obs [B, F] and, where they are inputs, actions [B, A].

        With `frozen` parameters get no gradient, and none is computed for them.
        """
        parameters: list[Any] = [getattr(self, name) for name in self._names]
        if frozen:
            parameters = [wrap(p.array) for p in parameters]
        encoded = self.encoded(obs, frozen=frozen)
        q: Tensor = batched_mlp(encoded, action, *parameters, activations=self._activations)
        return q

    def encoded(self, obs: Tensor, *, frozen: bool = False) -> Tensor:
        """Return the features [B, F] of observations, without gradient if `frozen`."""
        if self.features is None:
            return obs
        with no_grad() if frozen else contextlib.nullcontext():
            encoded: Tensor = self.features(obs)
        return encoded
