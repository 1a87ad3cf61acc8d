"""What agents that learn from a replay share: filling it, themselves or by workers, and acting for another agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.off_policy.old_agent import OldAgent
from dynarl.agents.off_policy.records import ReplayWriter
from dynarl.agents.off_policy.replay_feed import ReplayFeed
from dynarl.envs.protocol import Step
from dynarl.rollout.packed import packed_rows
from dynarl.rollout.transition_collector import TransitionCollector

__all__ = ["OffPolicyAgent"]


class OffPolicyAgent(OldAgent):
    """An agent with a `replay`. A subclass has `explore`, and `explore_program` for policies with feedback."""

    learns_from_replay = True
    takes_masks = True
    replay: Any
    experience: ReplayWriter
    """What acts with a program and stores what it was told; there where `stateful` is."""
    vector_steps = 0
    """Steps of all environments together, by which random numbers are keyed."""
    started = False

    def _make_collectors(self) -> None:
        self.feed = ReplayFeed(self) if self.has_workers else None
        self.collector: Any = TransitionCollector(self, num_steps=self.config.fragment_steps)

    # -- acting ---------------------------------------------------------------------------------------------------

    def replay_arguments(self) -> dict[str, Any]:
        """Return how the replay keeps observations and actions, and sums rewards."""
        layout, packing = self.stored_layout(), None
        shape, dtype = layout["obs"]
        if self.stateful is None or self.experience.records.plain:  # records of policies with a state pack themselves
            packing = packed_rows(self.observation_space)
            dtype = np.float32 if np.dtype(dtype).kind == "f" else dtype  # as the networks see them
        return {
            "observation": (shape, dtype), "action": layout["action"], "packing": packing,
            "n_step": self.config.n_step, "gamma": self.config.gamma,
        }  # fmt: skip

    def explore(self, obs: NDArray[Any], action_mask: NDArray[np.bool_] | None) -> NDArray[Any]:
        """Return actions [N, ...] to learn from, as the replay stores them."""
        raise TypeError(f"{type(self).__name__}: explore must be defined")

    def explore_program(self) -> Step:
        """Act once with a program in every environment and store what happened."""
        raise TypeError(f"{type(self).__name__}: explore_program must be defined")

    def begin(self) -> None:
        """Reset the environments unless that was done."""
        if not self.started:
            self.envs.reset()
            self.started = True

    def step_environments(self) -> Mapping[str, Any]:
        """Act once in every environment, store what happened, and return the info of episodes that ended."""
        self.begin()
        if self.stateful is None:
            envs = self.envs
            obs, mask = envs.obs, envs.action_mask
            action = self.explore(obs, mask)
            step = envs.step(self.env_action(action))
            masks = {} if mask is None else {"action_mask": mask, "next_action_mask": envs.next_action_mask}
            self.replay.add(
                obs, action, step.reward, step.terminated, step.truncated, step.next_obs, step.valid, **masks
            )
        else:
            step = self.explore_program()
        self.vector_steps += 1
        self.env_steps += int(np.count_nonzero(step.valid))
        return step.info

    @classmethod
    def make_worker(cls, env: Any, config: Any, *, seed: int, given: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Return environments, an actor and a collector for another process: here one agent is all three."""
        agent = cls(env, seed=seed, device="cpu", config=config, **given)
        return agent.envs, agent, agent.collector

    def initial_state(self) -> Any:
        """Return the state of a policy before its first step, None for policies without."""
        return None if self.stateful is None else self.stateful.initial_state()

    def metrics(self) -> dict[str, Any]:
        """Return the measures of acting since the last call."""
        return self.acting_metrics()

    # -- acting for another agent ---------------------------------------------------------------------------------

    def acting_config(self, num_envs: int) -> Any:
        """Return the config of an agent that only acts, in `num_envs` of the environments."""
        least = max(self.config.batch_size, num_envs * self.config.n_step)
        return replace(self.config, num_envs=num_envs, buffer_size=least)

    def stored_layout(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Return (shape, dtype) of what fragments hold: of policies with a state, observations are records of bytes."""
        layout = super().stored_layout()
        return layout if self.stateful is None else {**layout, "obs": self.experience.records.layout}

    # -- state ----------------------------------------------------------------------------------------------------

    def experience_state(self) -> dict[str, Any]:
        """Return what changes beside networks and optimisers: replay, environments and counters."""
        return {
            "replay": self.replay.state_dict(),
            "envs": self.envs.state_dict() if self.started else {},
            "started": self.started,
            "vector_steps": self.vector_steps,
            "env_steps": self.env_steps,
            "grad_steps": self.grad_steps,
            "iteration": self.iteration,
            "predictions": self.predictions,
            **({} if self.stateful is None else {"experience": self.experience.state_dict()}),
            **({} if self.feed is None else {"feed": self.feed.state_dict()}),
        }

    def load_experience_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `experience_state`; environments that cannot be restored begin new episodes."""
        self.replay.load_state_dict(state["replay"])
        for name in ("vector_steps", "env_steps", "grad_steps", "iteration", "predictions"):
            setattr(self, name, int(state[name]))
        if self.stateful is not None:
            self.experience.load_state_dict(state["experience"])
        if self.feed is not None:
            self.feed.load_state_dict(state.get("feed"), steps=self.vector_steps)
            return
        if "feed" in state:
            self.replay.cut()  # episodes that workers had begun
        self.started = bool(state["started"])
        if self.started:
            self.envs.load_state_dict(state["envs"])
            if not self.envs.exact_state:  # new episodes: what is open in the replay does not go on
                self.replay.cut()
