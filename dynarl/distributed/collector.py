"""The collector of an agent whose environments run in workers: the interface of `dynarl.rollout.Collector`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynarl.distributed.assemble import FragmentAssembler
from dynarl.distributed.pool import WorkerPool
from dynarl.distributed.weights import FlatLayout
from dynarl.distributed.worker import Delivery
from dynarl.envs.guard import EnvironmentFailure
from dynarl.rollout.fragment import Fragment

__all__ = ["PooledCollector", "WeightSource"]


class WeightSource(Protocol):
    """The learner's Actor, as collectors see it."""

    def acting_state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that acting depends on and learning changes, by name."""
        ...

    def initial_state(self) -> Any:
        """Return the state of a policy before its first step, None for policies without a state."""
        ...


class PooledCollector:
    """Synchronous collection: one fragment of every group, all acted by the same weights, joined.

    The result depends on the split of the environments into groups alone: not on the number of workers, nor on the
    order in which they deliver.
    """

    def __init__(
        self,
        actor: WeightSource,
        pool: WorkerPool,
        *,
        groups: int,
        num_steps: int,
        on_failure: Callable[[EnvironmentFailure], None] = lambda failure: None,
    ) -> None:
        """`on_failure` is called for every environment that failed and was replaced."""
        self.actor, self.pool, self.groups, self._on_failure = actor, pool, groups, on_failure
        self.num_steps = num_steps
        self.step = 0
        self._layout = FlatLayout(actor.acting_state())
        self._assembler = FragmentAssembler(groups, pool.recipe.envs_per_group)
        self._seconds: dict[str, float] = {}
        self._metrics: list[Mapping[str, Any]] = []
        self.failures = 0
        pool.on_failure = self._failed

    def collect(self, policy_version: int = 0) -> Fragment:
        """Collect a fragment of every group and return them joined; the next call reuses the memory."""
        started = time.perf_counter()
        self.pool.at_step(self.step)
        self.pool.publish(policy_version, self._layout.pack(self.actor.acting_state()))
        for group in range(self.groups):
            self.pool.request(group)
        waited = time.perf_counter()
        slowest, missing = 0.0, self.groups
        while missing:
            for delivery in self.pool.poll():
                self._take(delivery)
                slowest = max(slowest, delivery.seconds["collect"])
                missing -= 1
        self.pool.trained(self.groups)
        fragment = self._assembler.finish(self.step, policy_version)
        self.step += self.num_steps
        now = time.perf_counter()
        self._add("wait", now - waited)
        self._add("transfer", max(0.0, now - started - slowest))
        return fragment

    def metrics(self) -> dict[str, Any]:
        """Return the actors' metrics over all groups, and the age of their weights in updates: 0."""
        found: dict[str, Any] = {"lag/mean": 0.0, "lag/max": 0.0}
        for name in dict.fromkeys(key for one in self._metrics for key in one):
            values = [one[name] for one in self._metrics if name in one]
            joined = np.concatenate(values) if isinstance(values[0], np.ndarray) else float(np.mean(values))
            found[name] = joined
        self._metrics = []
        return found

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each phase: env and act as means over the workers, transfer as the overhead."""
        each = len(self.pool.slots)
        return {name: value / each if name in ("env", "act") else value for name, value in self._seconds.items()}

    def note(self) -> str:
        """Return the number of workers alive, for the progress line."""
        restarts = self.pool.ledger.restarts
        return f"  {self.pool.alive}/{len(self.pool.slots)} workers" + (f", {restarts} replaced" if restarts else "")

    def counters(self) -> dict[str, float]:
        """Return the ledger, and counts of workers and environment failures."""
        workers = {"workers/alive": float(self.pool.alive), "workers/environment_failures": float(self.failures)}
        return self.pool.ledger.metrics() | workers

    def state_dict(self) -> dict[str, Any]:
        """Return the step, and the state of every group."""
        states = {str(group): state for group, state in self.pool.states().items()}
        counts = {"accounts": self.pool.ledger.state_dict(), "failures": self.failures}
        return {"step": self.step, "groups": states, **counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`: exactly with the same groups of environments, else with new episodes."""
        self.step = int(state["step"])
        states = {int(group): one for group, one in state.get("groups", {}).items()}
        if "groups" not in state and self.groups == 1 and state.get("started"):
            states = {0: {"incarnation": 0, "collector": dict(state)}}
        if len(states) != self.groups:
            self.pool.report(
                f"the checkpoint has {len(states)} groups of environments, this run {self.groups}: "
                "all environments start a new episode"
            )
            states = {}
        if "accounts" in state:
            self.pool.ledger.load_state_dict(state["accounts"])
            self.failures = int(state["failures"])
        self.pool.close()
        self.pool.start(self.step, states)

    def _take(self, delivery: Delivery, place: int | None = None) -> None:
        self._assembler.place(delivery.group if place is None else place, delivery.fragment)
        self._account(delivery)

    def _account(self, delivery: Delivery) -> None:
        self._add("env", delivery.seconds["env"])
        self._add("act", delivery.seconds["collect"] - delivery.seconds["env"])
        if delivery.metrics:
            self._metrics.append(delivery.metrics)

    def _failed(self, failure: EnvironmentFailure) -> None:
        self.failures += 1
        self._on_failure(failure)

    def _add(self, phase: str, seconds: float) -> None:
        self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds
