"""`PolicyRunner` for agents that are actor and learner in one object."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.stored_actions import StoredActions
from dynarl.agents.user_policy.policy import UserPolicy
from dynarl.agents.user_policy.runner import PolicyRunner, PolicyState
from dynarl.rollout import Feedback

__all__ = ["OldRunner"]


class OldRunner(PolicyRunner):
    """Runs the policy of `agent`, which encodes observations and decides."""

    def __init__(self, agent: Any, program: UserPolicy, *, sequence_length: int) -> None:
        self.agent = self_ = agent
        actions = StoredActions(agent.action_space)
        actions.shape, actions.dtype = agent.action_shape, agent.action_dtype

        class Encoder:
            device = agent.device

            def __call__(self, obs: Any) -> Any:
                return self_.network_input(obs)

            def example(self, rows: int) -> Any:
                return self_.any_obs(rows)

        encoder: Any = Encoder()
        decider: Any = SimpleNamespace(check=agent.check_outputs, decide=agent.decide)
        super().__init__(program, encoder, actions, decider, seed=agent.seed, sequence_length=sequence_length)

    @property
    def program(self) -> UserPolicy:
        """The policy."""
        return self.policy

    def anything(self, rows: int) -> tuple[Any, Any, Feedback]:
        """Return example inputs."""
        return self.example_inputs(rows)

    def choose(
        self,
        obs: NDArray[Any],
        noise: NDArray[np.float32] | None,
        state: PolicyState | None,
        mask: Any = None,
        **rest: Any,
    ) -> tuple[NDArray[Any], PolicyState]:
        """Return stored actions and the state of the next call."""
        return self.predict(obs, noise, state, mask, draw=self.agent.predictions, **rest)
