"""The PPO agent: config, environments, actor, learner and collector together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from gymnasium import spaces

from dynarl import nn, optim
from dynarl.agents.agent import Agent
from dynarl.agents.policies import FeaturesFactory
from dynarl.agents.ppo.actor import PPOActor, make_actor
from dynarl.agents.ppo.config import PPOConfig
from dynarl.agents.ppo.implementation_details import IMPLEMENTATION_DETAILS
from dynarl.agents.ppo.ppo import PPOLearner
from dynarl.agents.ppo.sequences import Sequences
from dynarl.agents.ppo.transitions import TransitionRows
from dynarl.agents.state import load_attributes
from dynarl.agents.user_policy.policy import PolicyLike
from dynarl.envs import Environments
from dynarl.envs.statistics import load_statistics
from dynarl.rollout import Collector, Fragment, StatefulCollector

__all__ = ["PPO"]


class PPO(Agent):
    """PPO with a clipped surrogate for Discrete, Box, MultiDiscrete, MultiBinary and mixed (Dict, Tuple) actions.

    >>> agent = PPO("CartPole-v1", seed=0).learn(50_000)

    `features` is a network in front of actor and critic. `policy` replaces the whole policy: a Module, a class or
    function that makes one (see dynarl/rollout/feedback.py), or the name of a registered one. Every field of
    `PPOConfig` is an argument.
    """

    algorithm = "ppo"
    config_class = PPOConfig
    config: PPOConfig
    actor: PPOActor
    learner: PPOLearner
    facts = IMPLEMENTATION_DETAILS
    saved = (
        "policy", "optimizer", "envs.num_envs", "collector", "env_steps", "learner.grad_steps", "learner.iteration",
        "actor.predictions", "actor.lockstep_flags as merging?", "obs_normalizer", "learner.reward_normalizer",
    )  # fmt: skip

    def __init__(
        self,
        env: Any,
        *,
        seed: int = 0,
        device: str = "cpu",
        config: PPOConfig | None = None,
        policy: PolicyLike | None = None,
        features: FeaturesFactory | None = None,
        **overrides: Any,
    ) -> None:
        if isinstance(policy, str):
            overrides["policy"] = policy
        super().__init__(env, seed=seed, device=device, config=config, overrides=overrides)
        self.given = {"policy": policy, "features": features}
        num_envs = self.envs.num_envs
        if self.config.batch_size == PPOConfig.batch_size:  # nobody chose it
            self.config = replace(self.config, batch_size=min(PPOConfig.batch_size, self.config.num_steps * num_envs))
        cfg = self.config
        if cfg.batch_size > cfg.num_steps * num_envs:
            raise ValueError(
                f"batch_size: {cfg.batch_size} is larger than the {cfg.num_steps * num_envs} transitions of an "
                f"iteration ({cfg.num_steps} steps x {num_envs} environments)"
            )
        spaces_ = self.observation_space, self.action_space
        self.actor = self.make_actor(*spaces_, cfg, seed=seed, device=device, policy=policy, features=features)
        self.learner = self.make_learner(self.actor, cfg, num_envs=num_envs, seed=seed)
        self.collector = self.make_collector(self.envs, self.actor, cfg, seed=seed)

    @classmethod
    def make_actor(
        cls,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        config: PPOConfig,
        *,
        seed: int = 0,
        device: str = "cpu",
        policy: PolicyLike | None = None,
        features: FeaturesFactory | None = None,
    ) -> PPOActor:
        """Make the actor, its policy's parameters drawn by `seed`; `policy` and `features` as for the agent."""
        return make_actor(
            observation_space, action_space, config, seed=seed, device=device, policy=policy, features=features
        )

    @classmethod
    def make_learner(
        cls, actor: PPOActor, config: PPOConfig, *, num_envs: int | None = None, seed: int = 0
    ) -> PPOLearner:
        """Make the learner of an actor's policy."""
        rows: TransitionRows | Sequences
        if actor.runner is None:
            rows = TransitionRows(actor.policy, actor.encoder, actor.actions)
        elif config.batch_size < actor.runner.sequence_length:
            raise ValueError(
                f"batch_size: a minibatch of a policy with a state holds whole sequences, so it must be at least "
                f"{actor.runner.sequence_length}, got {config.batch_size}; a smaller sequence_length needs less"
            )
        else:
            rows = Sequences(actor.runner)
        return PPOLearner(actor.policy, config, rows=rows, num_envs=num_envs, seed=seed)

    @classmethod
    def make_collector(cls, envs: Environments, actor: PPOActor, config: PPOConfig, *, seed: int = 0) -> Collector:
        """Make the collector that acts in environments with an actor."""
        collector: Collector
        if actor.runner is None:
            collector = Collector(envs, actor, num_steps=config.num_steps, seed=seed)
        else:
            collector = StatefulCollector(envs, actor.runner, num_steps=config.num_steps, seed=seed)
        collector.refuse_masks()
        return collector

    @property
    def iteration_steps(self) -> int:
        """Environment steps of an iteration: N x T."""
        return int(self.envs.num_envs * self.config.num_steps)

    def batches(self, progress: float) -> Iterator[Fragment]:
        """Collect the fragment of one iteration."""
        fragment = self.collector.collect(policy_version=self.iteration)
        self.env_steps += fragment.num_valid + fragment.stale_steps
        self.learner.anneal(progress)
        self._episodes = {"episode/return": fragment.episode_return, "episode/length": fragment.episode_length}
        yield fragment
        # counted after learning: acting and learning on a fragment see the same scale
        self.actor.encoder.update(fragment.obs, fragment.valid)

    def iteration_metrics(self, updates: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the learner's metrics with those of the collector and of the episodes that ended."""
        return {**updates[0], **self.collector.metrics(), **self._episodes}

    # -- parts by the names that users know -----------------------------------------------------------------------

    @property
    def policy(self) -> nn.Module:
        """The policy that acts and learns."""
        return self.actor.policy

    @property
    def optimizer(self) -> optim.Optimizer:
        """The learner's optimiser."""
        return self.learner.optimizer

    @property
    def obs_normalizer(self) -> Any:
        """The statistics that scale observations, None without `normalize_obs`."""
        return self.actor.encoder.normalizer

    def load_changed(self, state: Mapping[str, Any], changes: Mapping[str, tuple[Any, Any]]) -> list[str]:
        """Load a state that was saved with other settings; return a line for each part that does not continue."""
        notes, statistics = [], self.learner.reward_normalizer
        if "normalize_reward" in changes and statistics is not None:
            state = {**state, "reward_normalizer": statistics.state_dict()}
            notes.append("normalize_reward: the checkpoint has no statistics of rewards; they begin with this run")
        elif "normalize_reward" in changes:
            notes.append("normalize_reward: the stored statistics of rewards are dropped; the value function adapts")
        if "normalize_obs" in changes:
            state = {**state, "obs_normalizer": self.obs_normalizer.state_dict()}
            notes.append(
                "normalize_obs: the checkpoint has no statistics; they begin now, and inputs change their scale"
            )
        self.load_state_dict(state)
        if int(state["num_envs"]) != self.envs.num_envs:
            notes.append(f"num_envs: {state['num_envs']} -> {self.envs.num_envs}, new episodes begin")
        return notes

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; in another number of environments than it was made in, with new episodes."""
        resized = int(state["num_envs"]) != self.envs.num_envs
        skipped = {"envs.num_envs", *(("collector", "learner.reward_normalizer") if resized else ())}
        load_attributes(self, [name for name in self.saved if name not in skipped], state)
        if resized:  # the environments start new episodes: only their random streams and the statistics continue
            self.collector.step = int(state["collector"]["step"])
            load_statistics(self.envs.members, state["collector"].get("envs", {}).get("statistics", {}))
            if self.learner.reward_normalizer is not None:
                self.learner.reward_normalizer.stats.load_state_dict(state["reward_normalizer"]["stats"])
        self.iteration = self.learner.iteration
