"""Random streams of a batched run: every sample has its own, in every group.

Draw number d of a sample is a function of (seed, purpose, stream, step, d) alone: these are the key and the counter of
the Philox generator (Salmon et al., 2011). Results therefore do not depend on how samples were grouped, and learning
can repeat the draws of a rollout.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dynarl.autograd import Tensor, philox
from dynarl.autograd.device import device as Device
from dynarl.autograd.device import to_device
from dynarl.autograd.dtypes import get_default_dtype
from dynarl.autograd.random import default_generator
from dynarl.autograd.tensor import wrap

__all__ = ["DeviceLike", "Draws"]

Samples = NDArray[np.int64]
Words = NDArray[np.uint32]
DeviceLike = Device | str | None


class Draws:
    """The random streams of one batched run: a seed, a purpose, and a stream and step number for each sample."""

    def __init__(self, seed: int, streams: ArrayLike, steps: ArrayLike, *, purpose: str = "per-sample") -> None:
        self.key = philox.key_of(seed, purpose)
        self.streams = np.asarray(streams).astype(np.uint32)
        self.steps = np.broadcast_to(np.asarray(steps).astype(np.uint32), self.streams.shape)
        self.count = np.zeros(len(self.streams), np.uint32)

    @classmethod
    def from_default_generator(cls, size: int) -> Draws:
        """Return streams whose seed comes from the default generator, so that `manual_seed` fixes them."""
        return cls(int(default_generator.numpy.integers(1 << 62)), np.arange(size), 0)

    def mark(self) -> Words:
        """Return the state of the streams, for `rewind`."""
        return self.count.copy()

    def rewind(self, mark: Words) -> None:
        """Return to the state `mark`."""
        self.count = mark

    def reset(self) -> None:
        """Return to the first draw."""
        self.count[...] = 0

    def reserve(self, samples: Samples) -> Words:
        """Return the number [n] of each sample's next draw and count it as drawn."""
        counts: Words = self.count[samples]
        self.count[samples] += 1
        return counts

    def words(self, samples: Samples, counts: Words, size: int) -> Words:
        """Return `size` random words of each sample's draw, [n, size]."""
        blocks = -(-size // 4)  # Philox gives four words a counter
        shape = (len(samples), blocks)
        counter = np.empty((4, *shape), np.uint32)
        counter[0] = np.arange(blocks, dtype=np.uint32)
        for word, values in zip(counter[1:], (counts, self.steps[samples], self.streams[samples])):
            word[...] = values[:, None]
        words: Words = philox.philox(counter.reshape(4, -1), self.key)
        # [4, n * blocks] -> [n, blocks * 4]: the words of one counter stay together
        return words.reshape(4, *shape).transpose(1, 2, 0).reshape(len(samples), -1)[:, :size]

    def make(
        self,
        samples: Samples,
        counts: Words,
        kind: str,
        shape: tuple[int, ...],
        dtype: DTypeLike | None,
        device: DeviceLike,
    ) -> Tensor:
        """Return a Tensor [n, *shape] of "uniform" or "normal" numbers: draw `counts` of each sample."""
        size = math.prod(shape)
        words = self.words(samples, counts, size if kind == "uniform" else 2 * size)
        values = (words >> np.uint32(8)).astype(np.float64) * 2.0**-24  # 24 bits: every value is exact in float32
        if kind == "normal":  # Box and Muller (1958); 1 - u is never 0
            radius = np.sqrt(-2.0 * np.log(1.0 - values[:, :size]))
            values = radius * np.cos(2.0 * np.pi * values[:, size:])
        array = values.astype(dtype or get_default_dtype()).reshape(len(samples), *shape)
        tensor: Tensor = wrap(to_device(array, device))
        return tensor
