"""The collector of agents with a replay: transitions are written to fragments instead of the replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynarl.envs.protocol import Environments, Step
from dynarl.rollout.collect import Reporting
from dynarl.rollout.fragment import Final, Fragment

__all__ = ["Stepper", "TransitionCollector", "TransitionSink", "Transitions"]


class Transitions:
    """Collects `num_steps` steps of N environments, by the `add` of a `ReplayBuffer`, into a `Fragment`.

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
        """Store one step of all environments, [N, ...]."""
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


class TransitionSink(Protocol):
    """The store of transitions: a replay, or `Transitions`."""

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
        """Store one step of all environments, [N, ...]."""
        ...


class Stepper(Protocol):
    """The interface of an object that acts in environments to `TransitionCollector`.

    `steps` counts the steps of each environment, `env_steps` the valid ones of all workers of the run together.
    """

    envs: Environments
    steps: int
    started: bool
    env_steps: int

    def begin(self) -> None:
        """Reset the environments unless they were reset before."""
        ...

    def step(self, replay: TransitionSink) -> Step:
        """Act once in every environment, store the transitions, and return the environments' step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state that acting carries from step to step; empty for none."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        ...


class TransitionCollector(Reporting):
    """Acts for an agent with a replay in another process: `Collector`'s interface over the steps of a `Stepper`."""

    def __init__(self, stepper: Stepper, *, num_steps: int) -> None:
        self.stepper, self.num_steps = stepper, num_steps
        self._transitions = Transitions(num_steps)

    @property
    def step(self) -> int:
        """Steps that each environment has made."""
        return self.stepper.steps

    @step.setter
    def step(self, step: int) -> None:
        self.stepper.steps = step

    def collect(self, policy_version: int = 0) -> Fragment:
        """Make ``num_steps`` steps and return them as a `Fragment`, whose memory the next call reuses."""
        stepper, envs = self.stepper, self.stepper.envs
        first, env_steps = stepper.steps, stepper.env_steps
        starts, infos = np.empty((self.num_steps, envs.num_envs), np.bool_), []
        stepper.begin()
        for t in range(self.num_steps):
            starts[t] = envs.episode_start
            if info := stepper.step(self._transitions).info:
                infos.append(info)
        stepper.env_steps = env_steps  # the learner counts the steps of all workers and sends the number
        fragment = self._transitions.take(infos)
        fragment["episode_start"] = starts
        fragment.cut_before_dummies()
        fragment.env_ids, fragment.first_step, fragment.policy_version = envs.env_ids, first, policy_version
        return fragment

    def state_dict(self) -> dict[str, Any]:
        """Return the step, the environments' state, and the state carried by the stepper."""
        stepper = self.stepper
        state: dict[str, Any] = {"step": stepper.steps, "started": stepper.started}
        state["envs"] = stepper.envs.state_dict() if stepper.started else {}
        carried = stepper.state_dict()
        return state | {"experience": carried} if carried else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        stepper = self.stepper
        stepper.steps, stepper.started = int(state["step"]), bool(state["started"])
        if stepper.started:
            stepper.envs.load_state_dict(state["envs"])
        if "experience" in state:
            stepper.load_state_dict(state["experience"])
