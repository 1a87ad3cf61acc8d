"""The ready-made policy: networks from observations to an action distribution and a value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from dynarl import nn
from dynarl.agents.encoders.features import FeaturesFactory, made_features
from dynarl.autograd import Parameter, Tensor, zeros
from dynarl.autograd.ops.elementwise import exp, where
from dynarl.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MultiCategorical,
    Normal,
    Product,
    StateDependentNormal,
)
from dynarl.envs.spaces import leaves_of

__all__ = ["ActorCritic", "head_size", "mlp"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "elu": nn.ELU}
# Small enough that exp() of it is 0 and large enough that float32 sums with it stay finite.
FORBIDDEN = -1e8


def mlp(sizes: Sequence[int], activation: str, *, gain: float | None, out_gain: float | None) -> nn.Sequential:
    """Return Linear layers of the given sizes with activations between them.

    With gains, weights are orthogonal (gain for hidden layers, out_gain for the last) and biases zero, as
    in arXiv:2005.12729; None keeps the layers' own initialisation.
    """
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        last = i == len(sizes) - 2
        linear = nn.Linear(inputs, outputs)
        scale = out_gain if last else gain
        if scale is not None:
            nn.init.orthogonal_(linear.weight, scale)
            nn.init.zeros_(linear.bias)
        layers.append(linear)
        if not last:
            layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers)


def head_size(action_space: spaces.Space[Any]) -> int:
    """Return the number of parameters of the action distribution of a space."""
    match action_space:
        case spaces.Discrete():
            return int(action_space.n)
        case spaces.MultiDiscrete():
            return int(np.sum(action_space.nvec))
        case spaces.Box() | spaces.MultiBinary():
            return math.prod(action_space.shape)
        case spaces.Dict() | spaces.Tuple():
            return sum(head_size(leaf) for leaf in leaves_of(action_space))
    raise ValueError(
        "action space: supported are Discrete, Box, MultiDiscrete, MultiBinary and Dict or Tuple of those, "
        f"got {action_space}"
    )


class ActorCritic(nn.Module):
    """Separate networks for the action distribution and the value, as in the PPO paper.

    `features` is a network in front of both, which share it: a Module that maps observations [B, ...] to [B, F], or a
    function that makes one from the observation space.

    Called with encoded observations [B, ...], it returns (distribution over [B], value [B]). The distribution is
    Categorical for Discrete actions, a Gaussian whose standard deviation does not depend on the state for Box, a
    product of Categoricals for MultiDiscrete, of Bernoullis for MultiBinary, and a product over the parts of Dict and
    Tuple. With `use_sde`, the exploration noise of Box actions is a function of the actor's last features (gSDE,
    arXiv:2005.05719): log_std is then [H, A].
    """

    takes_batch = True

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: str = "tanh",
        orthogonal_init: bool = True,
        log_std_init: float = 0.0,
        use_sde: bool = False,
        features: FeaturesFactory | None = None,
    ) -> None:
        super().__init__()
        self.observation_space, self.action_space = observation_space, action_space
        self.features, size = made_features(features, observation_space)
        gain = math.sqrt(2.0) if orthogonal_init else None
        outputs = head_size(action_space)
        self.actor = mlp((size, *hidden_sizes, outputs), activation, gain=gain, out_gain=0.01 if gain else None)
        self.critic = mlp((size, *hidden_sizes, 1), activation, gain=gain, out_gain=1.0 if gain else None)
        self.log_std = None
        if isinstance(action_space, spaces.Box):
            shape = ((size, *hidden_sizes)[-1], outputs) if use_sde else (outputs,)
            self.log_std = Parameter(zeros(*shape) + log_std_init)
        elif use_sde:
            raise ValueError(f"use_sde: state-dependent exploration is for Box actions, got {action_space}")
        elif boxes := sum(head_size(leaf) for leaf in leaves_of(action_space) if isinstance(leaf, spaces.Box)):
            self.log_std = Parameter(zeros(boxes) + log_std_init)
        self.use_sde = use_sde

    def forward(self, obs: Tensor, action_mask: Tensor | None = None) -> tuple[Any, Tensor]:
        """Return the action distribution and the value [B] of encoded observations [B, ...].

        `action_mask` [B, M], True where allowed, gives all other actions probability 0 (arXiv:2006.14171).
        """
        if self.features is not None:
            obs = self.features(obs)
        if self.use_sde and self.log_std is not None:
            features = self.actor[:-1](obs)
            noisy = StateDependentNormal(self.actor[-1](features), features, self.log_std)
            return noisy, self.critic(obs).reshape(-1)
        head = self.actor(obs)
        if action_mask is not None:
            head = where(action_mask, head, FORBIDDEN)
        return self.distribution(head), self.critic(obs).reshape(-1)

    def value(self, obs: Tensor) -> Tensor:
        """Return the value [B] alone."""
        if self.features is not None:
            obs = self.features(obs)
        value: Tensor = self.critic(obs).reshape(-1)
        return value

    def distribution(self, head: Tensor) -> Any:
        """Return the distribution that the actor's output [B, head_size] parametrises."""
        space = self.action_space
        if not isinstance(space, spaces.Dict | spaces.Tuple):
            return _distribution(space, head, self.log_std)
        parts, start, first = [], 0, 0
        for leaf in leaves_of(space):
            size, log_std = head_size(leaf), None
            if isinstance(leaf, spaces.Box):
                assert self.log_std is not None
                log_std = self.log_std[first : first + size]
                first += size
            parts.append(_distribution(leaf, head[..., start : start + size], log_std))
            start += size
        return Product(parts, validate_args=False)


def _distribution(space: spaces.Space[Any], head: Tensor, log_std: Any) -> Any:
    """Return the distribution over one space that `head` [B, head_size] parametrises."""
    if isinstance(space, spaces.Discrete):
        return Categorical(logits=head, validate_args=False)
    if isinstance(space, spaces.Box):
        return Independent(Normal(head, exp(log_std), validate_args=False), 1, validate_args=False)
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(head, np.ravel(space.nvec).tolist(), validate_args=False)
    return Independent(Bernoulli(logits=head, validate_args=False), 1, validate_args=False)
