"""The Actor: from observations to actions. It knows no optimiser, no environment and no agent.

Collectors, Ray workers, `predict`, `evaluate` and `play` all act with the same object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.agents.encoders.observation_encoder import ObservationEncoder
from dynarl.agents.encoders.stored_actions import StoredActions
from dynarl.agents.user_obs import stored_rows
from dynarl.agents.user_policy.policy import lockstep_flags, set_lockstep_flags
from dynarl.agents.user_policy.runner import PolicyRunner
from dynarl.autograd import philox
from dynarl.autograd.device import to_host
from dynarl.envs.masks import flat_mask
from dynarl.envs.spaces import env_action_map
from dynarl.nn import Module
from dynarl.rollout import ActResult

__all__ = ["Actor"]


class Actor:
    """The acting part of an agent. A subclass defines `act`.

    `networks` are those that acting reads, by name. `runner` runs a policy that has a state or is written for one
    environment. `noise_kind`, `noise_size` and `noise_period` describe the random numbers of an action (see
    `dynarl.rollout.ActingPolicy`).
    """

    noise_period = 1
    policy_name: str | None = None
    """Class of a policy that was given as an object, which a checkpoint alone cannot make again."""

    def __init__(
        self,
        encoder: ObservationEncoder,
        actions: StoredActions,
        networks: Mapping[str, Module],
        *,
        seed: int,
        noise: tuple[str, int],
        runner: PolicyRunner | None = None,
    ) -> None:
        self.encoder, self.actions, self.networks, self.runner = encoder, actions, dict(networks), runner
        self.seed, self.device = seed, encoder.device
        self.noise_kind, self.noise_size = noise
        self.predictions = 0  # calls of `predict` that drew random numbers, which key them

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """The environment's observation space."""
        return self.encoder.space

    @property
    def action_space(self) -> spaces.Space[Any]:
        """The environment's action space."""
        return self.actions.space

    @property
    def info_fields(self) -> tuple[str, ...]:
        """Names of the `info` fields that the policy reads."""
        return () if self.runner is None else self.runner.info_fields

    def act(
        self,
        obs: NDArray[Any],
        noise: NDArray[np.float32] | None,
        *,
        explore: bool,
        action_mask: NDArray[np.bool_] | None = None,
    ) -> ActResult:
        """Return actions for stored observations [N, ...] and noise [N, K]; without `explore` the greedy ones.

        `action_mask` [N, M] is True where an action is allowed.
        """
        raise TypeError(f"{type(self).__name__}: act must be defined")

    def env_action(self, action: NDArray[Any]) -> NDArray[Any]:
        """Return stored actions [N, ...] in the units of the environments."""
        return action

    # -- predicting -----------------------------------------------------------------------------------------------

    def predict(
        self,
        obs: Any,
        state: Any = None,
        *,
        episode_start: Any = None,
        deterministic: bool = False,
        reward: Any = None,
        info: Any = None,
        action_mask: Any = None,
    ) -> tuple[Any, Any]:
        """Return (action, state) for one observation or a batch; the action is what `env.step` takes.

        A policy with a state starts from None and then takes the state that the last call returned; where
        `episode_start` is true it starts from its initial state. A policy that reads feedback takes the `reward` of
        the last action (default 0) and its `info` fields by name. Other policies return the state as given.
        `action_mask`, one or a batch, marks the allowed actions as `info["action_mask"]` does. Sampled actions draw
        from a random stream of their own.
        """
        if isinstance(obs, tuple) and len(obs) == 2 and isinstance(obs[1], dict):
            raise ValueError(
                "predict: obs must be an observation, got a pair (obs, info) of env.reset(); give its first"
            )
        batch, single = stored_rows(self.observation_space, obs, self.encoder.layout)
        if batch.dtype.kind == "f" and np.isnan(batch).any():
            raise ValueError(f"predict: obs must be numbers, got NaN at {np.argwhere(np.isnan(batch))[0].tolist()}")
        masks = None
        if action_mask is not None:
            given = [action_mask] if single else action_mask
            masks = np.stack([flat_mask(self.action_space, mask, "predict") for mask in given])
        stored, state = self.predict_stored(
            batch, state, episode_start=episode_start, reward=reward, info=info, action_mask=masks,
            deterministic=deterministic,
        )  # fmt: skip
        action = env_action_map(self.action_space)(stored)
        return (action[0] if single else action), state

    def predict_stored(
        self,
        obs: NDArray[Any],
        state: Any = None,
        *,
        episode_start: Any = None,
        reward: Any = None,
        info: Any = None,
        action_mask: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Do as `predict` for stored observations [N, ...]; the actions are stored ones in the environments' units."""
        noise = None if deterministic else self.prediction_noise(len(obs))
        if self.runner is None:
            action = self.act(obs, noise, explore=not deterministic, action_mask=action_mask).action
        else:
            action, state = self.runner.predict(
                obs, noise, state, action_mask, episode_start=episode_start, reward=reward, info=info,
                draw=self.predictions,
            )  # fmt: skip
        return self.env_action(action), state

    def prediction_noise(self, rows: int) -> NDArray[np.float32]:
        """Return the noise [rows, K] of the next prediction, from a stream apart from training's."""
        keys = (self.seed, "predict", np.arange(rows), self.predictions, 1, self.noise_size)
        self.predictions += 1
        return (philox.uniform(*keys, open=True) if self.noise_kind == "uniform" else philox.normal(*keys))[0]

    # -- workers --------------------------------------------------------------------------------------------------

    def acting_state(self) -> dict[str, NDArray[Any]]:
        """Return what acting depends on and learning changes, by name: host arrays, not to be written to."""
        arrays = {
            f"{name}.{key}": to_host(value.array)
            for name, network in self.networks.items()
            for key, value in network.state_dict().items()
        }
        if self.encoder.normalizer is not None:
            stats = self.encoder.normalizer.stats
            arrays |= {"obs_normalizer.mean": stats.mean, "obs_normalizer.var": stats.var}
        return arrays

    def load_acting_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Copy in what `acting_state` of another actor of the same making returned."""
        for name, network in self.networks.items():
            for key, value in network.state_dict().items():
                np.copyto(value.array, arrays[f"{name}.{key}"])
        if self.encoder.normalizer is not None:
            mean, var = arrays["obs_normalizer.mean"], arrays["obs_normalizer.var"]
            self.encoder.normalizer.load_state_dict({"mean": mean, "var": var, "count": 0.0})

    def initial_state(self) -> Any:
        """Return the state of one environment before its first step, as arrays; None for policies without a state."""
        return None if self.runner is None else self.runner.initial_state()

    def stored_layout(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Return (shape, dtype) of an observation and of an action in fragments."""
        layout = self.encoder.layout
        return {"obs": (layout.shape, layout.dtype), "action": (self.actions.shape, self.actions.dtype)}

    def metrics(self) -> dict[str, Any]:
        """Return the measures of acting since the last call: numbers, and arrays [K] shown as histograms."""
        return {} if self.runner is None else self.runner.compute.metrics()

    # -- state ----------------------------------------------------------------------------------------------------

    @property
    def lockstep_flags(self) -> list[int]:
        """Which per-sample networks run in lock-step; part of the saved state, since rounding depends on it."""
        return lockstep_flags(self.networks.values())

    @lockstep_flags.setter
    def lockstep_flags(self, flags: Any) -> None:
        set_lockstep_flags(self.networks.values(), flags)
