"""Search again after a surprising reward: the last result is used until a reward falls below the expected one."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.conditional.layout import layout
from dynarl.autograd import Tensor, zeros
from dynarl.batching import bernoulli
from dynarl.distributions import Branched, Categorical
from dynarl.nn.functional import logsigmoid
from dynarl.rollout import Feedback

__all__ = ["SecondThoughts"]


class SecondThoughts(nn.Module):
    """Act by the last result without a new search, and search again when it earned less than expected.

    The first of the `rows` of the observation is read at the start of an episode. The expected reward is the value,
    which is exact for gamma 0. A reward below it by `surprise` starts a search, if it was earned by the action that
    the last result favours and not by an exploring action. A thought reads one row by attention. After each thought a
    coin with a learned bias decides whether to stop (as in PonderNet, arXiv:2107.05407). Its draws are part of the
    probability of the action. ``steps`` is the number of thoughts.

    `thoughts` makes the same network static: that many thoughts at every step.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        *,
        rows: int = 7,
        hidden_size: int = 64,
        max_thoughts: int = 8,
        surprise: float = 0.01,
        thoughts: int | None = None,
    ) -> None:
        super().__init__()
        size, actions = layout(self, observation_space, action_space, rows=rows)
        self.rows, self.width, self.hidden_size = rows, size // rows, hidden_size
        self.max_thoughts, self.surprise, self.thoughts = max_thoughts, surprise, thoughts
        self.read = nn.Sequential(nn.Linear(self.width, hidden_size), nn.Tanh())
        self.where, self.found = nn.Linear(hidden_size, rows), nn.Linear(hidden_size, 1)
        self.policy, self.value = nn.Linear(hidden_size, actions), nn.Linear(size, 1)

    def initial_state(self) -> tuple[Tensor, float]:
        """Return an empty result and no expected reward."""
        return zeros(self.hidden_size), 0.0

    def forward(
        self, obs: Tensor, state: tuple[Tensor, Tensor], feedback: Feedback
    ) -> tuple[Any, Tensor, Any, dict[str, Any]]:
        """Return distribution, value, next state and aux for one observation."""
        rows, (h, expected) = obs.reshape(self.rows, self.width), state
        log_prob, entropy, n, thoughts = zeros(()), zeros(()), 0, self.thoughts or 0
        if feedback.episode_start:
            h = self.read(rows[0])
        elif self.thoughts is None:
            answer = self.policy(h)
            meant = (answer * feedback.action).sum() >= answer.max()
            thoughts = self.max_thoughts if meant & (feedback.reward < expected - self.surprise) else 0
        while n < thoughts:
            h, n = self.read(self.where(h).softmax(-1) @ rows), n + 1
            if self.thoughts is None:
                logit = self.found(h)[0]
                stop, go_on = logsigmoid(logit), logsigmoid(-logit)
                entropy = entropy - stop.exp() * stop - go_on.exp() * go_on
                if bernoulli(stop.exp()) > 0:
                    log_prob = log_prob + stop
                    break
                log_prob = log_prob + go_on
        value = self.value(obs)[0]
        return Branched(Categorical(logits=self.policy(h)), log_prob, entropy), value, (h, value), {"steps": n}
