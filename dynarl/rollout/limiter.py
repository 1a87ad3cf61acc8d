"""How many samples a replay gives for what is put in: a ratio that no machine's speed can change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

__all__ = ["SampleLimiter"]


class SampleLimiter:
    """Holds samples near ``samples_per_insert * (inserts - min_size)``, as Reverb's rate limiter (arXiv:2102.04736).

    Nothing may be sampled before `min_size` insertions. From then on samples may run `ahead` of that line by so many
    samples at most, and fall `behind` by so many before insertions have to wait. Both sides ask before they act:
    whoever is fast waits for the other, so how often an item is learned from depends on these numbers alone. The
    ratio is kept as a fraction: ``Fraction(1, 3)`` never drifts.
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
                f"or both sides could wait for each other; got {ahead} + {behind}"
            )
        self.ratio = Fraction(samples_per_insert)
        self.min_size, self.ahead, self.behind = min_size, ahead, behind
        self.inserts = self.samples = 0

    @property
    def lead(self) -> Fraction:
        """How many samples were drawn beyond ``samples_per_insert * (inserts - min_size)``; negative: behind it."""
        return self.samples - self.ratio * (self.inserts - self.min_size)

    def can_sample(self) -> bool:
        """Say whether one more sample may be drawn now."""
        return self.inserts >= self.min_size and self.lead + 1 <= self.ahead

    def can_insert(self) -> bool:
        """Say whether one more item may be put in now."""
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
