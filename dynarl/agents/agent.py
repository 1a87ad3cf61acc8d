"""The Agent: config, environments, an Actor, a Learner, and the user's verbs over them."""

from __future__ import annotations

import dataclasses
import inspect
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Never, Protocol, Self

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from dynarl import checkpoint
from dynarl.agents.evaluation import Evaluation, play_episodes
from dynarl.agents.explain import Detail, Fact, explain, table
from dynarl.agents.loaded_settings import apply_to_optimizers, changed_settings, refuse_fixed
from dynarl.agents.state import load_attributes, save_attributes
from dynarl.autograd.device import to_host
from dynarl.callbacks import CallbackLike, Callbacks, stops
from dynarl.checkpoint import compatibility
from dynarl.config import ConfigError, from_mapping
from dynarl.config.migration import unknown_field
from dynarl.config.other_names import LEARN_ARGUMENTS, policy_hint
from dynarl.envs import Environments, make
from dynarl.envs.another import description, from_description
from dynarl.envs.env_group import EnvGroup
from dynarl.envs.make import id_of, make_another, number_of
from dynarl.nn import Module
from dynarl.threads import blas_threads

__all__ = ["Agent", "Evaluation", "Learner", "Stop"]

Stop = Callable[[dict[str, Any]], bool | None]

# Methods of earlier versions, and the role that has them today.
_MOVED = {
    "update": "learner.update(batch)",
    "act": "actor.act(obs, noise, explore=True)",
    "choose": "actor.act(obs, noise, explore=False)",
    "network_input": "actor.encoder(obs)",
    "collect_and_update": "learn(steps)",
}


class Learner(Protocol):
    """Turns batches into updates of its networks."""

    grad_steps: int

    def update(self, batch: Any) -> dict[str, Any]:
        """Learn from a batch and return the metrics."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that updates change."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        ...


class Agent:
    """The verbs of all agents: learn, predict, evaluate, save, load, explain.

    A subclass makes `actor`, `learner` and `collector` in its constructor, by the class methods `make_actor` and
    `make_collector`, which workers call too, and defines `batches` and `iteration_metrics`.

    `env` is a Gymnasium id, a function that makes an environment, an environment, or a vector environment.
    """

    algorithm: str
    config_class: type[Any]
    config: Any
    envs: Environments
    actor: Any
    learner: Any  # a `Learner` and its algorithm's own methods
    collector: Any
    make_actor: ClassVar[Callable[..., Any]]
    """(observation_space, action_space, config, *, seed, device, **given) -> Actor, its parameters drawn by `seed`."""
    make_collector: ClassVar[Callable[..., Any]]
    """(envs, actor, config, *, seed) -> the collector that acts in environments with an actor."""
    sources: Mapping[str, str] = {}
    """The source of each field of the config, for `explain`."""
    facts: tuple[Fact, ...] = ()
    """Implementation details that are no options, for `explain`."""
    saved: tuple[str, ...] = ()
    """Attributes that `state_dict` holds (see dynarl/agents/state.py)."""
    learns_from_replay = False
    """Whether workers fill a replay, one fragment after the other, rather than a batch."""
    given: Mapping[str, Any] = {}
    """Arguments besides the config that make an equal actor in another process."""
    num_threads: int | None = 1
    """BLAS threads while learning: more than one pays for wide networks on idle cores only. None: unchanged."""
    __signature__: ClassVar[inspect.Signature]
    env_steps = 0
    iteration = 0

    def __new__(cls, *arguments: Any, **settings: Any) -> Self:
        """Refuse the policy that Stable-Baselines3 takes first, before Python counts the arguments."""
        if arguments and (policy := policy_hint(arguments[0])):
            raise TypeError(f"{cls.__name__}: the first argument is the environment; {policy}")
        return super().__new__(cls)

    def __init_subclass__(cls) -> None:
        """Keep the constructor's signature, which `__new__` would hide from help() and the documentation."""
        super().__init_subclass__()
        own = inspect.signature(cls.__init__)
        cls.__signature__ = own.replace(parameters=list(own.parameters.values())[1:])

    def __init__(self, env: Any, *, seed: int, device: str, config: Any, overrides: Mapping[str, Any]) -> None:
        known = {field.name for field in dataclasses.fields(self.config_class)}
        for name, value in overrides.items():
            if name not in known:
                raise TypeError(f"{type(self).__name__}: {unknown_field(self.config_class, name, known, value)}")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise TypeError(
                f"seed: must be a whole number of at least 0, got {seed!r}; for another run at each start give "
                "seed=secrets.randbits(32)"
            )
        self.config = dataclasses.replace(config or self.config_class(), **overrides)
        self.seconds = {"collect": 0.0, "learn": 0.0}
        self.source = env.env if isinstance(env, EnvGroup) else env
        self.has_workers = isinstance(env, EnvGroup) and not env.here  # other processes step the environments
        self.seed, self.device = seed, device
        self.envs = self.make_envs(env, self.config, seed=seed)
        if isinstance(env, gymnasium.Env | VectorEnv):
            self._take_number_of(self.envs, asked=overrides.get("num_envs"))
        self.observation_space, self.action_space = self.envs.observation_space, self.envs.action_space

    def _take_number_of(self, envs: Environments, *, asked: int | None) -> None:
        """Write the number of existing environments into the config; raise ValueError for another one."""
        if asked not in (None, envs.num_envs):
            raise ValueError(
                f"num_envs: the environment that was given counts as {envs.num_envs}, got num_envs={asked}; give an id "
                "or a function that makes one, or leave num_envs out"
            )
        self.config = dataclasses.replace(self.config, num_envs=envs.num_envs)

    def __getattr__(self, name: str) -> Any:
        """Name the role that has a method of earlier versions."""
        if name in _MOVED:
            raise AttributeError(f"{type(self).__name__}.{name} is now called {_MOVED[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- parts, made here and by workers --------------------------------------------------------------------------

    @classmethod
    def make_envs(cls, env: Any, config: Any, *, seed: int) -> Environments:
        """Make the environments to act in."""
        source = env.env if isinstance(env, EnvGroup) else env
        return make(env, number_of(source, config.num_envs), seed=seed)

    @classmethod
    def make_worker(
        cls, env: Any, config: Any, *, seed: int, given: Mapping[str, Any]
    ) -> tuple[Environments, Any, Any]:
        """Return environments, an actor and a collector for another process."""
        envs = cls.make_envs(env, config, seed=seed)
        actor = cls.make_actor(envs.observation_space, envs.action_space, config, seed=seed, **given)
        return envs, actor, cls.make_collector(envs, actor, config, seed=seed)

    def acting_config(self, num_envs: int) -> Any:
        """Return the config of a worker with `num_envs` of the environments."""
        return dataclasses.replace(self.config, num_envs=num_envs)

    # -- learning -------------------------------------------------------------------------------------------------

    def learn(
        self,
        total_steps: int = 0,
        on_iteration: Stop | None = None,
        *,
        callbacks: Iterable[CallbackLike] | CallbackLike = (),
        **unknown: Never,
    ) -> Self:
        """Train for `total_steps` more environment steps, rounded up to whole iterations.

        After each iteration `callbacks` run (see dynarl.callbacks), then `on_iteration(metrics)`; one that
        returns False ends the training. Schedules cover all steps that the agent will have made by then.
        """
        for name in unknown:
            known = LEARN_ARGUMENTS.get(name, "unknown; the arguments are total_steps, on_iteration and callbacks")
            raise TypeError(f"{type(self).__name__}.learn: {name} is {known}")
        if total_steps < 1:
            raise ValueError(f"learn: total_steps must be at least 1, got {total_steps}")
        end = self.env_steps + total_steps
        self.check_length(end)
        each = Callbacks(callbacks)
        each.begin(self)
        try:
            with blas_threads(self.num_threads):
                while self.env_steps < end:
                    batches = self._timed(self.batches(self.env_steps / end))
                    updates = [self.learner.update(batch) for batch in batches]
                    self.iteration += 1
                    metrics = self.iteration_metrics(updates)
                    if updates:
                        self._check_parameters()
                    stop = stops(each.on_iteration(self, metrics))
                    if (on_iteration is not None and stops(on_iteration(metrics))) or stop:
                        break
        finally:
            each.end(self)
        return self

    def _check_parameters(self) -> None:
        """Raise FloatingPointError where a parameter is no number any more, before anything saves it."""
        for network, module in self.networks().items():
            for name, parameter in module.named_parameters():
                if not np.isfinite(to_host(parameter.array)).all():
                    raise FloatingPointError(
                        f"learn: parameter {network}.{name} holds NaN or infinity at env step {self.env_steps}, "
                        f"iteration {self.iteration}; a lower learning_rate or max_grad_norm is the usual remedy"
                    )

    def batches(self, progress: float) -> Iterator[Any]:
        """Step the environments and yield the batches of one iteration, each when it is to be learned from.

        `progress` in [0, 1) is the part of the run that is done. The learner updates between two batches.
        """
        raise TypeError(f"{type(self).__name__}: batches must be defined")

    def iteration_metrics(self, updates: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the metrics of an iteration from those of its updates."""
        raise TypeError(f"{type(self).__name__}: iteration_metrics must be defined")

    @property
    def iteration_steps(self) -> int:
        """Environment steps of an iteration, 0 where their number varies."""
        return 0

    def check_length(self, total_steps: int) -> None:
        """Refuse a run of `total_steps` environment steps in total that would end before learning starts."""
        starts = getattr(self.config, "learning_starts", -1)
        if total_steps <= starts:
            raise ConfigError(
                f"learning_starts: {starts} is not reached in {total_steps} steps, so nothing would be learned; "
                "lower it or train for longer"
            )

    def _timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Pass batches on; the time until each counts as "collect", the time the caller spends on it as "learn"."""
        clock, seconds = time.perf_counter, self.seconds
        before = clock()
        for batch in batches:
            ready = clock()
            seconds["collect"] += ready - before
            yield batch
            before = clock()
            seconds["learn"] += before - ready
        seconds["collect"] += clock() - before

    # -- acting ---------------------------------------------------------------------------------------------------

    @property
    def env(self) -> Environments:
        """The environments the agent learns in."""
        return self.envs

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
        """Return (action, state) for one observation or a batch; see `Actor.predict`."""
        return self.actor.predict(
            obs, state, episode_start=episode_start, deterministic=deterministic, reward=reward, info=info,
            action_mask=action_mask,
        )  # fmt: skip

    def evaluate(
        self,
        episodes: int = 100,
        *,
        deterministic: bool = True,
        seed: int | None = None,
        num_envs: int | None = None,
        env: Any = None,
    ) -> Evaluation:
        """Play whole episodes in environments of their own and return their returns.

        Each environment plays a fixed number of episodes, so that short ones do not count more. Seeds are keyed by
        (seed, "evaluate"), the same at every call. `num_envs` limits the environments (default: one for each episode,
        at most 100). `env` replaces those of the agent's own kind: an id, a function, or an environment, which stays
        open; the environment that the agent learns in then starts new episodes.

        Environments of the agent's own kind have its arguments, wrappers and time limit, open no window, and scale by
        the statistics of its wrappers; statistics stay as they are. Raises ValueError where none can be made.
        """
        seed = self.seed if seed is None else seed
        if num_envs is not None and num_envs < 1:
            raise ValueError(f"evaluate: num_envs must be at least 1, got {num_envs}")
        count, ready = max(1, min(episodes, num_envs or 100)), isinstance(env, gymnasium.Env | VectorEnv)
        if ready:
            envs = make(env, seed=seed, purpose="evaluate")
        else:
            source = self.source if env is None else env
            envs = make_another(source, count, self.envs, seed=seed)
        try:
            compatibility.check_spaces("evaluate", self.observation_space, self.action_space, envs)
            return self.play(envs, episodes, deterministic=deterministic)
        finally:
            if not ready:
                envs.close()
            elif env is self.source:
                self.restart_episodes()

    def set_env(self, env: Any) -> None:
        """Learn in another environment from now on, with new episodes; `env` as for the constructor.

        Raises ValueError, and changes nothing, unless it has the agent's spaces and its number of environments;
        RuntimeError where workers step the environments.
        """
        if self.has_workers:
            raise RuntimeError("set_env: the environments of this agent are in its workers and cannot be replaced")
        envs = self.make_envs(env, self.config, seed=self.seed)
        try:
            compatibility.check_spaces("set_env", self.observation_space, self.action_space, envs)
            if envs.num_envs != self.envs.num_envs:
                raise ValueError(
                    f"set_env: env must be {self.envs.num_envs} environments, got {envs.num_envs}; save the agent and "
                    "load it with env= for another number"
                )
        except ValueError:
            if not isinstance(env, gymnasium.Env | VectorEnv):  # those are the caller's
                envs.close()
            raise
        if not isinstance(self.source, gymnasium.Env | VectorEnv):
            self.envs.close()
        self.source, self.envs = env, envs
        self.collect_in(envs)

    def collect_in(self, envs: Environments) -> None:
        """Collect in other environments; random streams continue."""
        step = self.collector.step
        self.collector = self.make_collector(envs, self.actor, self.config, seed=self.seed)
        self.collector.step = step

    def close(self) -> None:
        """Close the environments; the agent can still predict, and be evaluated and saved."""
        self.envs.close()

    def restart_episodes(self) -> None:
        """Begin new episodes in the environments that the agent learns in."""
        self.envs.reset()

    def play(
        self,
        envs: Environments,
        episodes: int,
        *,
        deterministic: bool = True,
        watch: Callable[[], None] | None = None,
    ) -> Evaluation:
        """Play whole episodes in the given environments; `watch` is called before each step (to render)."""
        with blas_threads(self.num_threads):
            return play_episodes(self.actor, envs, episodes, deterministic=deterministic, watch=watch)

    # -- looking inside -------------------------------------------------------------------------------------------

    def explain(self, *, show: bool = True) -> list[Detail]:
        """Return every implementation detail with its value and its source, and print them."""
        details = explain(self)
        if show:
            print(table(details, f"{type(self).__name__} on {id_of(self.source) or 'an environment of yours'}"))
        return details

    def networks(self) -> dict[str, Module]:
        """Return the learner's networks by name."""
        return {name: value for name, value in vars(self.learner).items() if isinstance(value, Module)}

    @property
    def grad_steps(self) -> int:
        """Gradient steps so far."""
        return int(self.learner.grad_steps)

    @property
    def policy_name(self) -> str | None:
        """Class of the policy that was given as an object, which a checkpoint alone cannot make again."""
        name: str | None = self.actor.policy_name
        return name

    # -- state ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes, as nested dicts of arrays and JSON scalars."""
        return save_attributes(self, self.saved)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        load_attributes(self, self.saved, state)

    def restore(self, meta: Mapping[str, Any], state: Mapping[str, Any], *, where: str = "load") -> list[str]:
        """Continue from a checkpoint with this agent's config; return a line for each change to the stored state.

        `EFFECTS` of dynarl/agents/loaded_settings.py says what each changed setting does. Raises ConfigError for a
        setting that a stored agent cannot take, CheckpointError for another algorithm or other spaces.
        """
        compatibility.check(meta, self.algorithm, self.observation_space, self.action_space)
        changes = changed_settings(meta["config"], self.config)
        refuse_fixed(changes, where)
        notes = self.load_changed(state, changes)
        apply_to_optimizers(changes, self.learner, self.config)
        return [f"{where}: {note}" for note in notes]

    def load_changed(self, state: Mapping[str, Any], changes: Mapping[str, tuple[Any, Any]]) -> list[str]:
        """Load a state that was saved with other settings; return a line for each part that does not continue."""
        self.load_state_dict(state)
        return []

    def describe(self) -> dict[str, Any]:
        """Return what a checkpoint says of the agent, as JSON: algorithm, config, spaces, counters, environment."""
        counters = {name: int(getattr(self, name)) for name in ("env_steps", "grad_steps", "iteration")}
        described = compatibility.describe(
            self.algorithm, self.config, self.observation_space, self.action_space, counters, self.policy_name
        )
        env = description(self.source)
        # Earlier versions read env_id alone, which does not stand for an environment with arguments.
        env_id = env["id"] if env is not None and len(env) == 1 else None
        return {**described, "env": env, "env_id": env_id, "seed": self.seed}

    def state_without_replay(self) -> dict[str, Any]:
        """Return everything that changes but the replay; raises TypeError for an agent that has none."""
        raise TypeError(f"save: {type(self).__name__} has no replay to leave out, got replay=False")

    def save(self, path: str | os.PathLike[str], *, replay: bool = True) -> Path:
        """Write a checkpoint directory (no pickle; see dynarl.checkpoint) and return its path.

        ``replay=False`` leaves the transitions of a replay out.
        """
        return checkpoint.save(path, self.state_dict() if replay else self.state_without_replay(), meta=self.describe())

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        env: Any = None,
        *,
        device: str = "cpu",
        replay: bool = True,
        **overrides: Any,
    ) -> Self:
        """Make an agent from a checkpoint directory.

        Its environment is that of the saved agent if Gymnasium makes it from an id and arguments; otherwise give `env`.
        Fields of the config replace the stored ones, take effect or are refused (`restore`); what does not continue is
        printed. ``replay=False`` begins with an empty replay.
        """
        saved = checkpoint.load(path)
        if saved.meta.get("algorithm") != cls.algorithm:
            raise checkpoint.CheckpointError(
                f"load: {path} was written by {saved.meta.get('algorithm')!r}, not by {cls.algorithm!r}"
            )
        env = _environment_of(saved.meta, path) if env is None else env
        names = {f.name for f in dataclasses.fields(cls.config_class)} - {"policy"}  # that may be an object
        changes = {k: overrides.pop(k) for k in list(overrides) if k in names}
        stored = from_mapping(cls.config_class, saved.meta["config"], source=str(path))
        config = cls.config_class(**{**stored, **changes})
        if isinstance(policy := overrides.get("policy"), str) and policy != config.policy:
            refuse_fixed({"policy": (config.policy, policy)}, "load")
        if saved.meta.get("policy") is not None and "policy" not in overrides:
            raise ValueError(f"load: {path} was made with the policy {saved.meta['policy']}, pass policy=")
        agent = cls(env, seed=int(saved.meta["seed"]), device=device, config=config, **overrides)
        if not replay and saved.state.pop("replay", None) is None:
            raise TypeError(f"load: {cls.__name__} has no replay to leave out, got replay=False")
        for note in agent.restore(saved.meta, saved.state):
            print(note, flush=True)
        return agent


def _environment_of(meta: Mapping[str, Any], path: Any) -> Any:
    """Return the source of the environment that a checkpoint describes; raises ValueError if it describes none."""
    env_id = meta.get("env_id")
    described = meta.get("env") or (None if env_id is None else {"id": env_id})
    if described is None or ":" in described["id"]:
        raise ValueError(
            f"load: {path} does not say how its environment is made (not by a Gymnasium id and plain arguments); "
            "pass env=, the function or environment that it was made with"
        )
    return from_description(described)
