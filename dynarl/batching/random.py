"""Random numbers inside per-sample programs: each sample draws for itself, whatever group it happens to be in.

Draw number d of a sample is a function of (seed, stream, step, d) alone (Philox counters), so results do not depend on
how samples were grouped, and a rollout's draws can be made again when learning from it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.autograd import philox
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.dispatch import batching_rules
from dynarl.autograd.dtypes import get_default_dtype
from dynarl.autograd.random import default_generator
from dynarl.autograd.tensor import wrap
from dynarl.batching.eager.execution import Execution, state
from dynarl.batching.groups.group import PerSampleError
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["Draws", "bernoulli", "categorical", "normal", "rand", "randn"]

_DRAW = "a per-sample random draw"
_CHOICE = "a discrete random draw"


class Draws:
    """The random streams of one batched call: a seed, a purpose, and a stream and step number for each sample."""

    def __init__(self, seed: int, streams: Any, steps: Any, *, purpose: str = "per-sample") -> None:
        self.key = philox.key_of(seed, purpose)
        self.streams = np.asarray(streams).astype(np.uint32)
        self.steps = np.broadcast_to(np.asarray(steps).astype(np.uint32), self.streams.shape)
        self.count = np.zeros(len(self.streams), np.uint32)

    @classmethod
    def fresh(cls, size: int) -> Draws:
        """Return streams keyed by the default generator, as torch-like code expects of `manual_seed`."""
        return cls(int(default_generator.numpy.integers(1 << 62)), np.arange(size), 0)

    def mark(self) -> Any:
        """Return where the streams stand, for `rewind`."""
        return self.count.copy()

    def rewind(self, mark: Any) -> None:
        """Go back to `mark`."""
        self.count = mark

    def again(self) -> Draws:
        """Return the streams at their beginning."""
        self.count[...] = 0
        return self

    def reserve(self, samples: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the number of each sample's next draw, which is then taken."""
        counts = self.count[samples]
        self.count[samples] += 1
        return counts

    def bits(self, samples: NDArray[np.int64], counts: NDArray[np.uint32], size: int) -> NDArray[np.uint32]:
        """Return the `size` random words of a draw of each sample, [n, size]."""
        blocks = -(-size // 4)
        shape = (len(samples), blocks)
        counter = np.empty((4, *shape), np.uint32)
        counter[0] = np.arange(blocks, dtype=np.uint32)
        for word, values in zip(counter[1:], (counts, self.steps[samples], self.streams[samples])):
            word[...] = values[:, None]
        words = philox.philox(counter.reshape(4, -1), self.key)
        return words.reshape(4, *shape).transpose(1, 2, 0).reshape(len(samples), -1)[:, :size]

    def make(
        self,
        samples: NDArray[np.int64],
        counts: NDArray[np.uint32],
        kind: str,
        shape: tuple[int, ...],
        dtype: Any,
        device: Any,
    ) -> Any:
        """Return a Tensor [n, *shape] of uniform or normal numbers: the given draw of each sample."""
        size = math.prod(shape)
        words = self.bits(samples, counts, size if kind == "uniform" else 2 * size)
        values = (words >> np.uint32(8)).astype(np.float64) * 2.0**-24
        if kind == "normal":  # Box and Muller, 1958
            radius = np.sqrt(-2.0 * np.log(1.0 - values[:, :size]))
            values = radius * np.cos(2.0 * np.pi * values[:, size:])
        array = values.astype(dtype or get_default_dtype()).reshape(len(samples), *shape)
        return wrap(to_device(array, device))


def _draw(kind: str, shape: tuple[int, ...], dtype: Any, device: Any) -> SampleTensor:
    context: Execution | None = state.context
    if context is None:
        raise PerSampleError(f"{kind}: a per-sample draw outside a batched call")
    if context.replaying():
        return context.recall(_DRAW)
    run = context.run
    if run.draws is None:
        run.draws = Draws.fresh(run.root.size)
    run.drawn += 1
    if context.scheduler is not None:
        return context.scheduler.draw(context, _DRAW, run.draws, kind, shape, dtype, device)
    samples = context.group.samples()
    return context.result(_DRAW, run.draws.make(samples, run.draws.reserve(samples), kind, shape, dtype, device))


def _sizes(size: Any) -> tuple[int, ...]:
    return tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else tuple(int(s) for s in size)


def rand(*size: Any, dtype: Any = None, device: Any = None, **_: Any) -> SampleTensor:
    """Draw uniformly from [0, 1), for each sample by itself."""
    return _draw("uniform", _sizes(size), dtype, device)


def randn(*size: Any, dtype: Any = None, device: Any = None, **_: Any) -> SampleTensor:
    """Draw from the standard normal distribution, for each sample by itself."""
    return _draw("normal", _sizes(size), dtype, device)


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, **_: Any) -> Any:
    """Draw from normal distributions, for each sample by itself."""
    shape = np.broadcast_shapes(getattr(mean, "shape", ()), getattr(std, "shape", ())) if size is None else tuple(size)
    return randn(shape) * std + mean


def bernoulli(input: Any, p: float | None = None, **_: Any) -> Any:
    """Draw 0 or 1 with the given probabilities, for each sample by itself."""
    probability: Any = input if p is None else p
    drawn: Any = _chosen(batching_rules["lt"](rand(tuple(getattr(input, "shape", ()))), probability))
    return drawn.to(getattr(input, "dtype", get_default_dtype()))


def categorical(probs: Any = None, logits: Any = None) -> Any:
    """Draw a class index with the probabilities (or logits) [..., K], for each sample by itself."""
    if (probs is None) == (logits is None):
        raise ValueError("categorical: either probs or logits must be given, not both")
    weights = (logits.softmax(-1) if probs is None else probs).detach()
    cdf = weights.cumsum(-1)
    threshold = rand(tuple(weights.shape[:-1])) * cdf[..., -1]
    return _chosen((cdf[..., :-1] <= threshold.unsqueeze(-1)).to(np.int64).sum(-1))


def _chosen(drawn: Any) -> Any:
    """Note discrete numbers that were drawn, or put those that were recorded in their place."""
    context: Execution | None = state.context
    if context is None:
        return drawn
    run = context.run
    if run.recorder is None and run.replay is None:
        return drawn
    if context.replaying():
        return context.recall(_CHOICE)
    samples = context.group.samples()
    if run.replay is not None:
        array = run.decide(samples, drawn.dtype, drawn.numel()).reshape(len(samples), *drawn.shape)
        drawn = SampleTensor(wrap(to_device(array, drawn.device)), context.group)
    if run.recorder is not None:
        run.recorder.draw(samples, to_host(drawn.at(context.group).array))
    context.remember(_CHOICE, drawn)
    return drawn


def like(draw: Any) -> Any:
    """Make the `*_like` form of a draw."""
    return lambda input, **kwargs: draw(tuple(input.shape), **{"dtype": input.dtype, **kwargs})


def _refused(name: str) -> Any:
    def draw(*args: Any, **kwargs: Any) -> Any:
        raise PerSampleError(
            f"{name}: not offered inside a per-sample program; use rand, randn, bernoulli or categorical"
        )

    return draw


FUNCTIONS = {
    "rand": rand,
    "randn": randn,
    "normal": normal,
    "bernoulli": bernoulli,
    "categorical": categorical,
    "rand_like": like(rand),
    "randn_like": like(randn),
    "randint": _refused("randint"),
    "randperm": _refused("randperm"),
    "multinomial": _refused("multinomial"),
}
