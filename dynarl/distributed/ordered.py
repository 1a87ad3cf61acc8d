"""Fragments in the order in which they were asked for, however they arrive."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from typing import Any

from dynarl.distributed.pool import WorkerPool
from dynarl.distributed.worker import Delivery
from dynarl.rollout.fragment import Fragment

__all__ = ["OrderedFragments", "kept"]


class OrderedFragments:
    """Asks the groups for fragments in turn and gives them out in that order: arrival decides nothing.

    What arrives early waits here; there is never more than was asked for, so `ask` bounds the queue.
    """

    def __init__(self, pool: WorkerPool, groups: int) -> None:
        self.pool, self.groups = pool, groups
        self.asked = self.taken = 0
        self._waiting: dict[int, deque[Delivery]] = {group: deque() for group in range(groups)}

    @property
    def outstanding(self) -> int:
        """How many fragments were asked for and not taken yet."""
        return self.asked - self.taken

    def ask(self, count: int = 1) -> None:
        """Ask the next `count` groups for a fragment each, with the weights published last."""
        for _ in range(count):
            self.pool.request(self.asked % self.groups)
            self.asked += 1
        self.pool.submit()

    def take(self) -> Delivery:
        """Wait for the next fragment and return it; it is valid until the next call of any method."""
        if not self.outstanding:
            raise RuntimeError("Stream: ask() for a fragment before taking one")
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
        """Wait until all that was asked for is here."""
        while sum(map(len, self._waiting.values())) < self.outstanding:
            for delivery in self.pool.poll():
                self._waiting[delivery.group].append(kept(delivery))

    def state_dict(self) -> dict[str, Any]:
        """The place in the order, and what waits; call `drain` before."""
        return {
            "asked": self.asked,
            "taken": self.taken,
            "waiting": [_plain(delivery) for queue in self._waiting.values() for delivery in queue],
        }

    def load_state_dict(self, state: Mapping[str, Any], *, like: Any = None) -> None:
        """Continue from `state_dict`; `like` has the structure of the policy's states, where it has one."""
        from dynarl.batching.decisions import Paths

        self.asked, self.taken = int(state["asked"]), int(state["taken"])
        self._waiting = {group: deque() for group in range(self.groups)}
        for found in state["waiting"]:
            fragment = Fragment.from_state(found["fragment"], like=like, paths=Paths)
            delivery = Delivery(**{**found, "fragment": fragment}, seq=-1, seconds={"collect": 0.0, "env": 0.0})
            self._waiting[delivery.group].append(delivery)

    def resume(self, state: Mapping[str, Any], *, like: Any = None) -> None:
        """Continue from a collector's state that has this stream's; fragments that waited for other groups are lost."""
        accounts = self.pool.accounts
        if "stream" in state and len(state["groups"]) == self.groups:
            self.load_state_dict(state["stream"], like=like)
        elif accounts.buffered:
            accounts.delivered -= accounts.buffered
            accounts.lost += accounts.buffered
            accounts.buffered = 0
            accounts.check()


def kept(delivery: Delivery) -> Delivery:
    """Return a delivery that stays valid: the memory of one made in this process is used again."""
    writeable = delivery.fragment["valid"].flags.writeable
    return dataclasses.replace(delivery, fragment=delivery.fragment.copy()) if writeable else delivery


def _plain(delivery: Delivery) -> dict[str, Any]:
    named = {name: getattr(delivery, name) for name in ("group", "incarnation", "version")}
    return {**named, "fragment": delivery.fragment.state_dict()}
