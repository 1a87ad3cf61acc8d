"""Collection for a replay: fragments of one group after the other, while the learner learns."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynarl.distributed.collector import PooledCollector, WeightSource
from dynarl.distributed.ordered import OrderedFragments
from dynarl.distributed.pool import WorkerPool
from dynarl.rollout.fragment import Fragment

__all__ = ["RoundRobinCollector"]


class StepCounter(Protocol):
    """The learner, as the collector sees it."""

    @property
    def grad_steps(self) -> int:
        """Gradient steps so far."""
        ...


class RoundRobinCollector(PooledCollector):
    """Returns the fragments of groups 0, 1, ..., 0, 1, ... in this order; `ahead` of each are requested at a time.

    That bounds the queues: a worker that is ahead waits. Weights are published once per round, at fixed places in the
    order, so the result depends on the split into groups alone, not on the order of arrival.
    """

    def __init__(
        self,
        actor: WeightSource,
        pool: WorkerPool,
        learner: StepCounter,
        *,
        groups: int,
        ahead: int = 2,
        **keywords: Any,
    ) -> None:
        super().__init__(actor, pool, groups=groups, **keywords)
        self._learner = learner
        self._ordered, self._ahead = OrderedFragments(pool, groups), ahead
        self._sent: dict[int, int] = {}  # version -> gradient steps its weights had seen
        self._weights: tuple[int, NDArray[np.uint8]] | None = None
        self._lag = 0

    def collect(self, policy_version: int = 0) -> Fragment:
        """Return the next fragment, of one group, and request another of it; it is valid until the next call."""
        started, stream = time.perf_counter(), self._ordered
        if stream.taken % self.groups == 0 or not self._sent:
            self._publish(policy_version)
        if not stream.outstanding:
            stream.ask(self._ahead * self.groups)
        delivery = stream.take()
        self._account(delivery)
        self._lag = self._learner.grad_steps - self._sent.get(delivery.version, self._learner.grad_steps)
        self.step = stream.taken // self.groups * self.num_steps
        self.pool.at_step(self.step)
        stream.ask()
        self._add("wait", time.perf_counter() - started)
        return delivery.fragment

    def metrics(self) -> dict[str, Any]:
        """Return the actors' metrics and the gradient steps since the acting weights were published."""
        return {**super().metrics(), "lag/grad_steps": float(self._lag)}

    def state_dict(self) -> dict[str, Any]:
        """Return the step, the state of every group, and the waiting fragments."""
        self._ordered.drain()
        state = super().state_dict()
        sent = [[version, steps] for version, steps in self._sent.items()]
        ledger = dataclasses.asdict(self.pool.ledger)
        weights = {} if self._weights is None else {"version": self._weights[0], "buffer": self._weights[1]}
        return {**state, "accounts": ledger, "stream": self._ordered.state_dict(), "sent": sent, "weights": weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`: exactly with the same groups of environments, else with new episodes."""
        super().load_state_dict(state)
        self._ordered.resume(state, like=self.actor.initial_state())
        self._sent = {}
        if self._ordered.outstanding and state["weights"]:  # the round continues with the weights it began with
            self._sent = {version: steps for version, steps in state["sent"]}
            self._weights = int(state["weights"]["version"]), np.array(state["weights"]["buffer"])
            self.pool.publish(*self._weights)

    def _publish(self, version: int) -> None:
        self._weights = version, self._layout.pack(self.actor.acting_state())
        self.pool.publish(*self._weights)
        kept = list(self._sent.items())[-2 * self._ahead :]
        self._sent = dict(kept) | {version: self._learner.grad_steps}
