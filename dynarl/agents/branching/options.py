"""Options (Bacon, Harb and Precup 2016, arXiv:1609.05140) that the environment's feedback ends."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.branching.layout import layout
from dynarl.agents.policies.actor_critic import mlp
from dynarl.autograd import Tensor, eye, zeros
from dynarl.batching import categorical
from dynarl.distributions import Branched, Categorical
from dynarl.rollout import Feedback

__all__ = ["Options"]


class Options(nn.Module):
    """Act by one of several policies, an option, until a reward below `least` says that it is over.

    The policy over options then draws the next one, knowing which one failed; episodes begin with option 0. Where the
    paper learns when an option ends, here the reward says so. Only the option at hand is computed, and
    its draw is part of the action's probability, so that both policies learn from one policy gradient. ``ended`` is 1
    where an option was over.

    With `look` False rewards end nothing: the first option acts at all times.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        *,
        options: int = 10,
        hidden_size: int = 16,
        least: float = 0.0,
        look: bool = True,
    ) -> None:
        super().__init__()
        size, actions = layout(self, observation_space, action_space)
        self.least, self.look = least, look
        self.next = nn.Parameter(eye(options) * -50.0)  # what just failed is not tried again
        networks = [mlp((size, hidden_size, actions + 1), "tanh", gain=None, out_gain=None) for _ in range(options)]
        self.options = nn.ModuleList(networks)

    def initial_state(self) -> int:
        """The first option."""
        return 0

    def forward(self, obs: Tensor, state: Tensor, feedback: Feedback) -> tuple[Any, Tensor, Any, dict[str, Any]]:
        """Return distribution, value, next state and extra for one observation."""
        option = int(state)
        ended = self.look and bool(feedback.reward < self.least)
        log_prob = entropy = zeros(())
        if ended:
            choice = self.next[option].log_softmax(-1)
            option = int(categorical(logits=choice))
            log_prob, entropy = choice[option], -(choice.exp() * choice).sum()
        out = self.options[option](obs)
        action = Categorical(logits=out[:-1])
        return Branched(action, log_prob, entropy), out[-1], option, {"ended": float(ended)}
