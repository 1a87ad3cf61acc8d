"""Learned halting (PonderNet, arXiv:2107.05407): after each thought a coin with a learned bias says whether to stop."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.conditional.reading import RowReader
from dynarl.autograd import Tensor, zeros
from dynarl.autograd.ops.shape import cat
from dynarl.batching import bernoulli
from dynarl.distributions import Branched, Categorical
from dynarl.nn.functional import logsigmoid

__all__ = ["PonderNet"]


class PonderNet(RowReader):
    """Read the observation row by row and learn how many thoughts to take.

    The first of the `rows` of the observation is the question. A thought reads one row by attention, which decides
    the row that the next thought reads. After each thought the halting unit draws whether to stop (eq. 1 and 2); its
    inputs are the current reading and its distance from the last one. The paper averages its loss over all thoughts.
    Here the draws are part of the probability of the action, so that rewards train the halting unit by the policy
    gradient; hence the value, their baseline, is computed before the first draw. ``steps`` is the number of thoughts.

    ``loss`` is `price` for each thought that the halting unit allows, times the 4th power of the probability of the
    answer: with the full price from the start the unit would stop at once, before thoughts are useful. For the same
    reason it is patient at first: `patience` is the initial logit of continuing.

    `thoughts` makes the same network static: that many thoughts at every step.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        *,
        rows: int = 9,
        hidden_size: int = 64,
        max_thoughts: int = 12,
        price: float = 0.1,
        patience: float = 3.0,
        thoughts: int | None = None,
    ) -> None:
        super().__init__(
            observation_space, action_space, rows=rows, hidden_size=hidden_size, max_thoughts=max_thoughts,
            thoughts=thoughts,
        )  # fmt: skip
        self.price = price
        self.halt = nn.Linear(2 * hidden_size, 1)
        nn.init.constant_(self.halt.bias, -patience)
        self.policy, self.value = nn.Linear(hidden_size, self.actions), nn.Linear(hidden_size, 1)

    def forward(self, obs: Tensor) -> tuple[Any, Tensor, dict[str, Any]]:
        """Return distribution, value and aux of one observation."""
        rows = obs.reshape(self.rows, self.width)
        h, n, halted = self.think(rows[0]), 0, False
        value, log_prob, entropy, more = self.value(h)[0], zeros(()), zeros(()), zeros(())
        while n < self.max_thoughts and not halted:
            before, h, n = h, self.read(h, rows), n + 1
            if self.thoughts is None and n < self.max_thoughts:
                logit = self.halt(cat((h, (h - before).abs())))[0]
                stop, go_on = logsigmoid(logit), logsigmoid(-logit)
                halted = bool(bernoulli(stop.exp()) > 0)
                log_prob = log_prob + (stop if halted else go_on)
                entropy = entropy - stop.exp() * stop - go_on.exp() * go_on
                more = more + go_on.exp()
        answer = Categorical(logits=self.policy(h))
        loss = self.price * answer.probs.max().detach() ** 4 * more
        return Branched(answer, log_prob, entropy), value, {"loss": loss, "steps": n}
