"""Options (Bacon, Harb and Precup 2016, arXiv:1609.05140) that the environment's feedback ends."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.conditional.layout import layout
from dynarl.agents.policies.actor_critic import mlp
from dynarl.autograd import Tensor, eye, zeros
from dynarl.batching import categorical
from dynarl.distributions import Branched, Categorical
from dynarl.rollout import Feedback

__all__ = ["Options"]


class Options(nn.Module):
    """Act by one of several policies, an option, until the environment ends it.

    An option ends where the reward is below `least`, or, with `ended_by`, where that field of the info is not 0. Then
    the policy over options draws the next one; its input is the option that failed where a reward ends options, and
    the observation where a field does. Episodes begin with option 0. The paper learns when an option ends; here the
    environment decides. Only the current option is computed, and its draw is part of the probability of the action,
    so that one policy gradient trains both policies. Options are networks with one hidden layer, or linear where
    `hidden_size` is 0. ``ended`` is 1 where an option ended.

    With `look` False no option ever ends: the first one acts at every step.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        *,
        options: int = 10,
        hidden_size: int = 16,
        least: float = 0.0,
        ended_by: str | None = None,
        look: bool = True,
    ) -> None:
        super().__init__()
        size, actions = layout(self, observation_space, action_space)
        self.least, self.look, self.ended_by = least, look, ended_by
        self.info_fields = () if ended_by is None else (ended_by,)
        if ended_by is None:
            self.next = nn.Parameter(eye(options, options + 1) * -50.0)  # what just failed is not tried again
        else:
            self.choose = nn.Linear(size, options + 1)
            nn.init.normal_(self.choose.weight)  # far apart at first, so that each is tried under some circumstances
        hidden = (hidden_size,) if hidden_size else ()
        networks = [mlp((size, *hidden, actions + 1), "tanh", gain=None, out_gain=None) for _ in range(options)]
        self.options = nn.ModuleList(networks)

    def initial_state(self) -> int:
        """Return the first option."""
        return 0

    def forward(self, obs: Tensor, state: Tensor, feedback: Feedback) -> tuple[Any, Tensor, Any, dict[str, Any]]:
        """Return distribution, value, next state and aux for one observation."""
        option = int(state)
        if not (self.look and self.is_over(feedback)):
            out = self.options[option](obs)
            return Branched(Categorical(logits=out[:-1]), zeros(()), zeros(())), out[-1], option, {"ended": 0.0}
        choice = self.next[option] if self.ended_by is None else self.choose(obs)
        log_probs = choice[:-1].log_softmax(-1)
        option = int(categorical(logits=log_probs))
        action = Categorical(logits=self.options[option](obs)[:-1])
        entropy = -(log_probs.exp() * log_probs).sum()
        # The value is that of before the draw: one that knew it would take from the draw what it earns.
        return Branched(action, log_probs[option], entropy), choice[-1], option, {"ended": 1.0}

    def is_over(self, feedback: Feedback) -> Tensor:
        """Return whether the environment ends the option."""
        over: Tensor = feedback.reward < self.least if self.ended_by is None else feedback.info[self.ended_by] != 0
        return over
