"""Ragged: a batch of sequences of different lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.tape import wrap
from dynarl.batching.cohort import Cohort
from dynarl.batching.lane import Lane

__all__ = ["END", "Ragged", "RaggedLane"]

END: Any = type("End", (), {})()
"""Stands for the element after a sequence's last."""


class Ragged:
    """N sequences [L_i, ...] of different lengths, one per sample.

    Inside a per-sample program it is a sequence of the sample's own L_i elements: `for x in sequence`, `len`,
    `sequence[i]`, `sequence[-1]`. Samples part where a sequence ends; lengths are known to the host, so nothing waits
    for a device.
    """

    def __init__(self, sequences: Sequence[Any]) -> None:
        if len(sequences) == 0:
            raise ValueError("Ragged: needs at least one sequence, got none")
        arrays = [np.asarray(s.array if isinstance(s, Tensor) else s) for s in sequences]
        shapes = {a.shape[1:] for a in arrays}
        if len(shapes) > 1 or any(a.ndim == 0 for a in arrays):
            raise ValueError(f"Ragged: sequences must be [L_i, ...] with one element shape, got {sorted(shapes)}")
        self.lengths = np.array([len(a) for a in arrays])
        top = max(1, int(self.lengths.max()))
        self.steps = np.zeros((top, len(arrays), *arrays[0].shape[1:]), np.result_type(*arrays))
        for i, a in enumerate(arrays):
            self.steps[: len(a), i] = a

    def __len__(self) -> int:
        return len(self.lengths)

    def per_sample(self, cohort: Cohort) -> RaggedLane:
        """Return what one sample's program sees."""
        return RaggedLane(self, cohort)


class RaggedLane:
    """One sample's sequence."""

    def __init__(self, ragged: Ragged, cohort: Cohort) -> None:
        self._steps = [Lane(wrap(step), cohort) for step in ragged.steps]
        self._more = [Lane(wrap(ragged.lengths > t), cohort) for t in range(len(ragged.steps))]
        self._length = Lane(wrap(ragged.lengths), cohort)

    def __iter__(self) -> Iterator[Lane]:
        for step, more in zip(self._steps, self._more):
            if not more:
                return
            yield step

    def steps(self) -> Iterator[Callable[[], Any]]:
        """Yield for each step a function that returns its element, or END for a sample that has no more."""
        for t in range(len(self._steps) + 1):
            yield partial(self._step, t)

    def _step(self, t: int) -> Any:
        return self._steps[t] if t < len(self._steps) and self._more[t] else END

    def __len__(self) -> int:
        return int(self._length)

    def __getitem__(self, index: int) -> Lane:
        if index < 0:
            index += len(self)
        if index < 0 or index >= len(self._steps) or not self._more[index]:
            raise IndexError(f"Ragged: index {index} is beyond the end of a sequence")
        return self._steps[index]
