"""Networks of action values: plain, dueling, noisy, and with a distribution for every action."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl import nn
from dynarl.agents.policies import ACTIVATIONS, FeaturesFactory, made_features
from dynarl.autograd import Parameter, Tensor, empty
from dynarl.autograd.device import to_device
from dynarl.autograd.ops.affine import linear
from dynarl.autograd.tensor import wrap

__all__ = ["NoisyLinear", "QNetwork"]


class NoisyLinear(nn.Module):
    """y = (mu + sigma * noise) x + b, with factorised Gaussian noise on weights and bias (arXiv:1706.10295).

    noise_ij = f(e_i) f(e_j), f(e) = sign(e) sqrt|e| (eq. 10 and 11), the same for all rows of a batch; without
    noise (`set_noise(None)`) the layer is linear with weights mu. `sigma` starts at std_init / sqrt(inputs).
    """

    def __init__(self, in_features: int, out_features: int, std_init: float = 0.5) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        bound = 1.0 / math.sqrt(in_features)
        self.weight_mu = Parameter(empty((out_features, in_features)))
        self.weight_sigma = Parameter(empty((out_features, in_features)))
        self.bias_mu = Parameter(empty((out_features,)))
        self.bias_sigma = Parameter(empty((out_features,)))
        for mu, sigma in ((self.weight_mu, self.weight_sigma), (self.bias_mu, self.bias_sigma)):
            nn.init.uniform_(mu, -bound, bound)
            nn.init.constant_(sigma, std_init * bound)
        self.noise: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Any) -> Any:
        """Return [..., out] of inputs [..., in]."""
        if self.noise is None:
            return linear(x, self.weight_mu, self.bias_mu)
        inputs, outputs = self.noise
        # (sigma * f(e_out) f(e_in)^T) x = f(e_out) * (sigma (f(e_in) * x)): the noisy matrix is never built
        mean = linear(x, self.weight_mu, self.bias_mu)
        return mean + linear(x * inputs, self.weight_sigma, self.bias_sigma) * outputs

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


class QNetwork(nn.Module):
    """Q(s, .) of encoded observations [B, ...]: [B, A], or [B, A, num_atoms] with `num_atoms` above 0.

    `dueling` splits the last hidden layer into a value and an advantage stream, Q = V + A - mean_a A
    (arXiv:1511.06581 eq. 9). `noisy` makes every layer after `features` a `NoisyLinear`.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        num_actions: int,
        *,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: str = "relu",
        dueling: bool = False,
        noisy: bool = False,
        num_atoms: int = 0,
        features: FeaturesFactory | None = None,
    ) -> None:
        super().__init__()
        self.num_actions, self.num_atoms, self.dueling = num_actions, num_atoms, dueling
        self.features, size = made_features(features, observation_space)
        self.obs_shape = (size,) if self.features is None else None  # of encoded observations; None: the features' own
        layer = NoisyLinear if noisy else nn.Linear
        shared = len(hidden_sizes) - 1 if dueling else len(hidden_sizes)
        trunk = (size, *hidden_sizes[: max(shared, 0)])
        stream = (trunk[-1], *hidden_sizes[len(trunk) - 1 :])
        outputs = max(num_atoms, 1)
        if dueling:
            self.trunk = _layers(trunk, activation, layer, last_activation=True)
            self.advantage = _layers((*stream, num_actions * outputs), activation, layer)
            self.value = _layers((*stream, outputs), activation, layer)
        else:
            self.q = _layers((*trunk, num_actions * outputs), activation, layer)
        self._noisy = [m for m in self.modules() if isinstance(m, NoisyLinear)]
        self.noise_size = sum(m.in_features + m.out_features for m in self._noisy)

    def forward(self, obs: Any) -> Any:
        """Return Q [B, A], or the numbers of its distribution [B, A, num_atoms]."""
        x = obs if self.features is None else self.features(obs)
        atoms = (self.num_atoms,) if self.num_atoms else ()
        if not self.dueling:
            q = self.q(x)
            return q.reshape(-1, self.num_actions, *atoms) if atoms else q
        x = self.trunk(x)
        advantage = self.advantage(x).reshape(-1, self.num_actions, *atoms)
        value = self.value(x).reshape(-1, 1, *atoms)
        return value + advantage - advantage.mean(dim=1, keepdim=True)

    def set_noise(self, normal: NDArray[np.float32] | None, device: str = "cpu") -> None:
        """Set the noise of the noisy layers, `noise_size` standard normal numbers; None: mean weights."""
        if normal is None:
            for layer in self._noisy:
                layer.noise = None
            return
        scaled = to_device(np.sign(normal) * np.sqrt(np.abs(normal)), device)
        start = 0
        for layer in self._noisy:
            middle, stop = start + layer.in_features, start + layer.in_features + layer.out_features
            layer.noise = wrap(scaled[start:middle]), wrap(scaled[middle:stop])
            start = stop


def _layers(sizes: Sequence[int], activation: str, layer: Any, last_activation: bool = False) -> nn.Sequential:
    modules: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        modules.append(layer(inputs, outputs))
        if last_activation or i < len(sizes) - 2:
            modules.append(ACTIVATIONS[activation]())
    return nn.Sequential(*modules)
