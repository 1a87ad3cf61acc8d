"""Limits the ratio of samples to insertions in a replay, independent of the speed of machines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

__all__ = ["SampleLimiter"]


class SampleLimiter:
    """Keeps samples near ``samples_per_insert * (inserts - min_size)``, as Reverb's rate limiter (arXiv:2102.04736).

    No sample is allowed before `min_size` insertions. From then on samples may lead that line by at most `ahead`, and
    lag it by at most `behind` before insertions must wait. Both sides ask before they act, so the faster one waits, and
    how often an item is sampled depends on these numbers alone. The ratio is kept as a fraction: ``Fraction(1, 3)``
    does not drift.
    """

    def __init__(
        self,
        samples_per_insert: Fraction | float,
        *,
        min_size: int = 0,
        ahead: float = 0.0,
        behind: float = math.inf,
    ) -> None:
        if not 0 < samples_per_insert < math.inf:
            raise ValueError(f"SampleLimiter: samples_per_insert must be positive, got {samples_per_insert}")
        if min_size < 0 or ahead < 0:
            raise ValueError(f"SampleLimiter: min_size and ahead must be at least 0, got {min_size} and {ahead}")
        if not ahead + behind >= 1 + samples_per_insert:
            raise ValueError(
                f"SampleLimiter: ahead + behind must be at least 1 + samples_per_insert, {1 + samples_per_insert}, "
                f"or insertion and sampling could wait for each other; got {ahead} + {behind}"
            )
        self.ratio = Fraction(samples_per_insert)
        self.min_size, self.ahead, self.behind = min_size, ahead, behind
        self.inserts = self.samples = 0

    @property
    def lead(self) -> Fraction:
        """Samples drawn beyond ``samples_per_insert * (inserts - min_size)``; negative if there are fewer."""
        return self.samples - self.ratio * (self.inserts - self.min_size)

    def can_sample(self) -> bool:
        """Return whether one more sample may be drawn now."""
        return self.inserts >= self.min_size and self.lead + 1 <= self.ahead

    def can_insert(self) -> bool:
        """Return whether one more item may be inserted now."""
        return self.inserts < self.min_size or self.ratio - self.lead <= self.behind

    def allowed(self) -> int:
        """Return how many samples may be drawn now."""
        if self.inserts < self.min_size or self.ahead == math.inf:
            return 0 if self.inserts < self.min_size else 2**62
        return max(0, math.floor(Fraction(self.ahead) - self.lead))

    def inserted(self, count: int) -> None:
        """Count insertions."""
        self.inserts += count

    def sampled(self, count: int) -> None:
        """Count samples."""
        self.samples += count

    def state_dict(self) -> dict[str, int]:
        """The two counts."""
        return {"inserts": self.inserts, "samples": self.samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.inserts, self.samples = int(state["inserts"]), int(state["samples"])
