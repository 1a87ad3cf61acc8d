"""A pool of supervised workers: requests fragments, replaces workers that fail, accounts for every fragment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dynarl.config import RunFailed
from dynarl.distributed.fragment_validator import FragmentValidator
from dynarl.distributed.ledger import FragmentLedger
from dynarl.distributed.supervision import BACKOFF, READY, STARTING, Flight, Supervision, WorkerSlot
from dynarl.distributed.transport import Transport, WorkerLost
from dynarl.distributed.worker import Assignment, Delivery, Failure, Recipe
from dynarl.envs.guard import EnvironmentFailure

__all__ = ["PoolDegraded", "WorkerPool"]


class PoolDegraded(RunFailed):
    """Raised when workers fail faster than they can be replaced; the message has the last failure."""


class WorkerPool:
    """`num_workers` worker processes that collect fragments of `groups` groups of environments.

    `publish` sends weights, `request` asks for a fragment of a group, `poll` returns deliveries. A worker that dies,
    raises or exceeds its deadline is replaced, and its fragments are requested again from a new incarnation of its
    groups. The caller of `poll` reports with `trained` or `stale` what became of a delivery. The pool has no threads:
    supervision happens inside `poll`.
    """

    def __init__(
        self,
        recipe: Recipe,
        transport: Transport,
        *,
        groups: int,
        num_workers: int,
        supervision: Supervision | None = None,
        validator: FragmentValidator | None = None,
        report: Callable[[str], None] = lambda message: None,
    ) -> None:
        if not 1 <= num_workers <= groups:
            raise ValueError(f"WorkerPool: num_workers must lie between 1 and {groups} groups, got {num_workers}")
        self.recipe, self.transport = recipe, transport
        self.supervision = supervision or Supervision()
        self.ledger = FragmentLedger()
        self.last_failure = ""
        self.report = report
        self.on_failure: Callable[[EnvironmentFailure], None] = lambda failure: None
        """Called for every environment that failed and was replaced."""
        self._validator = validator
        self.slots = [WorkerSlot(index=i, groups=tuple(range(i, groups, num_workers))) for i in range(num_workers)]
        self._slot_of = {group: slot for slot in self.slots for group in slot.groups}
        self._incarnation = dict.fromkeys(range(groups), 0)
        self._seq = dict.fromkeys(range(groups), 0)
        self._states: dict[int, Any] = {}
        self._step = 0
        self._weights: tuple[int, Any] | None = None
        self._buffered: list[Delivery] = []
        self._started = self._ever_ready = False

    @property
    def alive(self) -> int:
        """How many workers are ready."""
        return sum(slot.state == READY for slot in self.slots)

    # -- requests -------------------------------------------------------------------------------------------------

    def start(self, step: int = 0, states: Mapping[int, Any] | None = None) -> None:
        """Start the workers at an environment step, each group from its entry in `states` if it has one."""
        self._step, self._states = step, dict(states or {})
        for group, state in self._states.items():
            self._incarnation[group] = int(state["incarnation"])
        for slot in self.slots:
            self._spawn(slot)
        self._started = True

    def publish(self, version: int, weights: Any) -> None:
        """Use these weights for the requests that follow. They are sent once, whatever the number of workers."""
        self._weights = (version, self.transport.put(weights))

    def request(self, group: int, *, newest: bool = False) -> None:
        """Request a fragment of a group, acted by the weights published last (with `newest`: last before it is sent).

        Requests are sent when the worker has started and has a free place. A lost fragment is requested again with the
        newest weights.
        """
        if self._weights is None:
            raise RuntimeError("WorkerPool: request() requires published weights, got none; call publish() first")
        self._slot_of[group].asked.append((group, None if newest else self._weights))

    def submit(self) -> None:
        """Send waiting requests to workers with a free place, without blocking; `poll` does so too."""
        if not self._started:
            self.start(self._step)
        for slot in self.slots:
            self._advance(slot)

    def at_step(self, step: int) -> None:
        """Set the environment step at which workers that are replaced from now on begin."""
        self._step = step

    def poll(self, timeout: float = float("inf")) -> list[Delivery]:
        """Wait at most `timeout` seconds for deliveries and return them in order of arrival.

        Returns an empty list if nothing is in flight. Raises PoolDegraded.
        """
        if not self._started:
            self.start(self._step)
        end = self.transport.now() + timeout
        while not self._buffered and any(slot.asked or slot.flights for slot in self.slots):
            if not self._turn(end) and self.transport.now() >= end:
                break
        delivered, self._buffered = self._buffered, []
        return delivered

    def trained(self, count: int = 1) -> None:
        """Account for deliveries that were learned from."""
        self.ledger.buffered -= count
        self.ledger.trained += count
        self.ledger.check()

    def stale(self, count: int = 1) -> None:
        """Account for deliveries that were too old to learn from."""
        self.ledger.buffered -= count
        self.ledger.stale += count
        self.ledger.check()

    def states(self) -> dict[int, Any]:
        """Return the state of every group's worker after all its requests. Replaces workers that fail."""
        if not self._started:
            return dict(self._states)
        found: dict[int, Any] = {}
        for slot in self.slots:
            while not set(slot.groups) <= set(found):
                while slot.state != READY:
                    self._turn(float("inf"))
                found |= self._ask_states(slot)
        return found

    def close(self) -> None:
        """Stop all workers. The pool can be started again."""
        for slot in self.slots:
            self._lose_flights(slot, again=False)
            slot.asked.clear()
            slot.state, slot.handle = BACKOFF, None
        self.ledger.check()
        self._started = False
        self.transport.close()

    # -- supervision ----------------------------------------------------------------------------------------------

    def _turn(self, end: float) -> bool:
        """Advance all slots, wait for one event or until `end`; return whether an event came."""
        for slot in self.slots:
            self._advance(slot)
        slots = {slot.awaited(): slot for slot in self.slots if slot.awaited() is not None}
        deadlines = [deadline for slot in self.slots if (deadline := slot.deadline(self.supervision)) is not None]
        wait = max(0.0, min([end, *deadlines]) - self.transport.now())
        ready = self.transport.wait(list(slots), wait)
        for ref in ready:
            self._receive(slots[ref], ref)
        return bool(ready)

    def _advance(self, slot: WorkerSlot) -> None:
        """Start a slot whose pause is over, fail one that is past its deadline, send waiting requests."""
        now, deadline = self.transport.now(), slot.deadline(self.supervision)
        if deadline is not None and now >= deadline:
            if slot.state == BACKOFF:
                self._spawn(slot)
            elif not self.transport.wait([slot.awaited()], 0.0):
                waited = now - (slot.head_since if slot.state == READY else slot.until - self._allowed_to_start)
                if slot.state == READY:
                    self._fail(slot, f"it did not deliver a fragment within {waited:.1f} s")
                else:
                    self._fail(
                        slot, f"it did not start within {waited:.1f} s{self.transport.resources()}", hopeless=True
                    )
        while slot.state == READY and slot.asked and len(slot.flights) < self.supervision.calls_ahead:
            self._ask(slot, *slot.asked.popleft())

    @property
    def _allowed_to_start(self) -> float:
        return self.supervision.start_deadline

    def _spawn(self, slot: WorkerSlot) -> None:
        assignments = [
            Assignment(group=g, incarnation=self._incarnation[g], step=self._step, state=self._state_of(g))
            for g in slot.groups
        ]
        slot.handle = self.transport.spawn(slot.index, self.recipe, assignments)
        slot.start_ref = self.transport.submit(slot.handle, "ready")
        slot.state, slot.usual = STARTING, None
        slot.until = self.transport.now() + self._allowed_to_start

    def _state_of(self, group: int) -> Any:
        state = self._states.pop(group, None)
        return None if state is None else state["collector"]

    def _ask(self, slot: WorkerSlot, group: int, published: tuple[int, Any] | None) -> None:
        assert self._weights is not None
        version, weights = published or self._weights
        seq = self._seq[group]
        self._seq[group] += 1
        ref = self.transport.submit(slot.handle, "collect", group, seq, version, weights)
        if not slot.flights:
            slot.head_since = self.transport.now()
        slot.flights.append(Flight(ref, group, seq, version))
        self.ledger.requested += 1
        self.ledger.in_flight += 1

    def _receive(self, slot: WorkerSlot, ref: Any) -> None:
        """Handle the result of a slot's oldest call."""
        try:
            found = self.transport.get(ref)
        except WorkerLost as error:
            self._fail(slot, str(error))
            return
        if isinstance(found, Failure | Delivery):
            for failure in found.failures:
                self.on_failure(failure)
        if isinstance(found, Failure):
            self._fail(slot, f"{found.message}\n{found.traceback}")
        elif slot.state == STARTING:
            slot.state, slot.where, self._ever_ready = READY, found, True
        else:
            self._deliver(slot, found)
        self.ledger.check()

    def _deliver(self, slot: WorkerSlot, delivery: Delivery) -> None:
        flight, now = slot.flights.popleft(), self.transport.now()
        slot.took(now - slot.head_since)
        slot.head_since = now
        self.ledger.in_flight -= 1
        self.ledger.delivered += 1
        wrong = self._mismatch(flight, delivery)
        if wrong is not None:
            self.ledger.invalid += 1
            slot.asked.appendleft((flight.group, None))
            self._fail(slot, wrong)
            return
        slot.failures = 0
        self.ledger.buffered += 1
        self._buffered.append(delivery)

    def _mismatch(self, flight: Flight, delivery: Delivery) -> str | None:
        """Return the error of a delivery, None if it is valid."""
        asked = (flight.group, self._incarnation[flight.group], flight.seq, flight.version)
        got = (delivery.group, delivery.incarnation, delivery.seq, delivery.version)
        if asked != got:
            return f"it delivered (group, incarnation, fragment, version) {got}, requested was {asked}"
        return None if self._validator is None else self._validator(delivery)

    def _fail(self, slot: WorkerSlot, why: str, *, hopeless: bool = False) -> None:
        """Replace a worker. Raises PoolDegraded after too many failures in a row.

        With `hopeless` one failure is enough, unless a worker of the pool ever started.
        """
        self.transport.kill(slot.handle)
        slot.handle, slot.start_ref = None, None
        self._lose_flights(slot, again=True)
        slot.failures += 1
        self.ledger.restarts += 1
        self.ledger.check()
        place = f" (process {slot.where['pid']} on {slot.where['host']})" if slot.where else ""
        groups = ", ".join(map(str, slot.groups))
        self.last_failure = f"worker {slot.index}{place} with group {groups} was replaced: {why}"
        slot.where = {}
        for group in slot.groups:
            self._incarnation[group] += 1
            self._seq[group] = 0
        pause = self.supervision.backoff * 2 ** min(slot.failures - 2, 30) if slot.failures > 1 else 0.0
        slot.state, slot.until = BACKOFF, self.transport.now() + min(pause, self.supervision.backoff_limit)
        if slot.failures >= self.supervision.max_failures or (hopeless and not self._ever_ready):
            raise PoolDegraded(
                f"worker {slot.index} with group {groups} failed {slot.failures} "
                f"time{'s' * (slot.failures > 1)} in a row without delivering a fragment; the last time: {why}"
            )
        self.report(self.last_failure)

    def _lose_flights(self, slot: WorkerSlot, *, again: bool) -> None:
        """Count fragments in flight as lost; with `again` put them back into the queue of requests."""
        if again:
            slot.asked.extendleft((flight.group, None) for flight in reversed(slot.flights))
        self.ledger.lost += len(slot.flights)
        self.ledger.in_flight -= len(slot.flights)
        slot.flights.clear()

    def _ask_states(self, slot: WorkerSlot) -> dict[int, Any]:
        ref = self.transport.submit(slot.handle, "states")
        end = self.transport.now() + self.supervision.start_deadline
        try:
            if not self.transport.wait([ref], end - self.transport.now()):
                raise WorkerLost(f"it did not return its state within {self.supervision.start_deadline:.1f} s")
            found = self.transport.get(ref)
        except WorkerLost as error:
            self._fail(slot, str(error))
            return {}
        if isinstance(found, Failure):
            self._fail(slot, f"{found.message}\n{found.traceback}")
            return {}
        return dict(found)
