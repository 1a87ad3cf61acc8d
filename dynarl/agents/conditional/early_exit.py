"""Early exit (BranchyNet, arXiv:1709.01686), the early exits trained by the later ones (arXiv:1905.08094)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.conditional.layout import layout
from dynarl.autograd import Tensor
from dynarl.distributions import Categorical

__all__ = ["EarlyExit"]


class EarlyExit(nn.Module):
    """Layers with an exit behind each; the first exit with a certain answer gives it.

    An answer is certain where its entropy is below `sure` times that of a uniform distribution. ``loss`` is the
    cross-entropy between the final answer and those of the exits before it. ``steps`` is the number of layers
    computed.

    `exit` makes the network static: it always exits behind that layer.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        *,
        hidden_sizes: Sequence[int] = (16, 64, 64),
        sure: float = 0.1,
        exit: int | None = None,
    ) -> None:
        super().__init__()
        size, actions = layout(self, observation_space, action_space)
        sizes = [size, *hidden_sizes][: None if exit is None else exit + 1]
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(i, o), nn.ReLU()) for i, o in pairwise(sizes)])
        self.exits = nn.ModuleList([nn.Linear(size, actions) for size in sizes[1:]])
        self.values = nn.ModuleList([nn.Linear(size, 1) for size in sizes[1:]])
        self.limit = -1.0 if exit is not None else sure * math.log(actions)

    def forward(self, obs: Tensor) -> tuple[Any, Tensor, dict[str, Any]]:
        """Return distribution, value and aux of one observation."""
        h, answers = obs, []
        for layer, leave in zip(self.layers, self.exits):
            h = layer(h)
            answers.append(leave(h).log_softmax(-1))
            if -(answers[-1].exp() * answers[-1]).sum() < self.limit:
                break
        *passed, answer = answers
        taught, n = answer.detach().exp(), len(answers)
        loss = -sum((taught * other).sum() for other in passed)
        return Categorical(logits=answer), self.values[n - 1](h)[0], {"loss": loss, "steps": n}
