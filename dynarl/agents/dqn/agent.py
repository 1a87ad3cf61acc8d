"""The DQN agent: when the environments are stepped, when it is learned from which sample, and what is saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from dynarl import nn, optim
from dynarl.agents.dqn.actor import DQNActor, make_actor
from dynarl.agents.dqn.config import DQNConfig
from dynarl.agents.dqn.dqn import DQNLearner
from dynarl.agents.dqn.exploration import linear
from dynarl.agents.dqn.implementation_details import IMPLEMENTATION_DETAILS
from dynarl.agents.dqn.q_values import Evaluator, SequenceEvaluator, TransitionEvaluator
from dynarl.agents.off_policy.agent import OffPolicyAgent
from dynarl.agents.off_policy.sequence_runner import SequenceRunner
from dynarl.agents.policies import FeaturesFactory
from dynarl.agents.user_policy.policy import PolicyLike
from dynarl.autograd.device import to_host
from dynarl.envs import Environments, make
from dynarl.rollout import Batch, PrioritizedReplay, ReplayBuffer
from dynarl.seeding import derive_seed

__all__ = ["DQN", "DQNConfig"]

# An iteration makes at least this many environment steps.
_ITERATION_STEPS = 64
# At most this many transitions pass through the target network at once.
_TOGETHER = 1024


class DQN(OffPolicyAgent):
    """Value-based agent for Discrete actions. See `DQNConfig` for its settings.

    >>> agent = DQN("CartPole-v1", seed=0).learn(50_000)

    `features` is a network of yours in front of the Q-network, as in `ActorCritic`. `policy` is a Q-function of yours:
    a Module, or a class or function that makes one, as dynarl/rollout/feedback.py says, that returns q [A].
    """

    algorithm = "dqn"
    config_class = DQNConfig
    config: DQNConfig
    actor: DQNActor
    learner: DQNLearner
    facts = IMPLEMENTATION_DETAILS
    saved = ("policy", "target", "optimizer", "rng")

    def __init__(
        self,
        env: Any,
        *,
        seed: int = 0,
        device: str = "cpu",
        config: DQNConfig | None = None,
        features: FeaturesFactory | None = None,
        policy: PolicyLike | None = None,
        **overrides: Any,
    ) -> None:
        super().__init__(env, seed=seed, device=device, config=config, overrides=overrides)
        self.given = {"features": features, "policy": policy}
        self.rng = np.random.Generator(np.random.Philox(key=derive_seed(seed, "replay", bits=64)))
        self.actor = self._make_actor()
        self.sequences: SequenceRunner | None = None
        if self.actor.runner is not None and self.actor.records is not None:
            self.sequences = SequenceRunner(self.actor.runner, self.actor.records, burn_in=self.config.burn_in)
        self.learner = self.make_learner(self.actor, self.config, rng=self.rng, sequences=self.sequences)
        self._start(self._make_replay())

    @classmethod
    def make_envs(cls, env: Any, config: DQNConfig, *, seed: int) -> Environments:
        """Make the environments; a single one is four times faster outside of a vector environment."""
        if isinstance(env, str) and config.num_envs == 1:
            return make(env, 1, seed=seed, vectorization="sync")
        return super().make_envs(env, config, seed=seed)

    @classmethod
    def make_actor(
        cls,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        config: DQNConfig,
        *,
        seed: int = 0,
        device: str = "cpu",
        features: FeaturesFactory | None = None,
        policy: PolicyLike | None = None,
    ) -> DQNActor:
        """Make the actor, its Q-network's parameters drawn by `seed`; `features` and `policy` as for the agent."""
        return make_actor(
            observation_space, action_space, config, seed=seed, device=device, features=features, policy=policy
        )

    @classmethod
    def make_learner(
        cls,
        actor: DQNActor,
        config: DQNConfig,
        *,
        rng: np.random.Generator | None = None,
        sequences: SequenceRunner | None = None,
    ) -> DQNLearner:
        """Make the learner of an actor's Q-network; `sequences` evaluates the Q-function of a user."""

        def evaluator(online: nn.Module, target: nn.Module, *, double: bool) -> Evaluator:
            if sequences is not None:
                return SequenceEvaluator(sequences, target, double=double)
            return TransitionEvaluator(online, target, double=double, encode=actor.encoder)

        return DQNLearner(actor.q_network, config, device=actor.device, rng=rng, evaluator=evaluator)

    # -- learning -------------------------------------------------------------------------------------------------

    @property
    def iteration_steps(self) -> int:
        """Environment steps of an iteration, 0 where they vary."""
        every = self._iteration_interval
        return 0 if self.has_workers or every % self.envs.num_envs else every

    @property
    def _iteration_interval(self) -> int:
        train_freq = self.config.train_freq
        return train_freq * -(-_ITERATION_STEPS // train_freq)

    def own_batches(self) -> Iterator[Batch]:
        """Step the environments and yield gradient_steps samples for every train_freq steps."""
        cfg, every = self.config, self._iteration_interval
        stop = (self.env_steps // every + 1) * every
        ended = []
        while self.env_steps < stop:
            before = self.env_steps
            if info := self.step_environments():
                ended.append(info)
            rounds = self.env_steps // cfg.train_freq - before // cfg.train_freq
            if rounds and self.env_steps > cfg.learning_starts:
                yield from self.samples(rounds * cfg.gradient_steps, measured=self.env_steps >= stop)
        self._metrics["episode/return"] = [r for info in ended for r in info["episode_return"]]
        self._metrics["episode/length"] = [n for info in ended for n in info["episode_length"]]

    def stored(self, before: int) -> None:
        """Update the target network for each multiple of `target_update_interval` since the step `before`."""
        interval = self.config.target_update_interval
        times = self.env_steps // interval - before // interval
        if times and self.learner.grad_steps:
            self.learner.update_target(times)

    def samples(self, count: int, *, measured: bool = True) -> Iterator[Batch]:
        """Yield the batches of `count` gradient steps, several in one batch where that changes nothing.

        The learner measures the last of them if `measured`.

        Where priorities, noise and the online network do not take part, what is drawn and its targets do not depend
        on the steps in between: the target network stands still. Then one pass of it serves many gradient steps.
        """
        cfg = self.config
        alone = cfg.prioritized or cfg.noisy or cfg.double or self.sequences is not None
        together = 1 if alone else max(1, _TOGETHER // cfg.batch_size)
        for first in range(0, count, together):
            self.learner.measures = measured and first + together >= count
            batch = self.sample(min(together, count - first))
            yield batch
            if isinstance(self.replay, PrioritizedReplay):
                self.replay.update_priorities(batch.index, to_host(batch.td_error))

    def sample(self, count: int = 1) -> Batch:
        """Draw the transitions of `count` gradient steps from the replay."""
        cfg, size = self.config, count * self.config.batch_size
        if self.sequences is not None and self.sequences.length > 1:
            return self.on_device(self.sequences.draw(self.replay, cfg.batch_size, self.rng))
        if isinstance(self.replay, PrioritizedReplay):
            beta = linear(cfg.per_beta, 1.0, cfg.per_beta_steps, self.env_steps)
            return self.on_device(self.replay.sample(size, self.rng, beta))
        return self.on_device(self.replay.sample(size, self.rng))

    def iteration_metrics(self, updates: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the metrics of the last update with those of acting and of the episodes that ended."""
        last = updates[-1] if updates else {}
        now = {"train/epsilon": self.epsilon, "train/learning_rate": self.optimizer.param_groups[0]["lr"]}
        return {**last, **self.acting_metrics(), **now, **self._metrics}

    def _make_replay(self) -> ReplayBuffer:
        cfg, num_envs = self.config, self.envs.num_envs
        if cfg.prioritized:
            return PrioritizedReplay(cfg.buffer_size, num_envs, **self.replay_arguments(), alpha=cfg.per_alpha)
        return ReplayBuffer(cfg.buffer_size, num_envs, **self.replay_arguments())

    # -- parts by the names of checkpoints ------------------------------------------------------------------------

    @property
    def policy(self) -> nn.Module:
        """The Q-network."""
        return self.actor.q_network

    @property
    def target(self) -> nn.Module:
        """The target network."""
        return self.learner.target

    @property
    def optimizer(self) -> optim.Optimizer:
        """The learner's optimiser."""
        return self.learner.optimizer

    @property
    def epsilon(self) -> float:
        """The probability of a random action now."""
        return self.actor.epsilon
