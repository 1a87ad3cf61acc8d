"""What every agent can do beside learning: predict, evaluate, save, load."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl import checkpoint
from dynarl.agents.encoders.ragged_input import ragged_input
from dynarl.agents.explain import Detail, Fact, explain, table
from dynarl.agents.user_obs import stored_rows
from dynarl.agents.user_policy.runner import PolicyRunner
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.tape import wrap
from dynarl.callbacks import CallbackLike, Callbacks
from dynarl.checkpoint import compatibility
from dynarl.config import ConfigError, from_mapping
from dynarl.envs import Environments, make
from dynarl.envs.env_group import EnvGroup
from dynarl.envs.make import evaluation_source, id_of, number_of
from dynarl.envs.masks import flat_mask
from dynarl.envs.observations import observation_layout
from dynarl.envs.ragged_spaces import example_rows
from dynarl.envs.spaces import action_layout, encode, env_action_map
from dynarl.nn import Module
from dynarl.rollout import play
from dynarl.threads import blas_threads

__all__ = ["Agent", "Evaluation", "Stop"]

Stop = Callable[[dict[str, Any]], bool | None]


class Evaluation(NamedTuple):
    """Returns of evaluation episodes: mean and standard deviation (ddof 0), and each episode's return and length."""

    mean: float
    std: float
    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]


class Agent:
    """The verbs that agents share. A subclass has `collect_and_update`, `act`, `algorithm` and `config_class`.

    `env` is a Gymnasium id, a function that makes an environment, an environment, or a vector environment.
    """

    algorithm: str
    config_class: type[Any]
    config: Any
    envs: Environments
    takes_masks = False
    """Whether `choose` takes action masks as a third argument."""
    sources: Mapping[str, str] = {}
    """Where each field of the config comes from, for `explain`."""
    stateful: PolicyRunner | None = None
    """What runs a policy that has a state; None for policies without."""
    policy_name: str | None = None
    """Class of the policy that was given as an object, which a checkpoint alone cannot make again."""
    facts: tuple[Fact, ...] = ()
    """Implementation details that are no options, for `explain`."""
    acting_networks: tuple[str, ...] = ()
    """Attributes that hold the networks acting needs; a class that names them can be run by workers."""
    learns_from_replay = False
    """Whether workers fill a replay, one fragment after the other, rather than a batch."""
    given: Mapping[str, Any] = {}
    """Arguments beside the config that another agent of this class needs to act alike."""
    flatten_obs = True
    """Whether the networks take observations as vectors."""
    num_threads: int | None = 1
    """BLAS threads while learning: more than one pays for wide networks on idle cores only. None: as they are."""
    env_steps = 0
    grad_steps = 0
    iteration = 0
    predictions = 0
    """Calls that drew random numbers beside training, which key them."""

    def __init__(self, env: Any, *, seed: int, device: str, config: Any, overrides: Mapping[str, Any]) -> None:
        unknown = sorted(set(overrides) - {f.name for f in dataclasses.fields(self.config_class)})
        if unknown:
            raise TypeError(f"{type(self).__name__}: {unknown} are no fields of {self.config_class.__name__}")
        self.config = dataclasses.replace(config or self.config_class(), **overrides)
        self.seconds: dict[str, float] = {}
        self.made_of = env
        self.source = env.env if isinstance(env, EnvGroup) else env
        self.has_workers = isinstance(env, EnvGroup) and not env.here  # others step the environments
        self.seed, self.device = seed, device
        self.envs = self.make_envs()
        self.observation_space, self.action_space = self.envs.observation_space, self.envs.action_space
        self.layout = observation_layout(self.observation_space)
        space = self.layout.space
        self._is_encoded = isinstance(space, spaces.Box) and len(space.shape) == 1 and space.dtype == np.float32

    def make_envs(self) -> Environments:
        """Make the environments to learn in."""
        return make(self.made_of, number_of(self.source, self.config.num_envs), seed=self.seed)

    @property
    def env(self) -> Environments:
        """The environments the agent learns in."""
        return self.envs

    def collect_and_update(self, progress: float) -> dict[str, Any]:
        """Gather experience and learn from it once; `progress` in [0, 1) is how much of the run is done."""
        raise TypeError(f"{type(self).__name__}: collect_and_update must be defined")

    def choose(self, obs: NDArray[Any], noise: NDArray[np.float32] | None, *action_mask: Any) -> NDArray[Any]:
        """Return the policy's actions for stored observations [N, ...]: the mode without noise, else a sample.

        Agents that take masks get `action_mask` [N, M] where the environment has one.
        """
        raise TypeError(f"{type(self).__name__}: choose must be defined")

    def network_input(self, obs: NDArray[Any]) -> Any:
        """Return stored observations [B, ...] as the networks' input: encoded, on their device.

        They become vectors [B, F] of float32 where `flatten_obs` is true and keep their shape otherwise; rows of
        varying size become what the networks for them take.
        """
        if self.layout.dtype == object:
            return ragged_input(self.layout.space, obs, self.device)
        encoded = obs if self._is_encoded else encode(self.layout.space, obs, flatten=self.flatten_obs)
        return wrap(encoded if self.device == "cpu" else to_device(encoded, self.device))

    def any_obs(self, rows: int) -> NDArray[Any]:
        """Return valid stored observations [rows, ...]."""
        if self.layout.dtype == object:
            return example_rows(self.layout.space, rows)
        return np.zeros((rows, *self.layout.shape), self.layout.dtype) + getattr(self.layout.space, "start", 0)

    def env_action(self, action: NDArray[Any]) -> NDArray[Any]:
        """Return the policy's own actions [N, ...] as the environments take them."""
        return action

    def check_length(self, total_steps: int) -> None:
        """Refuse a run of `total_steps` environment steps in all that would end before learning starts."""
        starts = getattr(self.config, "learning_starts", -1)
        if total_steps <= starts:
            raise ConfigError(
                f"learning_starts: {starts} is not reached in {total_steps} steps, so nothing would be learned; "
                "lower it or train for longer"
            )

    def learn(
        self,
        total_steps: int,
        on_iteration: Stop | None = None,
        *,
        callbacks: Iterable[CallbackLike] | CallbackLike = (),
    ) -> Self:
        """Train for `total_steps` environment steps more.

        After each iteration `callbacks` run (see dynarl.callbacks), then `on_iteration(metrics)`; one that
        returns False ends the training. Schedules run over all steps the agent will have made by then.
        """
        if total_steps < 1:
            raise ValueError(f"learn: total_steps must be at least 1, got {total_steps}")
        end = self.env_steps + total_steps
        self.check_length(end)
        each = Callbacks(callbacks)
        each.begin(self)
        try:
            with blas_threads(self.num_threads):
                while self.env_steps < end:
                    metrics = self.collect_and_update(self.env_steps / end)
                    self.refuse_masks(self.envs)
                    stop = each.on_iteration(self, metrics) is False
                    if (on_iteration is not None and on_iteration(metrics) is False) or stop:
                        break
        finally:
            each.end(self)
        return self

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
        """Return (action, state) for one observation or a batch, as the environment wants the action.

        A policy with a state begins with None and then takes the state that the last call returned; where
        `episode_start` is true its episode begins anew. One that looks at feedback takes the `reward` that the
        last action earned (0 if not given) and its `info` fields by name. Other policies pass the state
        through. `action_mask`, one or a batch, says what is allowed, as `info["action_mask"]` does. Sampled
        actions draw from a stream of their own.
        """
        batch, single = stored_rows(self.observation_space, obs, self.layout)
        noise = None if deterministic else self._predict_noise(len(batch))
        masks = self._masks(action_mask, single)
        if self.stateful is None:
            chosen = self.choose(batch, noise, *masks)
        else:
            chosen, state = self.stateful.choose(
                batch, noise, state, *masks, episode_start=episode_start, reward=reward, info=info
            )
            chosen = self.env_action(chosen)
        action = env_action_map(self.action_space)(chosen)
        return (action[0] if single else action), state

    def _masks(self, given: Any, single: bool) -> tuple[NDArray[np.bool_], ...]:
        """Return the masks [N, M] as further arguments of `choose`."""
        if given is None:
            return ()
        if not self.takes_masks:
            raise ValueError(f"{type(self).__name__}: takes no action masks; PPO, DQN and SAC do")
        masks = [given] if single else given
        return (np.stack([flat_mask(self.action_space, mask, "predict") for mask in masks]),)

    def refuse_masks(self, envs: Environments) -> None:
        if envs.action_mask is not None and not self.takes_masks:
            raise ValueError(
                f"{type(self).__name__}: the environment masks actions, which this agent would ignore; "
                "PPO, DQN and SAC take masks, or remove action_mask from the environment"
            )

    def _predict_noise(self, rows: int) -> NDArray[np.float32] | None:
        raise TypeError(f"{type(self).__name__}: _predict_noise must be defined")

    def evaluate(self, episodes: int = 100, *, deterministic: bool = True, seed: int | None = None) -> Evaluation:
        """Play whole episodes in environments of their own and return their returns.

        Each environment plays a fixed number of episodes, so that short ones do not count more. Seeds
        are keyed by (seed, "evaluate"), the same at every call; statistics of normalisers stay frozen.
        """
        seed = self.seed if seed is None else seed
        envs = make(evaluation_source(self.source), max(1, min(episodes, 100)), seed=seed, purpose="evaluate")
        try:
            return self.play(envs, episodes, deterministic=deterministic)
        finally:
            envs.close()

    def play(
        self,
        envs: Environments,
        episodes: int,
        *,
        deterministic: bool = True,
        watch: Callable[[], None] | None = None,
    ) -> Evaluation:
        """Play whole episodes in the given environments; `watch` is called before each step (to render)."""

        state: Any = None
        if self.stateful is not None:
            envs.ask_info(self.stateful.info_fields)

        def act(obs: NDArray[Any], episode_start: NDArray[np.bool_], reward: NDArray[Any]) -> NDArray[Any]:
            nonlocal state
            if watch is not None:
                watch()
            self.refuse_masks(envs)
            noise = None if deterministic else self._predict_noise(len(obs))
            # only an agent that takes masks has the third argument
            masks = () if envs.action_mask is None else (envs.action_mask,)
            if self.stateful is None:
                return self.choose(obs, noise, *masks)
            info = None if envs.info is None else envs.info.now
            chosen, state = self.stateful.choose(
                obs, noise, state, *masks, episode_start=episode_start, reward=reward, info=info
            )
            return self.env_action(chosen)

        with blas_threads(self.num_threads):
            returns, lengths = play(envs, act, episodes)
        return Evaluation(float(returns.mean()), float(returns.std()), returns, lengths)

    def explain(self, *, show: bool = True) -> list[Detail]:
        """Return every implementation detail with its value and its source, and print them."""
        details = explain(self)
        if show:
            print(table(details, f"{type(self).__name__} on {id_of(self.source) or 'an environment of yours'}"))
        return details

    def networks(self) -> dict[str, Module]:
        """Return the agent's networks by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Module)}

    def acting_config(self, num_envs: int) -> Any:
        """Return the config of an agent of this class that only acts, in `num_envs` of the environments."""
        return dataclasses.replace(self.config, num_envs=num_envs)

    def acting_state(self) -> dict[str, NDArray[Any]]:
        """Return what acting depends on and learning changes, by name: arrays in host memory, not to be written to."""
        found = {}
        for network in self.acting_networks:
            for name, value in getattr(self, network).state_dict().items():
                found[f"{network}.{name}"] = to_host(value.array)
        return found

    def load_acting_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Copy in what `acting_state` of another agent of this class returned."""
        for network in self.acting_networks:
            for name, value in getattr(self, network).state_dict().items():
                np.copyto(value.array, arrays[f"{network}.{name}"])

    def stored_layout(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Return (shape, dtype) of an observation and an action as fragments hold them."""
        return {"obs": (self.layout.shape, self.layout.dtype), "action": action_layout(self.action_space)}

    def acting_metrics(self) -> dict[str, Any]:
        """Return what acting has to report since the last call: numbers, and arrays [K] shown as histograms."""
        return {} if self.stateful is None else self.stateful.compute.metrics()

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, as nested dicts of arrays and JSON scalars."""
        raise TypeError(f"{type(self).__name__}: state_dict must be defined")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        raise TypeError(f"{type(self).__name__}: load_state_dict must be defined")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a checkpoint directory (no pickle; see dynarl.checkpoint) and return its path."""
        counters = {name: int(getattr(self, name)) for name in ("env_steps", "grad_steps", "iteration")}
        described = compatibility.describe(
            self.algorithm, self.config, self.observation_space, self.action_space, counters, self.policy_name
        )
        meta = {**described, "env_id": id_of(self.source), "seed": self.seed}
        return checkpoint.save(path, self.state_dict(), meta=meta)

    @classmethod
    def load(cls, path: str | os.PathLike[str], env: Any = None, *, device: str = "cpu", **overrides: Any) -> Self:
        """Make an agent from a checkpoint directory; give `env` unless it was made from a Gymnasium id."""
        saved = checkpoint.load(path)
        if saved.meta.get("algorithm") != cls.algorithm:
            raise checkpoint.CheckpointError(
                f"load: {path} was written by {saved.meta.get('algorithm')!r}, not by {cls.algorithm!r}"
            )
        env = saved.meta.get("env_id") if env is None else env
        if env is None or ":" in str(env):
            raise ValueError(f"load: {path} names no registered Gymnasium id ({env!r}), pass env=")
        names = {f.name for f in dataclasses.fields(cls.config_class)} - {"policy"}  # that may be an object
        changes = {k: overrides.pop(k) for k in list(overrides) if k in names}
        stored = from_mapping(cls.config_class, saved.meta["config"], source=str(path))
        config = cls.config_class(**{**stored, **changes})
        if saved.meta.get("policy") is not None and "policy" not in overrides:
            raise ValueError(f"load: {path} was made with the policy {saved.meta['policy']}, pass policy=")
        agent = cls(env, seed=int(saved.meta["seed"]), device=device, config=config, **overrides)
        compatibility.check(saved.meta, cls.algorithm, agent.observation_space, agent.action_space)
        agent.load_state_dict(saved.state)
        return agent
