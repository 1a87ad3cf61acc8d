"""A mixture of experts with a hard gate (Switch routing, arXiv:2101.03961)."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.conditional.layout import layout
from dynarl.autograd import Tensor
from dynarl.distributions import Categorical

__all__ = ["Mixture"]


class Mixture(nn.Module):
    """One of `experts` networks answers, the one with the largest gate probability; the others are not computed.

    Experts are linear. Their output is multiplied by the probability of the gate (eq. 2), through which the gate
    learns. ``sure`` is that probability.
    """

    def __init__(self, observation_space: spaces.Box, action_space: spaces.Discrete, *, experts: int = 16) -> None:
        super().__init__()
        size, actions = layout(self, observation_space, action_space)
        self.gate = nn.Linear(size, experts)
        nn.init.normal_(self.gate.weight)  # far apart at first, so that many experts are tried
        self.experts = nn.ModuleList([nn.Linear(size, actions + 1) for _ in range(experts)])

    def forward(self, obs: Tensor) -> tuple[Any, Tensor, dict[str, Any]]:
        """Return distribution, value and aux of one observation."""
        weights = self.gate(obs).softmax(-1)
        k = int(weights.argmax())
        out = weights[k] * self.experts[k](obs)
        return Categorical(logits=out[:-1]), out[-1], {"sure": weights[k]}
