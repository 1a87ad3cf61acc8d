"""Collecting while learning, one update behind."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from dynarl.distributed.collector import PooledCollector, WeightSource
from dynarl.distributed.ordered import OrderedFragments
from dynarl.distributed.pool import WorkerPool
from dynarl.rollout.fragment import Fragment

__all__ = ["PipelinedCollector"]


class PipelinedCollector(PooledCollector):
    """Workers collect batch k + 1 with the weights of version k while the learner learns from batch k.

    Every batch but the first was acted by weights exactly one update old, which the ratio to the policy that acted
    accounts for in PPO. As with a barrier, only the split into groups decides the result.
    """

    def __init__(self, actor: WeightSource, pool: WorkerPool, *, groups: int, **keywords: Any) -> None:
        super().__init__(actor, pool, groups=groups, **keywords)
        self._stream = OrderedFragments(pool, groups)
        self._lag = 0

    def collect(self, policy_version: int = 0) -> Fragment:
        """Return the batch that was under way and let the workers begin with the next."""
        started = time.perf_counter()
        if not self._stream.outstanding:
            self._ask(policy_version)
        version = policy_version
        for _ in range(self.groups):
            delivery = self._stream.take()
            version = delivery.version
            self._take(delivery)
        self._lag = policy_version - version
        fragment = self._merger.finish(self.step, version)
        self.step += self.num_steps
        self._add("wait", time.perf_counter() - started)
        self._ask(policy_version)
        return fragment

    def metrics(self) -> dict[str, Any]:
        """Return what acting itself reports, and how many updates old the weights were that acted."""
        return {**super().metrics(), "lag/mean": float(self._lag), "lag/max": float(self._lag)}

    def state_dict(self) -> dict[str, Any]:
        """Return the step, the state of every group, and the batch that was under way."""
        self._stream.drain()
        state = super().state_dict()
        accounts = dataclasses.asdict(self.pool.accounts)
        return {**state, "accounts": accounts, "stream": self._stream.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`: exactly with the same groups of environments, else with new episodes."""
        super().load_state_dict(state)
        self._stream.resume(state, like=self.actor.initial_state())

    def _ask(self, version: int) -> None:
        self.pool.at_step(self.step)
        self.pool.publish(version, self._layout.pack(self.actor.acting_state()))
        self._stream.ask(self.groups)
