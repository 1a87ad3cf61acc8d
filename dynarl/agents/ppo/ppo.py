"""Proximal Policy Optimisation (arXiv:1707.06347).

for each iteration:
    collect T steps in N environments with policy pi_old
    A, R <- GAE(rewards, values)                              arXiv:1506.02438
    for each epoch, for each minibatch:
        ratio = pi(a|s) / pi_old(a|s)
        loss  = -mean(min(ratio A, clip(ratio) A)) + c_v mean((V(s) - R)^2) - c_e H(pi(s))
        Adam step on the loss's gradient, its global norm clipped
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl import nn, optim
from dynarl.agents.agent import Agent
from dynarl.agents.encoders.images import features_for
from dynarl.agents.policies import ActorCritic, FeaturesFactory
from dynarl.agents.policies.recurrent import RecurrentActorCritic
from dynarl.agents.ppo import details
from dynarl.agents.ppo.config import PPOConfig
from dynarl.agents.ppo.losses import clipped_surrogate, clipped_value_loss, normalized, value_loss
from dynarl.agents.ppo.off_policy import lagged_advantages, once_each
from dynarl.agents.ppo.returns import explained_variance, gae
from dynarl.agents.ppo.sequences import Sequences
from dynarl.agents.ppo.transitions import TransitionRows
from dynarl.agents.state import from_plain, to_plain
from dynarl.agents.update_metrics import means, ratio_measures
from dynarl.agents.user_policy.auxiliary import Extra
from dynarl.agents.user_policy.policy import PolicyLike, UserPolicy, make_policy, merging, set_merging
from dynarl.agents.user_policy.runner import PolicyRunner, check_actor_critic
from dynarl.autograd import backward, no_grad, philox, tensor
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.random import seeded
from dynarl.autograd.tape import wrap
from dynarl.envs import ObservationNormalizer, RewardNormalizer
from dynarl.envs.spaces import action_layout
from dynarl.rollout import Batch, Collector, Fragment, StatefulCollector
from dynarl.seeding import derive_seed

__all__ = ["PPO", "PPOConfig"]


class PPO(Agent):
    """PPO with a clipped surrogate for Discrete, Box, MultiDiscrete, MultiBinary and mixed (Dict, Tuple) actions.

    >>> agent = PPO("CartPole-v1", seed=0).learn(50_000)

    `features` is a network of yours in front of actor and critic. `policy` is a whole policy: a Module, or a class
    or function that makes one, as dynarl/rollout/feedback.py says, or the name of a registered one. Every field of
    `PPOConfig` is an argument.
    """

    algorithm = "ppo"
    config_class = PPOConfig
    config: PPOConfig
    takes_masks = True
    acting_networks = ("policy",)
    sources = details.SOURCES
    facts = details.FACTS

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
        cfg = self.config
        rows = cfg.num_steps * self.envs.num_envs
        if cfg.batch_size > rows:
            raise ValueError(
                f"batch_size: {cfg.batch_size} is larger than the {rows} transitions of an iteration "
                f"({cfg.num_steps} steps x {self.envs.num_envs} environments)"
            )
        if cfg.normalize_obs and self.layout.dtype == object:
            raise ValueError(f"normalize_obs: not for observations of varying size, got {self.observation_space}")
        given = cfg.policy if policy is None else policy
        init = derive_seed(seed, "init", bits=63)
        if given is not None:
            if features is not None:
                raise ValueError("features: are for the ready-made policy; put them into the policy that was given")
            self.policy = make_policy(given, (self.layout.space, self.action_space), init, cfg.policy_kwargs)
            if cfg.policy is None:
                self.policy_name = type(getattr(self.policy, "program", self.policy)).__name__
        else:
            with seeded(init):
                features = self._encoder() if features is None else features
                self.policy = self._own_policy(features)
        program = UserPolicy(self.policy, returns="distribution, value", takes_extra=True)
        self.policy.to(device)
        self.optimizer = optim.Adam(self.policy.parameters(), lr=cfg.learning_rate, eps=cfg.adam_eps)
        self.flatten_obs = features is None and given is None
        self.action_shape, self.action_dtype = action_layout(self.action_space)
        self.obs_normalizer = ObservationNormalizer(self.layout.shape) if cfg.normalize_obs else None
        self.reward_normalizer = RewardNormalizer(self.envs.num_envs, gamma=cfg.gamma) if cfg.normalize_reward else None
        self._parameters = list(self.policy.parameters())
        weights = {"policy_loss": 1.0, "value_loss": cfg.vf_coef, "extra_loss": 1.0, "entropy": -cfg.ent_coef}
        self._loss_weights = {name: tensor(weight, device=device) for name, weight in weights.items()}
        self.stateful = self._stateful(program)
        self.data = TransitionRows(self) if self.stateful is None else Sequences(self.stateful)
        self.noise_kind, self.noise_size = self._noise_needed()
        self.noise_period = 1
        if cfg.use_sde:
            self.noise_period = cfg.sde_sample_freq if cfg.sde_sample_freq > 0 else cfg.num_steps
        self.collector: Collector
        if self.stateful is None:
            self.collector = Collector(self.envs, self, num_steps=cfg.num_steps, seed=seed)
        else:
            if cfg.batch_size < self.stateful.sequence_length:
                raise ValueError(
                    f"batch_size: a minibatch of a policy with a state holds whole sequences, so it must be at least "
                    f"{self.stateful.sequence_length}, got {cfg.batch_size}; a smaller sequence_length needs less"
                )
            self.collector = StatefulCollector(self.envs, self.stateful, num_steps=cfg.num_steps, seed=seed)
        self.collector.refuse_masks()

    def _own_policy(self, features: FeaturesFactory | None) -> nn.Module:
        cfg = self.config
        layers: dict[str, Any] = {
            "hidden_sizes": cfg.hidden_sizes,
            "activation": cfg.activation,
            "orthogonal_init": cfg.orthogonal_init,
            "log_std_init": cfg.log_std_init,
            "features": features,
        }
        if cfg.recurrent == "none":
            return ActorCritic(self.layout.space, self.action_space, use_sde=cfg.use_sde, **layers)
        memory: dict[str, Any] = {"recurrent": cfg.recurrent, "recurrent_hidden_size": cfg.recurrent_hidden_size}
        return RecurrentActorCritic(self.layout.space, self.action_space, **memory, **layers)

    def _stateful(self, program: UserPolicy) -> PolicyRunner | None:
        """Return what runs a policy that has a state or is written for one environment."""
        cfg = self.config
        if not program.per_sample and not program.has_state:
            if cfg.sequence_length is not None:
                raise ValueError(f"sequence_length: {cfg.sequence_length} is for policies with a state, this has none")
            return None
        length = cfg.sequence_length or cfg.num_steps
        return PolicyRunner(self, program, sequence_length=length, record_paths=cfg.record_paths)

    def _encoder(self) -> nn.Module | None:
        """Return the network that images, text, sets and graphs need before actor and critic."""
        encoder = features_for(self.observation_space, self.config.encoder)
        if encoder is not None and self.config.normalize_obs:
            raise ValueError(
                f"normalize_obs: images are scaled by 255 and text is embedded, got {self.observation_space}; "
                "leave it off, or set encoder to 'none'"
            )
        return encoder

    # -- acting ---------------------------------------------------------------------------------------------------

    def network_input(self, obs: NDArray[Any]) -> Any:
        """Return stored observations [B, ...] as the policy's input: normalised, encoded, on its device."""
        return super().network_input(obs if self.obs_normalizer is None else self.obs_normalizer(obs))

    def kept_input(self, obs: NDArray[Any]) -> Any:
        """Return what learning keeps of stored observations [B, ...] for all epochs: rows are put together later."""
        return obs if self.layout.dtype == object else self.network_input(obs).array

    def learning_input(self, kept: Any) -> Any:
        """Return the policy's input made of part of what `kept_input` returned."""
        return self.network_input(kept) if self.layout.dtype == object else wrap(kept)

    def act(
        self, obs: NDArray[Any], noise: NDArray[np.float32] | None, action_mask: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return (action [N, ...], log_prob [N], value [N]) for stored observations and noise [N, K]."""
        with no_grad():
            distribution, value = self.policy(self.network_input(obs), *self.mask_input(action_mask))
            action = distribution.sample_from(noise if self.device == "cpu" else to_device(noise, self.device))
            log_prob = distribution.log_prob(action)
        return self.stored_action(action), to_host(log_prob.array), to_host(value.array)

    def value(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Return V [B] of stored observations [B, ...]."""
        with no_grad():
            inputs = self.network_input(obs)
            value = self.policy.value(inputs) if hasattr(self.policy, "value") else self.policy(inputs)[1]
        return to_host(value.array)

    def choose(
        self, obs: NDArray[Any], noise: NDArray[np.float32] | None, action_mask: NDArray[np.bool_] | None = None
    ) -> NDArray[Any]:
        """Return actions for stored observations: the distribution's mode without noise, else a sample."""
        with no_grad():
            distribution, _ = self.policy(self.network_input(obs), *self.mask_input(action_mask))
            action = distribution.mode if noise is None else distribution.sample_from(to_device(noise, self.device))
        return self.stored_action(action)

    def mask_input(self, action_mask: Any) -> tuple[Any, ...]:
        """Return what the policy is called with besides the observation: the mask [B, M] where there is one."""
        return () if action_mask is None else (wrap(to_device(action_mask, self.device)),)

    def decide(
        self, outputs: tuple[Any, ...], noise: NDArray[np.float32] | None, action_mask: Any = None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return (action [N, ...], log_prob [N], value [N]) of what a policy returned; the mode without noise."""
        distribution, value = outputs
        with no_grad():
            action = distribution.mode if noise is None else distribution.sample_from(to_device(noise, self.device))
            log_prob = distribution.log_prob(action)
        return self.stored_action(action), to_host(log_prob.array), to_host(value.array).reshape(-1)

    def check_outputs(self, program: UserPolicy, outputs: tuple[Any, ...]) -> tuple[str, int]:
        """Refuse what is no distribution and value; return the noise of the distribution."""
        return check_actor_critic(program, outputs)

    def stored_action(self, action: Any) -> NDArray[Any]:
        """Return a distribution's sample [N, ...] in the shape and dtype actions are stored in."""
        array = to_host(action.array)
        if array.dtype != self.action_dtype:  # a Bernoulli's mode is NaN at p = 0.5 exactly: then 0
            array = np.nan_to_num(array).astype(self.action_dtype)
        return array if array.shape[1:] == self.action_shape else array.reshape(len(array), *self.action_shape)

    # -- learning -------------------------------------------------------------------------------------------------

    def collect_and_update(self, progress: float) -> dict[str, Any]:
        """Collect one fragment and learn from it."""
        started = time.perf_counter()
        fragment = self.collector.collect(policy_version=self.iteration)
        collected = time.perf_counter()
        self.env_steps += fragment.num_valid + fragment.stale_steps
        metrics = self.update(fragment, progress)
        metrics |= self.collector.metrics()
        metrics["episode/return"], metrics["episode/length"] = fragment.episode_return, fragment.episode_length
        self.iteration += 1
        for phase, took in (("collect", collected - started), ("learn", time.perf_counter() - collected)):
            self.seconds[phase] = self.seconds.get(phase, 0.0) + took
        return metrics

    def update(self, fragment: Fragment, progress: float = 0.0) -> dict[str, Any]:
        """Improve policy and value on a fragment [T, N]; `progress` in [0, 1) moves the schedules."""
        cfg = self.config
        clip_range = cfg.clip_range * (1.0 - progress if cfg.clip_range_schedule == "linear" else 1.0)
        if cfg.learning_rate_schedule == "linear":
            self.optimizer.param_groups[0]["lr"] = cfg.learning_rate * (1.0 - progress)

        # Advantages: A = GAE(r, V), R = A + V
        reward, weighed = self._scaled_reward(fragment), dict[str, float]()
        if fragment.lag is None:
            fragment["advantages"], fragment["returns"] = gae(
                reward, fragment.value, fragment.next_value, fragment.terminated, fragment.truncated,
                gamma=cfg.gamma, gae_lambda=cfg.gae_lambda, valid=fragment.valid,
            )  # fmt: skip
        else:
            weighed = lagged_advantages(self, fragment, reward)
        batch = self.data.batch(fragment)

        # Epochs of minibatches; what is reported are the means over the last epoch
        rng = np.random.Generator(np.random.Philox(key=derive_seed(self.seed, "minibatch", self.iteration, bits=64)))
        found: list[dict[str, float]] = []
        for epoch in range(cfg.num_epochs):
            measured = epoch == cfg.num_epochs - 1
            found = []
            for minibatch in self.data.minibatches(batch, rng, cfg.batch_size):
                found.append(self.step(minibatch, clip_range, measured=measured))
                if found[-1].get("stopped"):
                    break
            if self._kl_reached(found):
                break
        metrics = means(found)
        self._steer_learning_rate(metrics)
        self._update_normalizers(fragment)
        metrics["train/explained_variance"] = explained_variance(
            fragment.value[fragment.valid], fragment.returns[fragment.valid]
        )
        metrics |= self.acting_metrics()
        metrics["train/learning_rate"] = self.optimizer.param_groups[0]["lr"]
        metrics["train/clip_range"] = clip_range
        return metrics | weighed

    def step(self, minibatch: Batch, clip_range: float, *, measured: bool = True) -> dict[str, float]:
        """Make one gradient step on a minibatch [B] and return its metrics."""
        cfg = self.config
        losses, log_prob, extra = self.losses(minibatch, clip_range, with_entropy=measured or cfg.ent_coef != 0)
        metrics: dict[str, float] = {}
        if measured or cfg.kl_stop_minibatch or cfg.kl_stop_epoch or cfg.kl_adaptive_lr:
            metrics = ratio_measures(log_prob.array, minibatch.log_prob, clip_range)
            if cfg.kl_stop_minibatch is not None and metrics["train/approx_kl"] > 1.5 * cfg.kl_stop_minibatch:
                return {**metrics, "stopped": True}
        self.optimizer.zero_grad()
        backward(list(losses.values()), [self._loss_weights[name] for name in losses])
        grad_norm = optim.clip_grad_norm_(self._parameters, cfg.max_grad_norm)
        self.optimizer.step()
        self.grad_steps += 1
        if measured:
            metrics |= {f"train/{name}": value.item() for name, value in losses.items()}
            metrics |= {f"policy/{name}": float(to_host(column.array).mean()) for name, column in extra.items()}
            metrics["train/grad_norm"] = grad_norm.item()
        return metrics

    def losses(
        self, minibatch: Batch, clip_range: float, *, with_entropy: bool = True
    ) -> tuple[dict[str, Any], Any, Extra]:
        """Return the losses of a minibatch [B], its new log-probabilities [B], and the policy's extra."""
        cfg = self.config
        log_prob, value, entropy, extra = self.data.evaluate(minibatch, with_entropy=with_entropy)
        advantages = normalized(minibatch.advantages) if cfg.normalize_advantage else minibatch.advantages
        policy_loss = clipped_surrogate(
            log_prob, old_log_prob=minibatch.log_prob, advantages=advantages, clip_range=clip_range
        )
        if cfg.clip_range_vf is None:
            critic_loss = value_loss(value, returns=minibatch.returns)
        else:
            critic_loss = clipped_value_loss(
                value, returns=minibatch.returns, old_value=minibatch.value, clip_range=cfg.clip_range_vf
            )
        losses = {"policy_loss": policy_loss, "value_loss": critic_loss}
        if "loss" in extra and extra["loss"].requires_grad:  # on the paths that were taken it may be a constant
            losses["extra_loss"] = extra["loss"].mean()
        if with_entropy:
            losses["entropy"] = entropy
        return losses, log_prob, extra

    def learned_action(self, action: Any) -> Any:
        """Return stored actions in the dtype that the distribution's log_prob takes."""
        return action.astype(np.float32) if isinstance(self.action_space, spaces.MultiBinary) else action

    def _scaled_reward(self, fragment: Fragment) -> NDArray[Any]:
        if self.reward_normalizer is None:
            return fragment.reward
        first = fragment.episode_start[0]
        parts = [slice(None)] if fragment.lag is None else once_each(fragment.env_ids)
        for columns in parts:
            named = {name: fragment[name][:, columns] for name in ("reward", "terminated", "truncated", "valid")}
            envs = None if fragment.lag is None else fragment.env_ids[columns]
            self.reward_normalizer.update(**named, first_start=first[columns], envs=envs)
        return self.reward_normalizer(fragment.reward)

    def _kl_reached(self, found: list[dict[str, float]]) -> bool:
        if found[-1].get("stopped"):
            return True
        limit = self.config.kl_stop_epoch
        return limit is not None and found[-1]["train/approx_kl"] > limit

    def _steer_learning_rate(self, metrics: dict[str, float]) -> None:
        """Keep the KL near its target: beyond a factor of 2, the learning rate moves by 1.5."""
        target = self.config.kl_adaptive_lr
        if target is None:
            return
        group = self.optimizer.param_groups[0]
        if metrics["train/approx_kl"] > 2.0 * target:
            group["lr"] = max(group["lr"] / 1.5, 1e-6)
        elif metrics["train/approx_kl"] < 0.5 * target:
            group["lr"] = min(group["lr"] * 1.5, 1e-2)

    def _update_normalizers(self, fragment: Fragment) -> None:
        """Count the fragment's observations, after learning: acting and learning on it saw the same scale."""
        if self.obs_normalizer is not None:
            self.obs_normalizer.update(fragment.obs, fragment.valid)

    def _noise_needed(self) -> tuple[str, int]:
        if self.stateful is not None:
            return self.stateful.noise_kind, self.stateful.noise_size
        obs = self.network_input(self.any_obs(2))
        with no_grad():
            out = self.policy(obs)
        if not isinstance(out, tuple) or len(out) != 2 or not hasattr(out[0], "sample_from"):
            raise TypeError(
                f"policy: must return (distribution, value) for encoded observations [B, ...], got {type(out).__name__}"
            )
        if tuple(out[1].shape) != (2,):
            raise ValueError(f"policy: the value of 2 observations must have shape (2,), got {tuple(out[1].shape)}")
        kind, size = out[0].noise
        return kind, size

    def _predict_noise(self, rows: int) -> NDArray[np.float32]:
        keys = (self.seed, "predict", np.arange(rows), self.predictions, 1, self.noise_size)
        self.predictions += 1
        uniform = self.noise_kind == "uniform"
        return (philox.uniform(*keys, open=True) if uniform else philox.normal(*keys))[0]

    # -- acting elsewhere -----------------------------------------------------------------------------------------

    def acting_config(self, num_envs: int) -> PPOConfig:
        """Return the config of an agent that only acts, in `num_envs` of the environments."""
        cfg = self.config
        return replace(cfg, num_envs=num_envs, batch_size=min(cfg.batch_size, cfg.num_steps * num_envs))

    def acting_state(self) -> dict[str, NDArray[Any]]:
        """Return the policy's parameters and buffers, and the statistics that normalise observations."""
        found = super().acting_state()
        if self.obs_normalizer is not None:
            stats = self.obs_normalizer.stats
            found |= {"obs_normalizer.mean": stats.mean, "obs_normalizer.var": stats.var}
        return found

    def load_acting_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Copy in what `acting_state` of another agent returned."""
        super().load_acting_state(arrays)
        if self.obs_normalizer is not None:
            mean, var = arrays["obs_normalizer.mean"], arrays["obs_normalizer.var"]
            self.obs_normalizer.load_state_dict({"mean": mean, "var": var, "count": 0.0})

    # -- state ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes: networks, optimiser, normalisers, counters, environments, streams."""
        state = {
            "policy": to_plain(self.policy.state_dict()),
            "optimizer": to_plain(self.optimizer.state_dict()),
            "num_envs": self.envs.num_envs,
            "collector": self.collector.state_dict(),
            "env_steps": self.env_steps,
            "grad_steps": self.grad_steps,
            "iteration": self.iteration,
            "predictions": self.predictions,
            "merging": merging([self.policy]),
        }
        if self.obs_normalizer is not None:
            state["obs_normalizer"] = self.obs_normalizer.state_dict()
        if self.reward_normalizer is not None:
            state["reward_normalizer"] = self.reward_normalizer.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; in another number of environments than it was made in, with new episodes."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(from_plain(state["optimizer"]))
        if self.obs_normalizer is not None:
            self.obs_normalizer.load_state_dict(state["obs_normalizer"])
        if state["num_envs"] == self.envs.num_envs:
            self.collector.load_state_dict(state["collector"])
            if self.reward_normalizer is not None:
                self.reward_normalizer.load_state_dict(state["reward_normalizer"])
        else:
            self.collector.step = int(state["collector"]["step"])
            if self.reward_normalizer is not None:
                self.reward_normalizer.stats.load_state_dict(state["reward_normalizer"]["stats"])
        self.env_steps, self.grad_steps = int(state["env_steps"]), int(state["grad_steps"])
        self.iteration, self.predictions = int(state["iteration"]), int(state["predictions"])
        set_merging([self.policy], state.get("merging", ()))
