"""The worker of agents that learn from a replay: their own steps, written down as fragments instead of stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.rollout.collect import Reporting
from dynarl.rollout.fragment import Final, Fragment

__all__ = ["TransitionCollector", "Transitions"]


class Transitions:
    """Takes what a `ReplayBuffer` would, `num_steps` steps of N environments, and makes a `Fragment` of it.

    The fragment has ``obs, action, reward, terminated, truncated, valid, episode_start`` and, where masks were given,
    ``action_mask`` and ``next_action_mask``. The row after the last is `last_obs`.
    """

    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps
        self._fragment = Fragment()
        self._t = 0
        self._finals: list[Final] = []
        self._last_obs: Any = None

    def add(
        self,
        obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        next_obs: NDArray[Any],
        valid: NDArray[np.bool_],
        *,
        action_mask: Any = None,
        next_action_mask: Any = None,
    ) -> None:
        """Write down one step of all environments, [N, ...]."""
        row = {
            "valid": valid, "obs": obs, "action": action, "reward": np.asarray(reward, np.float32),
            "terminated": terminated, "truncated": truncated,
        }  # fmt: skip
        if action_mask is not None:
            row |= {"action_mask": action_mask, "next_action_mask": next_action_mask}
        for name, value in row.items():
            if name not in self._fragment:
                self._fragment[name] = np.zeros((self._num_steps, *value.shape), value.dtype)
            self._fragment[name][self._t] = value
        ended = np.flatnonzero((terminated | truncated) & valid)
        if len(ended):
            self._finals.append((self._t, ended, next_obs[ended]))
        self._last_obs = next_obs
        self._t += 1

    def take(self, infos: Sequence[Mapping[str, Any]] = ()) -> Fragment:
        """Return the fragment, whose memory the next one reuses, with the infos of episodes that ended."""
        fragment = self._fragment
        fragment.close(self._last_obs, self._finals, infos)
        self._t, self._finals = 0, []
        return fragment


class TransitionCollector(Reporting):
    """Lets an agent that learns from a replay act for another one: `Collector`'s verbs over the agent's own steps.

    The agent's `step_environments` makes one step in every environment, puts it into ``agent.replay`` and returns the
    info of episodes that ended; its `vector_steps` counts them, by which its noise is keyed.
    """

    def __init__(self, agent: Any, *, num_steps: int) -> None:
        self.agent, self.num_steps = agent, num_steps
        self._transitions = Transitions(num_steps)

    @property
    def step(self) -> int:
        """How many steps each environment has made."""
        return int(self.agent.vector_steps)

    @step.setter
    def step(self, step: int) -> None:
        self.agent.vector_steps = step

    def collect(self, policy_version: int = 0) -> Fragment:
        """Make ``num_steps`` steps and return them as a `Fragment`, whose memory the next call reuses."""
        agent, first, env_steps = self.agent, self.step, self.agent.env_steps
        agent.replay = self._transitions
        starts, infos = np.empty((self.num_steps, agent.envs.num_envs), np.bool_), []
        agent.begin()
        for t in range(self.num_steps):
            starts[t] = agent.envs.episode_start
            if info := agent.step_environments():
                infos.append(info)
        agent.env_steps = env_steps  # those of all workers, which the learner counts
        fragment = self._transitions.take(infos)
        fragment["episode_start"] = starts
        fragment.cut_before_dummies()
        fragment.env_ids, fragment.first_step, fragment.policy_version = agent.envs.env_ids, first, policy_version
        return fragment

    def state_dict(self) -> dict[str, Any]:
        """The step, the environments' state, and the policy's where it has one."""
        agent = self.agent
        envs = agent.envs.state_dict() if agent.started else {}
        policy = {} if agent.stateful is None else {"experience": agent.experience.state_dict()}
        return {"step": self.step, "started": agent.started, "envs": envs, **policy}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.step, self.agent.started = int(state["step"]), bool(state["started"])
        if self.agent.started:
            self.agent.envs.load_state_dict(state["envs"])
        if self.agent.stateful is not None:
            self.agent.experience.load_state_dict(state["experience"])
