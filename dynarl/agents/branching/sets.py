"""A set encoder (Deep Sets, arXiv:1703.06114) that reads the elements that are there and no padding."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.branching.layout import layout
from dynarl.autograd import Tensor
from dynarl.distributions import Categorical

__all__ = ["SetEncoder"]


class SetEncoder(nn.Module):
    """Sum an embedding of each element, then act on the sum: rho(sum_i phi(x_i)) (theorem 2).

    The observation is [number of elements / most; the elements, `width` numbers each]. ``steps`` are the elements read.
    """

    def __init__(
        self, observation_space: spaces.Box, action_space: spaces.Discrete, *, width: int = 5, hidden_size: int = 32
    ) -> None:
        super().__init__()
        size, actions = layout(self, observation_space, action_space, beside=1, width=width)
        self.most, self.width = (size - 1) // width, width
        self.phi = nn.Sequential(nn.Linear(width, hidden_size), nn.ReLU())
        self.rho = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.ReLU())
        self.policy, self.value = nn.Linear(hidden_size, actions), nn.Linear(hidden_size, 1)

    def forward(self, obs: Tensor) -> tuple[Any, Tensor, dict[str, Any]]:
        """Return distribution, value and extra of one observation."""
        many = int((obs[0] * self.most).round())
        elements = obs[1:].reshape(self.most, self.width)[:many]
        h = self.rho(self.phi(elements).sum(0))
        return Categorical(logits=self.policy(h)), self.value(h)[0], {"steps": many}
