"""Counts what became of every fragment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FragmentLedger"]


@dataclass(kw_only=True)
class FragmentLedger:
    """Counts of fragments, which balance at all times:

    ``requested = delivered + lost + in_flight`` and ``delivered = trained + stale + invalid + buffered``.
    `lost`: the worker died, hung or raised. `invalid`: the fragment did not match the request. `stale`: too old to
    learn from. `buffered`: waiting for the learner. `restarts` counts replaced workers.
    """

    requested: int = 0
    delivered: int = 0
    lost: int = 0
    in_flight: int = 0
    trained: int = 0
    stale: int = 0
    invalid: int = 0
    buffered: int = 0
    restarts: int = 0

    def check(self) -> None:
        """Raise AssertionError if the counts do not balance."""
        if self.requested != self.delivered + self.lost + self.in_flight or min(vars(self).values()) < 0:
            raise AssertionError(f"ledger: requested must be delivered + lost + in_flight, got {self}")
        if self.delivered != self.trained + self.stale + self.invalid + self.buffered:
            raise AssertionError(f"ledger: delivered must be trained + stale + invalid + buffered, got {self}")

    def metrics(self) -> dict[str, float]:
        """Return the counts as metrics."""
        return {f"ledger/{name}": float(value) for name, value in dataclasses.asdict(self).items()}

    def state_dict(self) -> dict[str, int]:
        """Return the counts. Fragments in flight or buffered are lost to a run that resumes, and counted so."""
        kept = dataclasses.asdict(self)
        return {**kept, "in_flight": 0, "buffered": 0, "lost": self.lost + self.in_flight + self.buffered} | {
            "delivered": self.delivered - self.buffered
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        for name in dataclasses.asdict(self):
            setattr(self, name, int(state[name]))
        self.check()
