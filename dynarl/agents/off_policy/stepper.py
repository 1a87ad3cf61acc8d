"""Steps of environments with an exploring actor, each stored in a replay (or whatever has the replay's `add`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.off_policy.actor import OffPolicyActor
from dynarl.agents.off_policy.records import RecordLayout
from dynarl.agents.user_policy.policy import lockstep_flags, set_lockstep_flags
from dynarl.agents.user_policy.runner import PolicyRunner
from dynarl.envs import Environments
from dynarl.envs.protocol import Step
from dynarl.nn import Module
from dynarl.rollout import Feedback, Rows, map_state
from dynarl.rollout.feedback import encode_action, state_leaves
from dynarl.rollout.stateful_collector import reset_rows
from dynarl.rollout.transition_collector import TransitionSink

__all__ = ["EnvironmentStepper", "RecordStepper", "make_stepper"]


class EnvironmentStepper:
    """Acts in N environments, one step at a time; the actor needs nothing but the observation.

    `steps` counts the steps of each environment, which key the random numbers.
    """

    def __init__(self, envs: Environments, actor: OffPolicyActor) -> None:
        self.envs, self.actor = envs, actor
        self.exploration = actor.exploration(envs.env_ids)
        self.steps = 0
        self.started = False

    @property
    def env_steps(self) -> int:
        """Environment steps of the run so far."""
        return self.actor.env_steps

    @env_steps.setter
    def env_steps(self, count: int) -> None:
        self.actor.env_steps = count

    def begin(self) -> None:
        """Reset the environments unless they were reset before."""
        if not self.started:
            self.envs.reset()
            self.started = True

    def step(self, replay: TransitionSink) -> Step:
        """Act once in every environment, store the transitions and count them; return the environments' step."""
        self.begin()
        step = self._step(replay)
        self.steps += 1
        self.actor.env_steps += int(np.count_nonzero(step.valid))
        return step

    def _step(self, replay: TransitionSink) -> Step:
        envs, actor = self.envs, self.actor
        obs, mask = envs.obs, envs.action_mask
        action = self.exploration.random_actions(self.steps, mask)
        if action is None:
            action = actor.act(obs, self.exploration.noise(self.steps), explore=True, action_mask=mask).action
        step = envs.step(actor.env_action(action))
        masks = {} if mask is None else {"action_mask": mask, "next_action_mask": envs.next_action_mask}
        replay.add(obs, action, step.reward, step.terminated, step.truncated, step.next_obs, step.valid, **masks)
        return step

    def state_dict(self) -> dict[str, Any]:
        """Return the state that acting carries from step to step: none."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""


class RecordStepper(EnvironmentStepper):
    """Acts with a policy that has a state or is written for one environment, and stores records."""

    def __init__(self, envs: Environments, actor: OffPolicyActor, runner: PolicyRunner, records: RecordLayout) -> None:
        super().__init__(envs, actor)
        envs.ask_info(runner.info_fields)
        self._runner, self._records = runner, records
        self.networks: Iterable[Module] = actor.networks.values()
        """Networks whose lock-step flags the state holds, since rounding depends on them."""
        self._state = runner.initial_states(envs.num_envs)
        self._action = runner.actions.zeros(envs.num_envs)
        self._reward = np.zeros(envs.num_envs, np.float32)

    def _step(self, replay: TransitionSink) -> Step:
        envs, runner = self.envs, self._runner
        obs, start, mask = envs.obs, envs.episode_start, envs.action_mask
        info = None if envs.info is None else envs.info.now
        feedback = self._feedback(self._action, self._reward, start, info, mask)
        state = reset_rows(self._state, start, runner.initial_state())
        rows = Rows(envs.env_ids, np.full(envs.num_envs, self.steps))
        # Random actions replace those of the policy, whose state advances from the first step on
        acted = runner.act(obs, self.exploration.noise(self.steps), state, feedback, rows)
        random = self.exploration.random_actions(self.steps, mask)
        action = acted.action if random is None else random
        before = self._records.pack(obs, feedback, state)
        step = envs.step(self.actor.env_action(action))
        reward, no_start = step.reward.astype(np.float32), np.zeros(envs.num_envs, np.bool_)
        info = None if envs.info is None else envs.info.reached
        next_feedback = self._feedback(action, reward, no_start, info, envs.next_action_mask)
        after = self._records.pack(step.next_obs, next_feedback, acted.state)
        masks = {} if mask is None else {"action_mask": mask, "next_action_mask": envs.next_action_mask}
        replay.add(before, action, step.reward, step.terminated, step.truncated, after, step.valid, **masks)
        self._state, self._action, self._reward = acted.state, action, reward
        return step

    def _feedback(
        self, action: NDArray[Any], reward: NDArray[np.float32], start: NDArray[np.bool_], info: Any, mask: Any
    ) -> Feedback:
        encoded = encode_action(self.envs.action_space, action, start)
        return Feedback(encoded, np.where(start, np.float32(0), reward), start, info or {}, mask)

    def state_dict(self) -> dict[str, Any]:
        """Return the policy's state, the last actions and rewards, and which networks run in lock-step."""
        leaves = {str(i): np.array(leaf) for i, leaf in enumerate(state_leaves(self._state))}
        last = {"action": self._action.copy(), "reward": self._reward.copy()}
        return {"state": leaves, **last, "merging": lockstep_flags(self.networks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        leaves = iter([np.array(state["state"][str(i)]) for i in range(len(state["state"]))])
        self._state = map_state(lambda _: next(leaves), self._state)
        self._action, self._reward = np.array(state["action"]), np.array(state["reward"])
        set_lockstep_flags(self.networks, state.get("merging", ()))


def make_stepper(envs: Environments, actor: OffPolicyActor) -> EnvironmentStepper:
    """Return what steps environments with an actor."""
    if actor.runner is None or actor.records is None:
        return EnvironmentStepper(envs, actor)
    return RecordStepper(envs, actor, actor.runner, actor.records)
