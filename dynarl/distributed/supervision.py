"""One worker process as the pool sees it: its state, what was asked of it, and how long it may take."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["BACKOFF", "READY", "STARTING", "Flight", "Supervision", "WorkerSlot"]

STARTING, READY, BACKOFF = "starting", "ready", "waiting to be started again"


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """How long workers may take and how often they may fail. Seconds."""

    start_deadline: float = 120.0
    """For a worker to start and make its environments."""
    fragment_deadline: float = 60.0
    """For a fragment, or `slowness` times what the worker's fragments usually take if that is longer."""
    slowness: float = 5.0
    max_failures: int = 5
    """Failures in a row, without a fragment in between, after which a worker is given up, and the run with it."""
    backoff: float = 0.5
    """Before the second attempt to replace a worker (the first is made at once); doubles up to `backoff_limit`."""
    backoff_limit: float = 60.0
    calls_ahead: int = 2
    """Calls that a worker has at a time: while one's result travels, it works on the next."""


class Flight(NamedTuple):
    """A fragment that was asked for."""

    ref: Any
    group: int
    seq: int
    version: int


@dataclass(kw_only=True)
class WorkerSlot:
    """A place for a worker process: which one is there now, and what it is to do."""

    index: int
    groups: tuple[int, ...]
    state: str = BACKOFF
    handle: Any = None
    where: dict[str, Any] = field(default_factory=dict)
    """Process id and host of the worker."""
    failures: int = 0
    until: float = 0.0
    """When it is started (waiting), or must have started or delivered."""
    asked: deque[tuple[int, tuple[int, Any] | None]] = field(default_factory=deque)
    """Groups of which a fragment is wanted that was not asked for yet, with version and weights (None: the last)."""
    start_ref: Any = None
    flights: deque[Flight] = field(default_factory=deque)
    head_since: float = 0.0
    """When the worker began with its oldest flight."""
    usual: float | None = None
    """Moving average of the seconds between fragments."""

    def awaited(self) -> Any:
        """Return the reference whose result comes next, None for nothing."""
        if self.state == STARTING:
            return self.start_ref
        return self.flights[0].ref if self.state == READY and self.flights else None

    def took(self, seconds: float) -> None:
        """Count how long a fragment took."""
        self.usual = seconds if self.usual is None else 0.8 * self.usual + 0.2 * seconds

    def deadline(self, supervision: Supervision) -> float | None:
        """Return the time at which the pool has to look at this slot whatever arrives, None for never."""
        if self.state != READY:
            return self.until
        if not self.flights:
            return None
        allowed = supervision.fragment_deadline
        if self.usual is None:  # the first fragment resets environments, compiles, loads
            return self.head_since + max(allowed, supervision.start_deadline)
        return self.head_since + max(allowed, supervision.slowness * self.usual)
