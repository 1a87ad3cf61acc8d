"""Reading an observation row by row: each thought chooses the row that the next thought reads."""

from __future__ import annotations

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.conditional.layout import layout
from dynarl.autograd import Tensor

__all__ = ["RowReader"]


class RowReader(nn.Module):
    """The common part of policies that read their observation by attention; subclasses decide the number of thoughts.

    The first of the `rows` of the observation is the question. `thoughts` is a fixed number of thoughts in place of
    up to `max_thoughts`.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        *,
        rows: int,
        hidden_size: int,
        max_thoughts: int,
        thoughts: int | None,
    ) -> None:
        super().__init__()
        size, self.actions = layout(self, observation_space, action_space, rows=rows)
        self.rows, self.width = rows, size // rows
        self.max_thoughts, self.thoughts = thoughts or max_thoughts, thoughts
        self.where = nn.Linear(hidden_size, rows)
        self.think = nn.Sequential(nn.Linear(self.width, hidden_size), nn.Tanh())

    def read(self, h: Tensor, rows: Tensor) -> Tensor:
        """Return the next thought [hidden_size]: the content of the row of rows [rows, width] that h attends to."""
        thought: Tensor = self.think(self.where(h).softmax(-1) @ rows)
        return thought
