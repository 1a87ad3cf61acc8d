"""The ratio of gradient steps to environment steps where workers fill the replay."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from dynarl.rollout.limiter import SampleLimiter

__all__ = ["ReplayFeed"]


class ReplayFeed:
    """Counts stored transitions and says how many gradient steps they pay for.

    A `SampleLimiter` holds them at gradient_steps / train_freq for every step from `learning_starts` on, in rounds of
    gradient_steps. The next fragment is not read before they are made: a fast worker waits for the learner, a fast
    learner for the workers, and neither decides which data is learned from.
    """

    def __init__(self, *, train_freq: int, gradient_steps: int, learning_starts: int) -> None:
        self._round, self._learning_starts = gradient_steps, learning_starts
        self.limiter = SampleLimiter(Fraction(gradient_steps, train_freq), min_size=learning_starts)

    def insert(self, count: int, env_steps: int) -> int:
        """Count transitions that were stored, `env_steps` in total; return the number of gradient steps to make."""
        self.limiter.inserted(count)
        due = self.limiter.allowed() // self._round * self._round if env_steps > self._learning_starts else 0
        self.limiter.sampled(due)
        return due

    def metrics(self) -> dict[str, float]:
        """Return the ratio so far."""
        learned_from = max(1, self.limiter.inserts - self.limiter.min_size)
        return {"replay/updates_per_step": self.limiter.samples / learned_from}

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return self.limiter.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.limiter.load_state_dict(state)

    def begin_at(self, env_steps: int) -> None:
        """Continue a run without workers that made so many steps and the gradient steps they paid for."""
        self.limiter.inserts, self.limiter.samples = env_steps, 0
        self.limiter.sampled(self.limiter.allowed())
