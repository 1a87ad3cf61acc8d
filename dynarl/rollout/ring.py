"""Positions in the rings of a replay: which row is written next, and which transitions can be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RingIndex"]


class RingIndex:
    """Write heads and counts of N rings with R rows each; the flat index of a row is row * N + environment.

    ``head`` [N] is the row written next, which holds the newest successor and is no transition yet. ``count`` [N] is
    the number of transitions held, at most R - 1: those of rows head - count to head - 1.
    """

    def __init__(self, rows: int, num_envs: int) -> None:
        self.rows, self.num_envs, self.size = rows, num_envs, rows * num_envs
        self.head = np.zeros(num_envs, np.int64)
        self.count = np.zeros(num_envs, np.int64)
        self._envs = np.arange(num_envs)
        # All heads and counts are equal, since no dummy row was ever skipped: indices are slices then, which saves
        # the index arrays of every step.
        self._lockstep = True

    def __len__(self) -> int:
        return int(self.count.sum())

    @property
    def used(self) -> int:
        """How many flat indices were ever written: the first so many."""
        return self.size if (self.count == self.rows - 1).any() else (int(self.head.max()) + 1) * self.num_envs

    def advance(self, which: NDArray[np.int64] | None) -> tuple[Any, Any]:
        """Move the heads of environments `which` (None: all) by one row.

        Returns the flat indices of the rows they leave and of those they reach: slices, or arrays [K].
        """
        num_envs, rows = self.num_envs, self.rows
        if which is not None:
            self._lockstep = self._lockstep and num_envs == 1
        elif self._lockstep:
            head = int(self.head[0])
            start, after = head * num_envs, (head + 1) % rows * num_envs
            self.head += 1
            if head + 1 == rows:
                self.head[:] = 0
            if self.count[0] < rows - 1:
                self.count += 1
            return slice(start, start + num_envs), slice(after, after + num_envs)
        envs = self._envs if which is None else which
        index = self.heads(envs)
        self.head[envs] = (self.head[envs] + 1) % rows
        self.count[envs] = np.minimum(self.count[envs] + 1, rows - 1)
        return index, self.heads(envs)

    def advance_block(self, envs: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Move the heads of `envs` [n] by their valid rows in `valid` [T, n].

        Returns the flat indices [K] of the rows written, in the order of ``np.nonzero(valid)``.
        """
        self._lockstep = self._lockstep and len(envs) == self.num_envs and bool(valid.all())
        t, n = np.nonzero(valid)
        written = np.cumsum(valid, axis=0)  # [T, n]
        row = (self.head[envs[n]] + (written - 1)[t, n]) % self.rows
        self.head[envs] = (self.head[envs] + written[-1]) % self.rows
        self.count[envs] = np.minimum(self.count[envs] + written[-1], self.rows - 1)
        return row * self.num_envs + envs[n]

    def heads(self, envs: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the flat indices of the heads of environments (None: all)."""
        envs = self._envs if envs is None else envs
        return self.head[envs] * self.num_envs + envs

    def newest(self, envs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the flat indices of the newest transitions of environments."""
        return (self.head[envs] - 1) % self.rows * self.num_envs + envs

    def available(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many transitions there are from each of `index` [B] to the newest one, at least 1."""
        row, env = np.divmod(index, self.num_envs)
        return (self.head[env] - row) % self.rows

    def locate(self, drawn: NDArray[np.int64]) -> NDArray[np.int64]:
        """Map numbers below ``len(self)`` to flat indices: environment by environment, oldest first."""
        if self._lockstep:
            first = int(self.head[0] - self.count[0])
            if first == 0:
                return drawn
            # All environments hold the same rows, so counting row by row is a shift.
            return (drawn + first * self.num_envs) % self.size
        stop = np.cumsum(self.count)
        env = np.searchsorted(stop, drawn, side="right")
        row = (drawn - stop[env] + self.head[env]) % self.rows  # the first one is head - count
        return row * self.num_envs + env

    def state_dict(self) -> dict[str, Any]:
        """Return heads and counts."""
        return {"head": self.head.copy(), "count": self.count.copy(), "lockstep": self._lockstep}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.head[:], self.count[:] = state["head"], state["count"]
        self._lockstep = bool(state["lockstep"])
