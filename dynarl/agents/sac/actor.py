"""SAC's actor: samples of a squashed Gaussian or a categorical policy, or its mode; at first uniform actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.agents.encoders.observation_encoder import ObservationEncoder
from dynarl.agents.off_policy.actor import OffPolicyActor, check_replay
from dynarl.agents.off_policy.records import RecordLayout
from dynarl.agents.policies import FeaturesFactory
from dynarl.agents.sac.actions import ActionKind, make_actions
from dynarl.agents.sac.config import SACConfig
from dynarl.agents.sac.critics import Critics
from dynarl.agents.sac.networks import make_networks
from dynarl.agents.sac.user_actor import UserActor, feedback_size, state_size
from dynarl.agents.user_policy.policy import PolicyLike, UserPolicy, make_policy
from dynarl.agents.user_policy.runner import PolicyRunner
from dynarl.autograd import Tensor, no_grad
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.random import seeded
from dynarl.envs.observations import observation_layout
from dynarl.nn import Module
from dynarl.rollout import ActResult, NoiseStream
from dynarl.seeding import derive_seed

__all__ = ["SACActor", "make_actor"]

Mask = NDArray[np.bool_] | None


class SACActor(OffPolicyActor):
    """Acts with `network`, which maps encoded observations to a policy; stored Box actions are in [-1, 1].

    `critics` are made together with the network; acting reads nothing of them but a shared encoder.
    """

    actions: ActionKind

    def __init__(
        self,
        network: Module,
        critics: Critics,
        encoder: ObservationEncoder,
        actions: ActionKind,
        config: SACConfig,
        *,
        seed: int,
        noise_size: int,
        runner: PolicyRunner | None = None,
    ) -> None:
        networks = {"actor": network, "critics": critics} if config.share_encoder else {"actor": network}
        noise = (actions.noise_kind, noise_size)
        super().__init__(encoder, actions, networks, seed=seed, noise=noise, runner=runner)
        self.config, self.network, self.critics = config, network, critics
        if config.use_sde:
            self.noise_period = config.sde_sample_freq if config.sde_sample_freq > 0 else config.train_freq

    def act(
        self, obs: NDArray[Any], noise: NDArray[np.float32] | None, *, explore: bool, action_mask: Mask = None
    ) -> ActResult:
        """Return actions for stored observations, [N, A] in [-1, 1] or [N]; without `explore` the mode."""
        network: Any = self.network
        mask = None if action_mask is None else to_device(action_mask, self.device)
        with no_grad():
            inputs = self.features(self.encoder(obs))
            if explore:
                action = network.explore(inputs, to_device(noise, self.device), mask)
            else:
                action = network.mode(inputs, mask)
        return ActResult(to_host(action))

    @property
    def features(self) -> Callable[[Tensor], Tensor]:
        """The encoder that the network shares with the critics, which it does not train; else the identity."""
        return self._shared_features if self.config.share_encoder else _identity

    def _shared_features(self, obs: Tensor) -> Tensor:
        return self.critics.encoded(obs, frozen=True)

    def env_action(self, action: NDArray[Any]) -> NDArray[Any]:
        """Return stored actions with the environment's bounds."""
        return self.actions.env_action(action)

    def exploration(self, env_ids: NDArray[np.int64]) -> PolicyExploration:
        """Return how to explore in the environments [N] with these ids."""
        return PolicyExploration(self, env_ids)

    def acting_state(self) -> dict[str, NDArray[Any]]:
        """Return the networks and the environment steps so far."""
        return super().acting_state() | {"env_steps": np.array([self.env_steps])}

    def load_acting_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Copy in the `acting_state` of a learner's actor."""
        super().load_acting_state(arrays)
        self.env_steps = int(arrays["env_steps"][0])


class PolicyExploration:
    """Uniform actions before learning starts, then samples of the policy (see `dynarl.agents.off_policy.actor`)."""

    def __init__(self, actor: SACActor, env_ids: NDArray[np.int64]) -> None:
        self._actor, actions = actor, actor.actions
        self._noise = NoiseStream(
            actor.seed, "action", env_ids, kind=actor.noise_kind, size=actor.noise_size, period=actor.noise_period
        )
        self._uniform = NoiseStream(actor.seed, "warmup", env_ids, kind="uniform", size=actions.uniform_size)

    def random_actions(self, step: int, mask: Mask) -> NDArray[Any] | None:
        """Return uniformly random actions before learning starts, else None."""
        if self._actor.env_steps >= self._actor.config.learning_starts:
            return None
        return self._actor.actions.uniform(self._uniform.at(step), mask)

    def noise(self, step: int) -> NDArray[np.float32]:
        """Return the noise of a step."""
        return self._noise.at(step)


def make_actor(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    config: SACConfig,
    *,
    seed: int,
    device: str = "cpu",
    features: FeaturesFactory | None = None,
    policy: PolicyLike | None = None,
) -> SACActor:
    """Make actor and critics, with parameters drawn by `seed`."""
    actions, init = make_actions(action_space, config, device), derive_seed(seed, "init", bits=63)
    if policy is None:
        with seeded(init):
            network, critics = make_networks(observation_space, action_space, config, features)
        encoder = ObservationEncoder(observation_space, device=device, flatten=critics.features is None)
        network.to(device), critics.to(device)
        return SACActor(network, critics, encoder, actions, config, seed=seed, noise_size=network.noise_size)

    user = _user_policy(policy, observation_space, action_space, config, init, device)
    more = feedback_size(user, action_space) + state_size(user)
    with seeded(init):
        _, critics = make_networks(observation_space, action_space, config, features, more=more)
    critics.to(device)
    encoder = ObservationEncoder(observation_space, device=device, flatten=critics.features is None)
    if user.has_state and critics.features is not None:
        raise ValueError(
            f"policy: with feedback or a state, observations must need no encoder, got {observation_space}; a "
            "policy that takes the observation alone may have them"
        )
    runner = PolicyRunner(user, encoder, actions, actions, seed=seed, sequence_length=config.sequence_length)
    check_replay(runner, batch_size=config.batch_size, n_step=config.n_step)
    network_of_user = UserActor(user.policy)
    actor = SACActor(
        network_of_user, critics, encoder, actions, config, seed=seed, noise_size=actions.noise_size, runner=runner
    )
    actor.policy_name, actor.records = user.name, RecordLayout(runner)
    return actor


def _user_policy(
    policy: PolicyLike,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    config: SACConfig,
    init: int,
    device: str,
) -> UserPolicy:
    """Return the user's policy; raises ValueError for options that only the ready-made actor has."""
    for name in ("use_sde", "share_encoder"):
        if getattr(config, name):
            raise ValueError(f"policy: {name} belongs to the ready-made actor; leave it off")
    module = make_policy(policy, (observation_layout(observation_space).space, action_space), init, {})
    return UserPolicy(module.to(device), returns="distribution", agent_masks=True)


def _identity(obs: Tensor) -> Tensor:
    return obs
