"""Asynchronous collection: learn from the first fragments that arrive, without a barrier."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from dynarl.distributed.collector import PooledCollector, WeightSource
from dynarl.distributed.ordered import kept
from dynarl.distributed.pool import WorkerPool
from dynarl.distributed.worker import Delivery
from dynarl.rollout.fragment import Fragment

__all__ = ["AsyncCollector"]


class AsyncCollector(PooledCollector):
    """Requests `ahead` fragments of every group at a time; a batch is the first `groups` fragments that arrive.

    The fragments of a batch were acted by weights of different versions: `Fragment.lag` is their age in updates, for
    V-trace. Fragments older than `max_lag` updates are dropped and counted as stale. A fast group can be in a batch
    twice and a slow one not at all, so results depend on the speed of the machines, unlike those of
    `PipelinedCollector`.
    """

    def __init__(
        self, actor: WeightSource, pool: WorkerPool, *, groups: int, max_lag: int, ahead: int = 2, **keywords: Any
    ) -> None:
        if max_lag < 1:
            raise ValueError(f"AsyncCollector: max_lag must be at least 1, got {max_lag}")
        super().__init__(actor, pool, groups=groups, **keywords)
        self.max_lag, self.ahead = max_lag, ahead
        self._arrived: deque[Delivery] = deque()
        self._begun = False
        self._lag = np.zeros(groups, np.int64)

    def collect(self, policy_version: int = 0) -> Fragment:
        """Return the next fragments to arrive, joined; the next call reuses their memory."""
        started = time.perf_counter()
        self.pool.at_step(self.step)
        self.pool.publish(policy_version, self._layout.pack(self.actor.acting_state()))
        if not self._begun:
            self._begun = True
            for group in [*range(self.groups)] * self.ahead:
                self.pool.request(group, newest=True)
        placed: list[Fragment] = []
        stale = 0
        while len(placed) < self.groups:
            delivery = self._next()
            lag = policy_version - delivery.version
            if lag > self.max_lag:
                self.pool.stale()
                stale += delivery.fragment.num_valid
            else:
                self._lag[len(placed)] = lag
                placed.append(delivery.fragment)
                self._take(delivery, len(placed) - 1)
            self.pool.request(delivery.group, newest=True)
        self.pool.submit()
        self.pool.trained(self.groups)
        fragment = self._assembler.finish(self.step, policy_version)
        fragment.env_ids = np.concatenate([part.env_ids for part in placed])
        fragment.first_step = np.repeat([part.first_step for part in placed], [part.num_envs for part in placed])
        fragment.lag = np.repeat(self._lag, [part.num_envs for part in placed])
        fragment.stale_steps = stale
        self.step += self.num_steps
        self._add("wait", time.perf_counter() - started)
        return fragment

    def metrics(self) -> dict[str, Any]:
        """Return the actors' metrics and the age of the acting weights, in updates."""
        lag = self._lag.astype(float)
        return {**super().metrics(), "lag/mean": lag.mean(), "lag/max": lag.max(), "lag/updates": lag}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`. Fragments that were in flight are lost."""
        super().load_state_dict(state)
        self._arrived.clear()
        self._begun = False

    def _next(self) -> Delivery:
        if not self._arrived:
            self._arrived.extend(map(kept, self.pool.poll()))
        return self._arrived.popleft()
