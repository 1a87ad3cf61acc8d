"""A set encoder (Deep Sets, arXiv:1703.06114) that computes the elements alone and no padding."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.conditional.layout import layout
from dynarl.autograd import Tensor, zeros
from dynarl.distributions import Categorical
from dynarl.envs.spaces import flat_size

__all__ = ["SetPolicy"]


class SetPolicy(nn.Module):
    """Sum an embedding of each element, then act on the sum: rho(sum_i phi(x_i)) (theorem 2).

    The observation is a Sequence of elements, or a Box [number of elements / most; the elements, `width` numbers
    each]. ``steps`` is the number of elements computed.

    `elements` makes the same network static for a Sequence: it reads the first `elements` at most.
    """

    def __init__(
        self,
        observation_space: spaces.Box | spaces.Sequence,
        action_space: spaces.Discrete,
        *,
        width: int = 5,
        hidden_size: int = 32,
        elements: int | None = None,
    ) -> None:
        super().__init__()
        self.hidden_size, self.elements = hidden_size, elements
        self.sequence = isinstance(observation_space, spaces.Sequence)
        if isinstance(observation_space, spaces.Sequence):
            if not isinstance(action_space, spaces.Discrete):
                raise ValueError(f"SetPolicy: is for Discrete actions, got {action_space}")
            width, actions = flat_size(observation_space.feature_space), int(action_space.n)
        else:
            size, actions = layout(self, observation_space, action_space, offset=1, width=width)
            if elements is not None:
                raise ValueError(f"SetPolicy: elements is for Sequence observations, got {observation_space}")
            self.most, self.width = (size - 1) // width, width
        self.phi = nn.Sequential(nn.Linear(width, hidden_size), nn.ReLU())
        self.rho = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.ReLU())
        self.policy, self.value = nn.Linear(hidden_size, actions), nn.Linear(hidden_size, 1)

    def forward(self, obs: Any) -> tuple[Any, Tensor, dict[str, Any]]:
        """Return distribution, value and aux of one observation."""
        total, many = self.read_each(obs) if self.sequence else self.read_box(obs)
        h = self.rho(total)
        return Categorical(logits=self.policy(h)), self.value(h)[0], {"steps": many}

    def read_each(self, obs: Any) -> tuple[Tensor, Any]:
        """Return the sum over the elements of a sequence, read in turn, and the number of elements."""
        total, many = zeros(self.hidden_size), 0
        for x in obs:
            if many == self.elements:
                break
            total, many = total + self.phi(x), many + 1
        return total, many

    def read_box(self, obs: Tensor) -> tuple[Tensor, Any]:
        """Return the sum over the elements of a Box, and their number."""
        many = int((obs[0] * self.most).round())
        elements = obs[1:].reshape(self.most, self.width)[:many]
        return self.phi(elements).sum(0), many
