"""Paths: what per-sample programs decided, kept so that the same way can be taken again with other parameters.

A decision is a concrete value read by the program (`if`, `int()`, `.item()`, ...) or a discrete random draw
(`bernoulli`, `categorical`). The decisions of a sample, in order, are its path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DecisionRecorder", "DecisionReplay", "Paths"]


class Paths:
    """The paths of rows [...]: row i holds ``values[first[i] : first[i] + count[i]]``.

    `values` are int64; floating-point decisions stand there bit by bit. Indexing, `reshape` and `swapaxes` act on
    the rows and share the values.
    """

    __slots__ = ("count", "first", "values")

    def __init__(self, values: NDArray[np.int64], first: NDArray[np.int64], count: NDArray[np.int64]) -> None:
        self.values, self.first, self.count = values, first, count

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rows."""
        return self.first.shape

    def __getitem__(self, index: Any) -> Paths:
        return Paths(self.values, self.first[index], self.count[index])

    def reshape(self, *shape: int) -> Paths:
        """Arrange the rows anew."""
        return Paths(self.values, self.first.reshape(shape), self.count.reshape(shape))

    def swapaxes(self, one: int, other: int) -> Paths:
        """Exchange two axes of the rows."""
        return Paths(self.values, self.first.swapaxes(one, other), self.count.swapaxes(one, other))

    @staticmethod
    def stack(paths: list[Paths]) -> Paths:
        """Stack the rows along a new first axis."""
        return Paths._joined(paths, np.stack, 0)

    @staticmethod
    def concatenate(paths: list[Paths], axis: int) -> Paths:
        """Join the rows along an axis they have."""
        return Paths._joined(paths, np.concatenate, axis)

    @staticmethod
    def _joined(paths: list[Paths], join: Callable[..., Any], axis: int) -> Paths:
        sizes = np.cumsum([0, *(len(path.values) for path in paths[:-1])])
        return Paths(
            np.concatenate([path.values for path in paths]),
            join([path.first + size for path, size in zip(paths, sizes)], axis=axis),
            join([path.count for path in paths], axis=axis),
        )


class DecisionRecorder:
    """Writes down what the samples of one batched call decide; `steps` [N] counts the concrete values each read.

    Without `keep` it only counts.
    """

    def __init__(self, size: int, *, keep: bool = True) -> None:
        self.keep = keep
        self.steps = np.zeros(size, np.int64)
        self._samples: list[NDArray[np.int64]] = []
        self._values: list[NDArray[np.int64]] = []

    def read(self, samples: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Note concrete values [n] that samples read."""
        self.steps[samples] += 1
        self.draw(samples, values)

    def draw(self, samples: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Note discrete random numbers [n, ...] that samples drew."""
        if self.keep:
            each = values.size // max(len(samples), 1)
            self._samples.append(samples if each == 1 else np.repeat(samples, each))
            bits = values.astype(np.float64).view(np.int64) if values.dtype.kind == "f" else values.astype(np.int64)
            self._values.append(bits.reshape(-1))

    def paths(self) -> Paths:
        """Return the paths of all samples, [N]."""
        size = len(self.steps)
        if not self._samples:
            none = np.zeros(size, np.int64)
            return Paths(np.zeros(0, np.int64), none, none)
        samples = np.concatenate(self._samples)
        count = np.bincount(samples, minlength=size)
        values = np.concatenate(self._values)[np.argsort(samples, kind="stable")]
        return Paths(values, np.cumsum(count) - count, count)

    def mark(self) -> Any:
        """Return where the record stands, for `rewind`."""
        return len(self._samples), self.steps.copy()

    def rewind(self, mark: Any) -> None:
        """Forget what was noted since `mark`."""
        length, self.steps = mark
        del self._samples[length:], self._values[length:]


class DecisionReplay:
    """Hands recorded decisions back in order, to each sample its own."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self._at = paths.first.copy()

    def next(self, samples: NDArray[np.int64], dtype: Any, size: int = 1) -> NDArray[Any] | None:
        """Return the next `size` decisions of samples, [n * size], or None where one's record has ended."""
        at = self._at[samples]
        if (at + size > self.paths.first[samples] + self.paths.count[samples]).any():
            return None
        self._at[samples] += size
        index = at if size == 1 else (at[:, None] + np.arange(size)).reshape(-1)
        bits = self.paths.values[index]
        return bits.view(np.float64).astype(dtype) if np.dtype(dtype).kind == "f" else bits.astype(dtype)

    def unfinished(self) -> NDArray[np.int64]:
        """Return the samples that did not ask for all of their decisions."""
        return np.flatnonzero(self._at < self.paths.first + self.paths.count)

    def mark(self) -> Any:
        """Return where the samples stand, for `rewind`."""
        return self._at.copy()

    def rewind(self, mark: Any) -> None:
        """Go back to `mark`."""
        self._at = mark
