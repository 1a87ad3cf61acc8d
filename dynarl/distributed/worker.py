"""The program of a worker process: an Actor in one group of the run's environments."""

from __future__ import annotations

import functools
import os
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium

from dynarl.agents.policies import POLICIES
from dynarl.distributed.weights import FlatLayout
from dynarl.envs.env_group import EnvGroup
from dynarl.envs.guard import EnvironmentFailure
from dynarl.rollout.fragment import Fragment

__all__ = ["Assignment", "Delivery", "Failure", "Host", "Recipe", "Worker"]


class Reproducible(Protocol):
    """The attributes of an agent that a `Recipe` reads."""

    source: Any
    seed: int
    config: Any
    given: Mapping[str, Any]

    def acting_config(self, num_envs: int) -> Any:
        """Return the config of a worker with `num_envs` of the environments."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The data to make an agent's Actor, and a collector for it, in another process."""

    agent_cls: Any
    source: Any
    seed: int
    config: Any
    """The agent's config for `envs_per_group` environments."""
    given: Mapping[str, Any]
    envs_per_group: int
    env_spec: Any = None
    """Gymnasium's registration of `source`, which the other process may not have."""
    policy: Any = None
    """(name, class or factory) of a registered policy, which the other process may not have either."""

    @classmethod
    def of(cls, agent: Reproducible, envs_per_group: int) -> Recipe:
        """Return the recipe of an agent's Actor."""
        source, name = agent.source, getattr(agent.config, "policy", None)
        return cls(
            agent_cls=type(agent),
            source=source,
            seed=agent.seed,
            config=agent.acting_config(envs_per_group),
            given={key: value for key, value in agent.given.items() if value is not None},
            envs_per_group=envs_per_group,
            env_spec=_registration(source),
            policy=(name, POLICIES[name]) if isinstance(name, str) else None,
        )

    def register(self) -> None:
        """Register the environment and the policy in this process, under their names in the learner's process."""
        if self.env_spec is not None:
            gymnasium.registry.setdefault(self.env_spec.id, self.env_spec)
        if self.policy is not None:
            POLICIES.setdefault(*self.policy)

    def make(self, env: Any) -> tuple[Any, Any, Any]:
        """Return the environments of a group, an Actor and its collector."""
        self.register()
        made: tuple[Any, Any, Any] = self.agent_cls.make_worker(env, self.config, seed=self.seed, given=self.given)
        return made


def _registration(source: Any) -> Any:
    """Return Gymnasium's registration of an id, also of one that a `partial` of `gymnasium.make` makes."""
    if isinstance(source, functools.partial) and source.func is gymnasium.make and source.args:
        source = source.args[0]
    return gymnasium.registry.get(source) if isinstance(source, str) else None


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A group that a worker process runs, starting at the given environment step.

    `incarnation` counts the replacements of the group's worker: each has its own episodes. `state` is the state of a
    collector, to continue exactly.
    """

    group: int
    incarnation: int = 0
    step: int = 0
    state: Any = None


@dataclass(kw_only=True)
class Delivery:
    """A fragment and its origin: fragment `seq` of the group's `incarnation`, acted by the weights of `version`.

    `seconds` has the time spent in the environments ("env") and in total ("collect").
    """

    group: int
    incarnation: int
    seq: int
    version: int
    fragment: Fragment
    seconds: dict[str, float]
    metrics: dict[str, Any] = field(default_factory=dict)
    failures: list[EnvironmentFailure] = field(default_factory=list)
    """Of environments that were replaced alone; rows without a step are not `valid`."""


@dataclass(kw_only=True)
class Failure:
    """An exception in a worker as text, since the exception itself may not be picklable."""

    message: str
    traceback: str
    failures: list[EnvironmentFailure] = field(default_factory=list)
    """Of environments, since the last fragment."""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Describe an exception."""
        notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
        return cls(message=f"{type(error).__name__}: {error}{notes}", traceback="".join(traceback.format_exc()))


class Worker:
    """Acts in one group of environments with an Actor, in a process of its own or in the learner's.

    Environment i of group g is environment g * envs_per_group + i of the run. Randomness is keyed by seed,
    environment and step, so what it collects does not depend on who runs it.
    """

    def __init__(self, recipe: Recipe, assignment: Assignment) -> None:
        self.group, self.incarnation = assignment.group, assignment.incarnation
        first = self.group * recipe.envs_per_group
        part = EnvGroup(
            env=recipe.source,
            env_ids=tuple(range(first, first + recipe.envs_per_group)),
            purpose=purpose_of(self.incarnation),
        )
        self.envs, self.actor, self.collector = recipe.make(part)
        self.collector.step = assignment.step
        if assignment.state is not None:
            self.collector.load_state_dict(assignment.state)
        self._layout = FlatLayout(self.actor.acting_state())
        self._version: int | None = None
        self._env_seconds = 0.0
        self._time_environments()

    def collect(self, seq: int, version: int, weights: Any) -> Delivery:
        """Collect a fragment with the weights of `version`; the next call reuses its memory."""
        started, env_before = time.perf_counter(), self._env_seconds
        if version != self._version:
            self.actor.load_acting_state(self._layout.unpack(weights))
            self._version = version
        fragment = self.collector.collect(policy_version=version)
        seconds = {"collect": time.perf_counter() - started, "env": self._env_seconds - env_before}
        return Delivery(
            group=self.group,
            incarnation=self.incarnation,
            seq=seq,
            version=version,
            fragment=fragment,
            seconds=seconds,
            metrics=self.actor.metrics(),
            failures=self.take_failures(),
        )

    def take_failures(self) -> list[EnvironmentFailure]:
        """Return the failures of replaced environments since the last call."""
        envs = self.envs
        return list(envs.take_failures()) if hasattr(envs, "take_failures") else []

    def state_dict(self) -> dict[str, Any]:
        """Return the state to continue exactly: that of the collector, with the environments."""
        return {"incarnation": self.incarnation, "collector": self.collector.state_dict()}

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def _time_environments(self) -> None:
        envs: Any = self.envs
        step, clock = envs.step, time.perf_counter

        def timed(action: Any) -> Any:
            before = clock()
            found = step(action)
            self._env_seconds += clock() - before
            return found

        envs.step = timed


def purpose_of(incarnation: int) -> str:
    """Return the key of an incarnation's episode seeds, in addition to seed, environment and episode number."""
    return "reset" if not incarnation else f"reset, incarnation {incarnation}"


class Host:
    """The workers of one process. Exceptions are returned as a `Failure`."""

    def __init__(self, recipe: Recipe, assignments: Sequence[Assignment]) -> None:
        self._recipe, self._assignments = recipe, assignments
        self._workers: dict[int, Worker] = {}

    def ready(self) -> Any:
        """Make the workers and return process id and host name."""
        return self._reported(self._make)

    def collect(self, group: int, seq: int, version: int, weights: Any) -> Delivery | Failure:
        """Collect a fragment with the worker of a group."""
        return self._reported(lambda: self._workers[group].collect(seq, version, weights))

    def states(self) -> Any:
        """Return the state of each group's worker."""
        return self._reported(lambda: {group: worker.state_dict() for group, worker in self._workers.items()})

    def close(self) -> None:
        """Close the environments."""
        for worker in self._workers.values():
            worker.close()

    def _make(self) -> dict[str, Any]:
        self._workers = {one.group: Worker(self._recipe, one) for one in self._assignments}
        return {"pid": os.getpid(), "host": socket.gethostname()}

    def _reported(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except Exception as error:  # user environments and policies may raise anything
            failure = Failure.of(error)
            failure.failures = [one for worker in self._workers.values() for one in worker.take_failures()]
            return failure
