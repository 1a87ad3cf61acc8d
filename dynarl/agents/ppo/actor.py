"""PPO's actor: samples of the policy's distribution, or its mode."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl import nn
from dynarl.agents.actor import Actor
from dynarl.agents.encoders.choose import features_for
from dynarl.agents.encoders.observation_encoder import ObservationEncoder
from dynarl.agents.encoders.stored_actions import StoredActions
from dynarl.agents.policies import ActorCritic, FeaturesFactory
from dynarl.agents.policies.recurrent import RecurrentActorCritic
from dynarl.agents.ppo.config import PPOConfig
from dynarl.agents.user_policy.policy import PolicyLike, UserPolicy, make_policy
from dynarl.agents.user_policy.runner import PolicyRunner
from dynarl.autograd import no_grad
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.random import seeded
from dynarl.autograd.tensor import wrap
from dynarl.envs import ObservationNormalizer
from dynarl.envs.observations import observation_layout
from dynarl.rollout import ActResult
from dynarl.seeding import derive_seed

__all__ = ["ActorCriticDecider", "PPOActor", "make_actor"]


class ActorCriticDecider:
    """Samples actions of a policy's (distribution, value); the distribution's mode without noise."""

    def __init__(self, actions: StoredActions, device: str) -> None:
        self.actions, self.device = actions, device

    def check(self, policy: UserPolicy, outputs: tuple[Any, ...]) -> tuple[str, int]:
        """Raise unless the outputs of 2 rows are a distribution and a value; return the distribution's noise."""
        distribution, value = outputs
        if not hasattr(distribution, "sample_from"):
            raise policy.wrong(f"{type(distribution).__name__} in place of the distribution")
        lead, shape = tuple(distribution.batch_shape), tuple(getattr(value, "shape", ()))
        if policy.per_sample and (lead != (2,) or shape not in ((2,), (2, 1))):
            raise policy.wrong(f"a distribution of batch_shape {lead[1:]} and a value of shape {shape[1:]}")
        if shape not in ((2,), (2, 1))[: 1 + policy.per_sample]:
            raise ValueError(f"policy: the value of 2 observations must have shape (2,), got {shape}")
        noise: tuple[str, int] = distribution.noise
        return noise

    def decide(
        self, outputs: tuple[Any, ...], noise: NDArray[np.float32] | None, action_mask: Any = None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return stored actions [N, ...], their log_prob [N] and the value [N]; the policy itself applied the mask."""
        distribution, value = outputs
        with no_grad():
            action = distribution.mode if noise is None else distribution.sample_from(to_device(noise, self.device))
            log_prob = distribution.log_prob(action)
        return self.actions.stored(action), to_host(log_prob.array), to_host(value.array).reshape(-1)


class PPOActor(Actor):
    """Acts with `policy`, which maps encoded observations to (distribution, value)."""

    def __init__(
        self,
        policy: nn.Module,
        encoder: ObservationEncoder,
        actions: StoredActions,
        *,
        seed: int,
        noise: tuple[str, int],
        runner: PolicyRunner | None = None,
    ) -> None:
        super().__init__(encoder, actions, {"policy": policy}, seed=seed, noise=noise, runner=runner)
        self.policy = policy

    def act(
        self,
        obs: NDArray[Any],
        noise: NDArray[np.float32] | None,
        *,
        explore: bool = True,
        action_mask: NDArray[np.bool_] | None = None,
    ) -> ActResult:
        """Return samples [N, ...] with log_prob [N] and value [N]; without `explore` the mode and its value."""
        device = self.device
        masks = () if action_mask is None else (wrap(to_device(action_mask, device)),)
        with no_grad():
            distribution, value = self.policy(self.encoder(obs), *masks)
            if not explore:
                return ActResult(self.actions.stored(distribution.mode), None, to_host(value.array))
            action = distribution.sample_from(noise if device == "cpu" else to_device(noise, device))
            log_prob = distribution.log_prob(action)
        return ActResult(self.actions.stored(action), to_host(log_prob.array), to_host(value.array))

    def value(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Return V [B] of stored observations [B, ...]."""
        return value_of(self.policy, self.encoder(obs))


def value_of(policy: Any, inputs: Any) -> NDArray[Any]:
    """Return a policy's value [B] of encoded observations [B, ...], without its distribution where it can."""
    with no_grad():
        value = policy.value(inputs) if hasattr(policy, "value") else policy(inputs)[1]
    return to_host(value.array)


# ------------------------------------------------------------------------------------------------ construction


def make_actor(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    config: PPOConfig,
    *,
    seed: int,
    device: str,
    policy: PolicyLike | None,
    features: FeaturesFactory | None,
) -> PPOActor:
    """Make PPO's policy, with parameters drawn by `seed`, and the actor around it."""
    layout = observation_layout(observation_space)
    if config.normalize_obs and layout.dtype == object:
        raise ValueError(f"normalize_obs: not for observations of varying size, got {observation_space}")
    init, given = derive_seed(seed, "init", bits=63), config.policy if policy is None else policy
    if given is None:
        if config.policy_kwargs:
            raise ValueError(
                f"policy_kwargs: {config.policy_kwargs} are for policy, got none; hidden_sizes and activation describe "
                "the ready-made policy"
            )
        with seeded(init):
            features = _features(observation_space, config) if features is None else features
            network = own_policy(layout.space, action_space, config, features)
    elif features is not None:
        raise ValueError("features: are for the ready-made policy; put them into the policy that was given")
    else:
        network = make_policy(given, (layout.space, action_space), init, config.policy_kwargs)
    user = UserPolicy(network, returns="distribution, value", takes_aux=True)
    network.to(device)
    encoder = ObservationEncoder(
        observation_space, device=device, flatten=features is None and given is None,
        normalizer=ObservationNormalizer(layout.shape) if config.normalize_obs else None,
    )  # fmt: skip
    actions = StoredActions(action_space)
    runner = _runner(user, encoder, actions, config, seed)
    noise = _checked_noise(network, encoder) if runner is None else (runner.noise_kind, runner.noise_size)
    actor = PPOActor(network, encoder, actions, seed=seed, noise=noise, runner=runner)
    if config.use_sde:
        actor.noise_period = config.sde_sample_freq if config.sde_sample_freq > 0 else config.num_steps
    if policy is not None and not isinstance(policy, str) and config.policy is None:
        actor.policy_name = user.name
    return actor


def own_policy(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    config: PPOConfig,
    features: FeaturesFactory | None,
) -> nn.Module:
    """Return the policy that the fields `hidden_sizes`, `recurrent`, ... of the config describe."""
    layers: dict[str, Any] = {
        "hidden_sizes": config.hidden_sizes,
        "activation": config.activation,
        "orthogonal_init": config.orthogonal_init,
        "log_std_init": config.log_std_init,
        "features": features,
    }
    if config.recurrent == "none":
        return ActorCritic(observation_space, action_space, use_sde=config.use_sde, **layers)
    memory: dict[str, Any] = {"recurrent": config.recurrent, "recurrent_hidden_size": config.recurrent_hidden_size}
    return RecurrentActorCritic(observation_space, action_space, **memory, **layers)


def _features(observation_space: spaces.Space[Any], config: PPOConfig) -> nn.Module | None:
    """Return the network that images, text, sets and graphs need before actor and critic."""
    network = features_for(observation_space, config.encoder)
    if network is not None and config.normalize_obs:
        raise ValueError(
            f"normalize_obs: images are scaled by 255 and text is embedded, got {observation_space}; "
            "leave it off, or set encoder to 'none'"
        )
    return network


def _runner(
    policy: UserPolicy, encoder: ObservationEncoder, actions: StoredActions, config: PPOConfig, seed: int
) -> PolicyRunner | None:
    """Return the runner of a policy that has a state or is written for one environment, else None."""
    if not policy.per_sample and not policy.has_state:
        if config.sequence_length is not None:
            raise ValueError(f"sequence_length: {config.sequence_length} is for policies with a state, this has none")
        return None
    return PolicyRunner(
        policy, encoder, actions, ActorCriticDecider(actions, encoder.device), seed=seed,
        sequence_length=config.sequence_length or config.num_steps, record_paths=config.record_paths,
    )  # fmt: skip


def _checked_noise(policy: nn.Module, encoder: ObservationEncoder) -> tuple[str, int]:
    """Call a policy without a state once, check its result, and return kind and size of its noise."""
    with no_grad():
        out = policy(encoder(encoder.example(2)))
    if not isinstance(out, tuple) or len(out) != 2 or not hasattr(out[0], "sample_from"):
        raise TypeError(
            f"policy: must return (distribution, value) for encoded observations [B, ...], got {type(out).__name__}"
        )
    if tuple(out[1].shape) != (2,):
        raise ValueError(f"policy: the value of 2 observations must have shape (2,), got {tuple(out[1].shape)}")
    kind, size = out[0].noise
    return kind, size
