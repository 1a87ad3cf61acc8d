"""Decisions of per-sample programs, recorded so that another run can repeat them with other parameters.

A decision is a concrete value that the program reads (`if`, `int()`, `.item()`, ...) or a discrete random draw
(`bernoulli`, `categorical`). The decisions of a sample, in order, are its path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["DecisionRecorder", "DecisionReplay", "Paths"]

Integers = NDArray[np.int64]


class Paths:
    """The paths of rows [...]: row i holds ``values[first[i] : first[i] + count[i]]``.

    `values` are int64; floating-point decisions are stored bit by bit. Indexing, `reshape` and `swapaxes` act on
    the rows and share the values.
    """

    __slots__ = ("count", "first", "values")

    def __init__(self, values: Integers, first: Integers, count: Integers) -> None:
        self.values, self.first, self.count = values, first, count

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rows."""
        return self.first.shape

    def __getitem__(self, index: Any) -> Paths:
        return Paths(self.values, self.first[index], self.count[index])

    def reshape(self, *shape: int) -> Paths:
        """Reshape the rows."""
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
        """Concatenate the rows along an existing axis."""
        return Paths._joined(paths, np.concatenate, axis)

    @staticmethod
    def _joined(paths: list[Paths], join: Callable[..., Integers], axis: int) -> Paths:
        sizes = np.cumsum([0, *(len(path.values) for path in paths[:-1])])
        return Paths(
            np.concatenate([path.values for path in paths]),
            join([path.first + size for path, size in zip(paths, sizes)], axis=axis),
            join([path.count for path in paths], axis=axis),
        )


class DecisionRecorder:
    """Records the decisions of the samples in one batched run.

    `steps` [N] counts the concrete values that each sample read. With `keep=False` nothing else is recorded.
    """

    def __init__(self, size: int, *, keep: bool = True) -> None:
        self.keep = keep
        self.steps = np.zeros(size, np.int64)
        self._samples: list[Integers] = []
        self._values: list[Integers] = []

    def read(self, samples: Integers, values: NDArray[Any]) -> None:
        """Record the concrete values [n] that samples read."""
        self.steps[samples] += 1
        self.draw(samples, values)

    def draw(self, samples: Integers, values: NDArray[Any]) -> None:
        """Record the discrete random numbers [n, ...] that samples drew."""
        if self.keep:
            per_sample = values.size // max(len(samples), 1)
            self._samples.append(samples if per_sample == 1 else np.repeat(samples, per_sample))
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
        # A stable sort keeps each sample's decisions in the order they were made.
        values = np.concatenate(self._values)[np.argsort(samples, kind="stable")]
        return Paths(values, np.cumsum(count) - count, count)

    def mark(self) -> tuple[int, Integers]:
        """Return the state of the record, for `rewind`."""
        return len(self._samples), self.steps.copy()

    def rewind(self, mark: tuple[int, Integers]) -> None:
        """Drop everything recorded since `mark`."""
        length, self.steps = mark
        del self._samples[length:], self._values[length:]


class DecisionReplay:
    """Gives recorded decisions back in order, each sample's own."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self._position = paths.first.copy()

    def next(self, samples: Integers, dtype: DTypeLike, size: int = 1) -> NDArray[Any] | None:
        """Return the next `size` decisions of samples, [n * size]; None if the record of one of them has ended."""
        start = self._position[samples]
        if (start + size > self.paths.first[samples] + self.paths.count[samples]).any():
            return None
        self._position[samples] += size
        index = start if size == 1 else (start[:, None] + np.arange(size)).reshape(-1)  # [n, size] -> [n * size]
        bits = self.paths.values[index]
        return bits.view(np.float64).astype(dtype) if np.dtype(dtype).kind == "f" else bits.astype(dtype)

    def unfinished(self) -> Integers:
        """Return the samples whose recorded decisions were not all used."""
        return np.flatnonzero(self._position < self.paths.first + self.paths.count)

    def mark(self) -> Integers:
        """Return the positions of the samples, for `rewind`."""
        return self._position.copy()

    def rewind(self, mark: Integers) -> None:
        """Return to the positions `mark`."""
        self._position = mark
