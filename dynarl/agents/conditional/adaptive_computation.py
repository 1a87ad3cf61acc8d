"""Adaptive computation: thinking ends at a fixed point."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.conditional.reading import RowReader
from dynarl.autograd import Tensor
from dynarl.distributions import Categorical

__all__ = ["AdaptiveComputation"]


class AdaptiveComputation(RowReader):
    """Read the observation row by row, with as many thoughts as it needs.

    The first of the `rows` of the observation is the question. A thought reads one row by attention, which decides
    the row that the next thought reads. Thinking ends at a fixed point, where no number of h moves by more than
    `tolerance`, as in deep equilibrium models (arXiv:1909.01377). That replaces the halting unit and the price per
    thought of adaptive computation time (arXiv:1603.08983). ``steps`` is the number of thoughts.

    `thoughts` makes the same network static: that many thoughts at every step.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        *,
        rows: int = 9,
        hidden_size: int = 64,
        max_thoughts: int = 10,
        tolerance: float = 0.1,
        thoughts: int | None = None,
    ) -> None:
        super().__init__(
            observation_space, action_space, rows=rows, hidden_size=hidden_size, max_thoughts=max_thoughts,
            thoughts=thoughts,
        )  # fmt: skip
        self.tolerance = tolerance
        self.policy, self.value = nn.Linear(hidden_size, self.actions), nn.Linear(hidden_size, 1)

    def forward(self, obs: Tensor) -> tuple[Any, Tensor, dict[str, Any]]:
        """Return distribution, value and aux of one observation."""
        rows = obs.reshape(self.rows, self.width)
        h, n, moved = self.think(rows[0]), 0, 1.0
        while n < self.max_thoughts and moved > self.tolerance:
            before, h, n = h, self.read(h, rows), n + 1
            moved = 1.0 if self.thoughts else (h - before).abs().max()
        return Categorical(logits=self.policy(h)), self.value(h)[0], {"steps": n}
