"""Random numbers for actions, keyed by environment and step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.autograd import philox

__all__ = ["NoiseStream"]

_BLOCK_NUMBERS = 1 << 13


class NoiseStream:
    """Noise [N, size] for every step of N environments, keyed by (seed, purpose, environment id, step).

    `kind` is "uniform" (on (0, 1)) or "normal". With `period` > 1 the numbers change only every `period` steps. The
    stream is counter-based: it has no state to save, and its numbers do not depend on the order of calls.
    """

    def __init__(
        self, seed: int, purpose: str, env_ids: NDArray[np.int64], *, kind: str, size: int, period: int = 1
    ) -> None:
        if kind not in ("uniform", "normal"):
            raise ValueError(f"NoiseStream: kind must be 'uniform' or 'normal', got {kind!r}")
        if period < 1:
            raise ValueError(f"NoiseStream: period must be at least 1, got {period}")
        self.key, self.env_ids, self.kind, self.size, self.period = (seed, purpose), env_ids, kind, size, period
        self._held = np.zeros((0, len(env_ids), size), np.float32)
        self._first = 0
        self._draws = max(1, min(512, _BLOCK_NUMBERS // max(1, size * len(env_ids))))

    def at(self, step: int) -> NDArray[np.float32]:
        """Return the noise of one step, [N, size]."""
        draw = step // self.period
        if not self._first <= draw < self._first + len(self._held):
            self._draw(draw, self._draws)
        return self._held[draw - self._first]

    def block(self, step: int, count: int) -> list[NDArray[np.float32]]:
        """Return the noise of `count` steps starting at `step`, [N, size] each."""
        first, stop = step // self.period, (step + count - 1) // self.period + 1
        if not self._first <= first <= stop <= self._first + len(self._held):
            self._draw(first, max(stop - first, self._draws))
        return [self._held[t // self.period - self._first] for t in range(step, step + count)]

    def _draw(self, first: int, count: int) -> None:
        keys: Any = (*self.key, self.env_ids, first, count, self.size)
        self._held = philox.uniform(*keys, open=True) if self.kind == "uniform" else philox.normal(*keys)
        self._first = first
