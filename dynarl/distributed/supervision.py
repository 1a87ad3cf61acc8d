"""The pool's view of one worker process: its state, its requests, and its deadlines."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["BACKOFF", "READY", "STARTING", "Flight", "Supervision", "WorkerSlot"]

STARTING, READY, BACKOFF = "starting", "ready", "waiting before a restart"


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """Deadlines of workers in seconds, and the number of failures they may have."""

    start_deadline: float = 120.0
    """Time for a worker to start and make its environments."""
    fragment_deadline: float = 60.0
    """Time for a fragment; `slowness` times the worker's usual time for a fragment if that is longer."""
    slowness: float = 5.0
    max_failures: int = 5
    """Failures in a row, without a fragment in between, after which the run is stopped."""
    backoff: float = 0.5
    """Pause before the second attempt to replace a worker (the first is immediate); doubles up to `backoff_limit`."""
    backoff_limit: float = 60.0
    calls_ahead: int = 2
    """Calls sent to a worker at a time: it works on the next while the result of the last is transferred."""


class Flight(NamedTuple):
    """A fragment that was requested from a worker."""

    ref: Any
    group: int
    seq: int
    version: int


@dataclass(kw_only=True)
class WorkerSlot:
    """A place for a worker process: its current handle, and its requests."""

    index: int
    groups: tuple[int, ...]
    state: str = BACKOFF
    handle: Any = None
    where: dict[str, Any] = field(default_factory=dict)
    """Process id and host of the worker."""
    failures: int = 0
    until: float = 0.0
    """When a pause ends (BACKOFF), or the deadline to start (STARTING)."""
    asked: deque[tuple[int, tuple[int, Any] | None]] = field(default_factory=deque)
    """Requests not yet sent: group, and version with weights (None: the newest at sending)."""
    start_ref: Any = None
    flights: deque[Flight] = field(default_factory=deque)
    head_since: float = 0.0
    """When the worker began with its oldest flight."""
    usual: float | None = None
    """Moving average of the seconds between fragments."""

    def awaited(self) -> Any:
        """Return the reference whose result comes next, None if there is none."""
        if self.state == STARTING:
            return self.start_ref
        return self.flights[0].ref if self.state == READY and self.flights else None

    def took(self, seconds: float) -> None:
        """Add the time of a fragment to the moving average."""
        self.usual = seconds if self.usual is None else 0.8 * self.usual + 0.2 * seconds

    def deadline(self, supervision: Supervision) -> float | None:
        """Return the time at which the pool must check this slot even if nothing arrives, None for never."""
        if self.state != READY:
            return self.until
        if not self.flights:
            return None
        allowed = supervision.fragment_deadline
        if self.usual is None:  # the first fragment includes resets, loading and compiling
            return self.head_since + max(allowed, supervision.start_deadline)
        return self.head_since + max(allowed, supervision.slowness * self.usual)
