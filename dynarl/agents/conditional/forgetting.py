"""A memory that the environment's feedback clears: recurrence from the last reset only."""

from __future__ import annotations

from typing import Any, Literal

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.conditional.layout import layout
from dynarl.autograd import Tensor, zeros
from dynarl.autograd.ops.shape import cat
from dynarl.distributions import Categorical
from dynarl.rollout import Feedback

__all__ = ["ForgetfulGRU"]


class ForgetfulGRU(nn.Module):
    """A GRU whose memory is cleared where the environment signals that its content is no longer valid.

    The signal is a reward below `least`, or a number above 0 in the info field that `told` names. ``cleared`` is 1
    where the memory was cleared.

    `heed` "input" makes the same network static: the signal is one more input. With "never" the signal is ignored.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        *,
        told: str | None = None,
        least: float = 0.0,
        hidden_size: int = 32,
        heed: Literal["branch", "input", "never"] = "branch",
    ) -> None:
        super().__init__()
        size, actions = layout(self, observation_space, action_space)
        if heed not in ("branch", "input", "never"):
            raise ValueError(f"ForgetfulGRU: heed must be 'branch', 'input' or 'never', got {heed!r}")
        self.info_fields = () if told is None else (told,)
        self.told, self.least, self.heed, self.hidden_size = told, least, heed, hidden_size
        self.cell = nn.GRUCell(size + 1, hidden_size)
        self.policy, self.value = nn.Linear(hidden_size, actions), nn.Linear(hidden_size, 1)

    def initial_state(self) -> Tensor:
        """Return an empty memory."""
        return zeros(self.hidden_size)

    def forward(self, obs: Tensor, state: Tensor, feedback: Feedback) -> tuple[Any, Tensor, Tensor, dict[str, Any]]:
        """Return distribution, value, next state and aux for one observation."""
        h = state
        over = feedback.reward < self.least if self.told is None else feedback.info[self.told] > 0
        cleared = self.heed == "branch" and bool(over)
        if cleared:
            h = self.initial_state()
        said = over.float().reshape(1) if self.heed == "input" else zeros(1)
        h = self.cell(cat((obs, said)), h)
        return Categorical(logits=self.policy(h)), self.value(h)[0], h, {"cleared": float(cleared)}
