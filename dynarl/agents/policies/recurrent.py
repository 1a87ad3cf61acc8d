"""The ready-made recurrent actor-critic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.policies import FORBIDDEN, ActorCritic, FeaturesFactory, made_features
from dynarl.autograd import Tensor, zeros
from dynarl.autograd.ops.elementwise import where
from dynarl.autograd.ops.recurrent import gru_cell, lstm_cell
from dynarl.rollout import Feedback

__all__ = ["RecurrentActorCritic"]


class RecurrentActorCritic(nn.Module):
    """`ActorCritic` with an LSTM or GRU in front of each of its two networks.

    Actor and critic have separate recurrent layers, whose state is zero where an episode starts. The contract of a
    policy with a state is in dynarl/rollout/feedback.py; this one reads observations only.
    """

    takes_batch = True

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        recurrent: str,
        recurrent_hidden_size: int = 64,
        hidden_sizes: Sequence[int] = (64,),
        activation: str = "tanh",
        orthogonal_init: bool = True,
        log_std_init: float = 0.0,
        features: FeaturesFactory | None = None,
    ) -> None:
        super().__init__()
        kinds = {"lstm": nn.LSTM, "gru": nn.GRU}
        if recurrent not in kinds:
            raise ValueError(f"recurrent: must be 'lstm' or 'gru', got {recurrent!r}")
        self.size = recurrent_hidden_size
        inside = spaces.Box(-1.0, 1.0, (self.size,))
        # The networks after the recurrent layers, and the distribution of their output.
        self.heads = ActorCritic(
            inside, action_space, hidden_sizes=hidden_sizes, activation=activation,
            orthogonal_init=orthogonal_init, log_std_init=log_std_init,
        )  # fmt: skip
        self.features, inputs = made_features(features, observation_space)
        self.actor_memory, self.critic_memory = (kinds[recurrent](inputs, self.size) for _ in range(2))
        if orthogonal_init:
            for name, parameter in (*self.actor_memory.named_parameters(), *self.critic_memory.named_parameters()):
                nn.init.orthogonal_(parameter, 1.0) if "weight" in name else nn.init.zeros_(parameter)
        self.is_lstm = recurrent == "lstm"

    def initial_state(self) -> Any:
        """Zeros: (actor's, critic's), each (h, c) or (h,) of [hidden_size]."""
        device = next(self.actor_memory.parameters()).device
        one = tuple(zeros(self.size, device=device) for _ in range(2 if self.is_lstm else 1))
        return one, one

    def forward(self, obs: Tensor, state: Any, feedback: Feedback) -> tuple[Any, Tensor, Any]:
        """Return distribution over [N], value [N] and next state of encoded observations [N, ...]."""
        x = obs if self.features is None else self.features(obs)
        actor, critic = (self._step(m, x, s) for m, s in zip((self.actor_memory, self.critic_memory), state))
        value = self.heads.critic(critic[0]).reshape(-1)
        return self._distribution(self.heads.actor(actor[0]), feedback.action_mask), value, (actor, critic)

    def sequence(self, obs: Tensor, state: Any, feedback: Feedback) -> tuple[Any, Tensor]:
        """Return distribution and value over the T * N rows of encoded observations [T, N, ...].

        Observations of varying size come as the T * N rows they are.
        """
        steps, rows = feedback.episode_start.shape
        x: Any = obs
        if self.features is not None:
            flat = obs.reshape(steps * rows, *obs.shape[2:]) if isinstance(obs, Tensor) else obs
            x = self.features(flat).reshape(steps, rows, -1)
        reset = feedback.episode_start
        outputs = []
        for memory, first in zip((self.actor_memory, self.critic_memory), state):
            hx = tuple(part.unsqueeze(0) for part in first)
            outputs.append(memory(x, hx if self.is_lstm else hx[0], reset=reset)[0].reshape(steps * rows, -1))
        actor, critic = outputs
        mask = None if feedback.action_mask is None else feedback.action_mask.reshape(steps * rows, -1)
        return self._distribution(self.heads.actor(actor), mask), self.heads.critic(critic).reshape(-1)

    def _distribution(self, head: Tensor, action_mask: Tensor | None) -> Any:
        return self.heads.distribution(head if action_mask is None else where(action_mask, head, FORBIDDEN))

    def _step(self, memory: Any, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        weights = (memory.weight_ih_l0, memory.weight_hh_l0, memory.bias_ih_l0, memory.bias_hh_l0)
        if not self.is_lstm:
            return (gru_cell(x, state[0], *weights),)
        both = lstm_cell(x, *state, *weights)
        return both[..., : self.size], both[..., self.size :]
