"""The SAC agent: when the environments are stepped, when it is learned from which sample, and what is saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from dynarl import nn
from dynarl.agents.off_policy.agent import OffPolicyAgent
from dynarl.agents.policies import FeaturesFactory
from dynarl.agents.sac.actor import SACActor, make_actor
from dynarl.agents.sac.config import SACConfig
from dynarl.agents.sac.critics import Critics
from dynarl.agents.sac.implementation_details import IMPLEMENTATION_DETAILS
from dynarl.agents.sac.policy_evaluator import NetworkPolicy, PolicyEvaluator
from dynarl.agents.sac.sac import SACLearner
from dynarl.agents.sac.user_actor import SequencePolicy, make_user_policy
from dynarl.agents.update_metrics import means
from dynarl.agents.user_policy.policy import PolicyLike
from dynarl.rollout import Batch, ReplayBuffer
from dynarl.seeding import derive_seed

__all__ = ["SAC", "SACConfig"]


class SAC(OffPolicyAgent):
    """SAC for bounded Box and for Discrete actions.

    >>> agent = SAC("Pendulum-v1", seed=0, learning_rate=1e-3).learn(20_000)

    The policy's Box actions are in [-1, 1]; the environment's bounds are applied outside the density, so that the
    target entropy -dim(A) means the same everywhere. Every field of `SACConfig` is an argument.

    `features` is a network of yours in front of actor and critics, as in `ActorCritic`: a function that makes one from
    the observation space, or a Module, of which each takes a copy. Images and text have one of their own. The actor
    has one and the critics have one together, unless `share_encoder`.

    `policy` is an actor of yours: a Module, or a class or function that makes one, as dynarl/rollout/feedback.py says,
    that returns a Normal (before squashing) or a Categorical.
    """

    algorithm = "sac"
    config_class = SACConfig
    config: SACConfig
    actor: SACActor
    learner: SACLearner
    facts = IMPLEMENTATION_DETAILS
    saved = (
        "learner.actor", "learner.critics", "learner.target_critics", "learner.actor_optimizer",
        "learner.critic_optimizer", "learner.alpha_optimizer?", "learner.log_alpha", "owed",
    )  # fmt: skip
    owed = 0
    """Gradient steps that stored transitions have paid for and that were not made yet, times train_freq."""

    def __init__(
        self,
        env: Any,
        *,
        seed: int = 0,
        device: str = "cpu",
        config: SACConfig | None = None,
        features: FeaturesFactory | None = None,
        policy: PolicyLike | None = None,
        **overrides: Any,
    ) -> None:
        super().__init__(env, seed=seed, device=device, config=config, overrides=overrides)
        self.given = {"features": features, "policy": policy}
        self.actor = self._make_actor()
        self.learner = self.make_learner(self.actor, self.config)
        self._update_key = derive_seed(seed, "update", bits=64)
        self._start(ReplayBuffer(self.config.buffer_size, self.envs.num_envs, **self.replay_arguments()))
        if isinstance(self.action_space, spaces.Box) and not self.has_workers:
            self.stepper.begin()  # a mask in the info of the reset is refused now, not when learning begins

    @classmethod
    def make_actor(
        cls,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        config: SACConfig,
        *,
        seed: int = 0,
        device: str = "cpu",
        features: FeaturesFactory | None = None,
        policy: PolicyLike | None = None,
    ) -> SACActor:
        """Make the actor, its parameters drawn by `seed`; `features` and `policy` as for the agent."""
        return make_actor(
            observation_space, action_space, config, seed=seed, device=device, features=features, policy=policy
        )

    @classmethod
    def make_learner(cls, actor: SACActor, config: SACConfig) -> SACLearner:
        """Make the learner of an actor and of the critics that were made with it."""
        policy: PolicyEvaluator = NetworkPolicy(actor.network, encode=actor.encoder, features=actor.features)
        if actor.runner is not None and actor.records is not None:
            policy = make_user_policy(actor.runner, actor.records, actor.actions, burn_in=config.burn_in)
        return SACLearner(actor.network, actor.critics, config, actor.action_space, device=actor.device, policy=policy)

    # -- learning -------------------------------------------------------------------------------------------------

    @property
    def iteration_steps(self) -> int:
        """Environment steps of an iteration, 0 where workers collect."""
        return 0 if self.has_workers else self.envs.num_envs * self.config.train_freq

    def own_batches(self) -> Iterator[Batch]:
        """Make train_freq steps in every environment, then yield the samples that these transitions pay for.

        Each transition owes gradient_steps / train_freq updates from `learning_starts` on, for any number of
        environments.
        """
        cfg = self.config
        returns, lengths = [np.empty(0)], [np.empty(0, np.int64)]
        for _ in range(cfg.train_freq):
            before, info = self.env_steps, self.step_environments()
            if self.env_steps > cfg.learning_starts:
                self.owed += (self.env_steps - before) * cfg.gradient_steps
            if info:
                returns.append(info["episode_return"])
                lengths.append(info["episode_length"])
        self._metrics = {"episode/return": np.concatenate(returns), "episode/length": np.concatenate(lengths)}
        if self.env_steps > cfg.learning_starts:
            while self.owed >= cfg.train_freq:
                self.owed -= cfg.train_freq
                yield self.sample()

    def samples(self, count: int) -> Iterator[Batch]:
        """Yield the batches of `count` gradient steps."""
        for _ in range(count):
            yield self.sample()

    def sample(self) -> Batch:
        """Draw a batch from the replay and the noise of its update, keyed by the gradient step."""
        cfg, grad_steps = self.config, self.learner.grad_steps
        rng = np.random.Generator(np.random.Philox(key=self._update_key, counter=[0, 0, 0, grad_steps]))
        if isinstance(self.learner.policy, SequencePolicy):
            batch = self.learner.policy.sequences.draw(self.replay, cfg.batch_size, rng)
        else:
            batch = self.replay.sample(cfg.batch_size, rng)
        if isinstance(self.action_space, spaces.Box):
            shape = (2, *batch.action.shape)
            batch["next_noise"], batch["noise"] = rng.standard_normal(shape, np.float32)
        return self.on_device(batch)

    def iteration_metrics(self, updates: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the means over the updates with the metrics of acting and of the episodes that ended."""
        rate = {"train/learning_rate": self.learner.critic_optimizer.param_groups[0]["lr"]}
        return {**means(updates), **rate, **self.acting_metrics(), **self._metrics}

    # -- parts by the names that users know -----------------------------------------------------------------------

    @property
    def critics(self) -> Critics:
        """The critics."""
        return self.learner.critics

    @property
    def target_critics(self) -> nn.Module:
        """The target critics."""
        return self.learner.target_critics

    @property
    def alpha(self) -> float:
        """The temperature."""
        return self.learner.alpha
