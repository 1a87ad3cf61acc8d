"""Restores the order of requests: fragments are returned in the order in which they were requested."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from typing import Any

from dynarl.batching.decisions import Paths
from dynarl.distributed.pool import WorkerPool
from dynarl.distributed.worker import Delivery
from dynarl.rollout.fragment import Fragment

__all__ = ["OrderedFragments", "kept"]


class OrderedFragments:
    """Requests fragments of the groups in turn and returns them in that order, whatever the order of arrival.

    Early arrivals wait in a queue per group. No more is held than was requested, so `ask` bounds the queues.
    """

    def __init__(self, pool: WorkerPool, groups: int) -> None:
        self.pool, self.groups = pool, groups
        self.asked = self.taken = 0
        self._waiting: dict[int, deque[Delivery]] = {group: deque() for group in range(groups)}

    @property
    def outstanding(self) -> int:
        """How many fragments were requested and not yet taken."""
        return self.asked - self.taken

    def ask(self, count: int = 1) -> None:
        """Request one fragment from each of the next `count` groups, with the weights published last."""
        for _ in range(count):
            self.pool.request(self.asked % self.groups)
            self.asked += 1
        self.pool.submit()

    def take(self) -> Delivery:
        """Wait for the next fragment in order and return it; it is valid until the next call of any method."""
        if not self.outstanding:
            raise RuntimeError("OrderedFragments: take() requires an outstanding ask(), got none; call ask() first")
        group = self.taken % self.groups
        found = self._waiting[group].popleft() if self._waiting[group] else None
        while found is None:
            for delivery in self.pool.poll():
                if found is None and delivery.group == group:
                    found = delivery
                else:
                    self._waiting[delivery.group].append(kept(delivery))
        self.taken += 1
        self.pool.trained()
        return found

    def drain(self) -> None:
        """Wait until all requested fragments have arrived."""
        while sum(map(len, self._waiting.values())) < self.outstanding:
            for delivery in self.pool.poll():
                self._waiting[delivery.group].append(kept(delivery))

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the order and the waiting fragments; call `drain` before."""
        return {
            "asked": self.asked,
            "taken": self.taken,
            "waiting": [_plain(delivery) for queue in self._waiting.values() for delivery in queue],
        }

    def load_state_dict(self, state: Mapping[str, Any], *, like: Any = None) -> None:
        """Continue from `state_dict`; `like` is an example of the policy's state, for policies that have one."""
        self.asked, self.taken = int(state["asked"]), int(state["taken"])
        self._waiting = {group: deque() for group in range(self.groups)}
        for found in state["waiting"]:
            fragment = Fragment.from_state(found["fragment"], like=like, paths=Paths)
            delivery = Delivery(**{**found, "fragment": fragment}, seq=-1, seconds={"collect": 0.0, "env": 0.0})
            self._waiting[delivery.group].append(delivery)

    def resume(self, state: Mapping[str, Any], *, like: Any = None) -> None:
        """Continue from a collector's state that has this stream's; fragments that waited for other groups are lost."""
        ledger = self.pool.ledger
        if "stream" in state and len(state["groups"]) == self.groups:
            self.load_state_dict(state["stream"], like=like)
        elif ledger.buffered:
            ledger.delivered -= ledger.buffered
            ledger.lost += ledger.buffered
            ledger.buffered = 0
            ledger.check()


def kept(delivery: Delivery) -> Delivery:
    """Return a delivery that stays valid. A worker in this process reuses its memory, so that delivery is copied."""
    writeable = delivery.fragment["valid"].flags.writeable
    return dataclasses.replace(delivery, fragment=delivery.fragment.copy()) if writeable else delivery


def _plain(delivery: Delivery) -> dict[str, Any]:
    named = {name: getattr(delivery, name) for name in ("group", "incarnation", "version")}
    return {**named, "fragment": delivery.fragment.state_dict()}
