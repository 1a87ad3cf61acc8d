"""A memory that the environment's feedback clears: recurrence from the last reset only."""

from __future__ import annotations

from typing import Any, Literal

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.conditional.layout import layout
from dynarl.agents.policies.renamed_arguments import renames_arguments
from dynarl.autograd import Tensor, zeros
from dynarl.autograd.ops.shape import cat
from dynarl.distributions import Categorical
from dynarl.rollout import Feedback

__all__ = ["ForgetfulGRU"]


@renames_arguments("forgetful_gru")
class ForgetfulGRU(nn.Module):
    """A GRU whose memory is cleared where the environment signals that its content is no longer valid.

    The signal is a reward below `least`, or a number above 0 in the info field `reset_field`. ``cleared`` is 1
    where the memory was cleared.

    `reset_mode` "input" makes the same network static: the signal is one more input. With "never" the signal is
    ignored.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        *,
        reset_field: str | None = None,
        least: float = 0.0,
        hidden_size: int = 32,
        reset_mode: Literal["branch", "input", "never"] = "branch",
    ) -> None:
        super().__init__()
        size, actions = layout(self, observation_space, action_space)
        if reset_mode not in ("branch", "input", "never"):
            raise ValueError(f"ForgetfulGRU: reset_mode must be 'branch', 'input' or 'never', got {reset_mode!r}")
        self.info_fields = () if reset_field is None else (reset_field,)
        self.reset_field, self.reset_mode, self.least, self.hidden_size = reset_field, reset_mode, least, hidden_size
        self.cell = nn.GRUCell(size + 1, hidden_size)
        self.policy, self.value = nn.Linear(hidden_size, actions), nn.Linear(hidden_size, 1)

    def initial_state(self) -> Tensor:
        """Return an empty memory."""
        return zeros(self.hidden_size)

    def forward(self, obs: Tensor, state: Tensor, feedback: Feedback) -> tuple[Any, Tensor, Tensor, dict[str, Any]]:
        """Return distribution, value, next state and aux for one observation."""
        h = state
        reset = feedback.reward < self.least if self.reset_field is None else feedback.info[self.reset_field] > 0
        cleared = self.reset_mode == "branch" and bool(reset)
        if cleared:
            h = self.initial_state()
        signal = reset.float().reshape(1) if self.reset_mode == "input" else zeros(1)
        h = self.cell(cat((obs, signal)), h)
        return Categorical(logits=self.policy(h)), self.value(h)[0], h, {"cleared": float(cleared)}
