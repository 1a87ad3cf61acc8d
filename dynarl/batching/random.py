"""Random numbers inside per-sample programs: each sample draws from its own stream (see `dynarl.batching.draws`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.dtypes import get_default_dtype
from dynarl.autograd.ops.comparison import lt
from dynarl.autograd.tensor import wrap
from dynarl.batching.draws import DeviceLike
from dynarl.batching.groups.execution import DRAW, state
from dynarl.batching.groups.group import PerSampleError
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["FUNCTIONS", "bernoulli", "categorical", "normal", "rand", "randn"]

_CHOICE = "a discrete random draw"


def _draw(kind: str, shape: tuple[int, ...], dtype: DTypeLike | None, device: DeviceLike) -> Any:
    execution = state.execution
    if execution is None:
        raise PerSampleError(f"{kind}: a per-sample draw outside a batched call")
    if execution.replaying():
        return execution.recall(DRAW)
    return execution.draw(kind, shape, dtype, device)


def _sizes(size: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else tuple(int(s) for s in size)


def rand(*size: Any, dtype: DTypeLike | None = None, device: DeviceLike = None, **_: Any) -> Any:
    """Draw uniformly from [0, 1), separately for each sample."""
    return _draw("uniform", _sizes(size), dtype, device)


def randn(*size: Any, dtype: DTypeLike | None = None, device: DeviceLike = None, **_: Any) -> Any:
    """Draw from the standard normal distribution, separately for each sample."""
    return _draw("normal", _sizes(size), dtype, device)


def normal(mean: Any = 0.0, std: Any = 1.0, size: tuple[int, ...] | None = None, **_: Any) -> Any:
    """Draw from normal distributions, separately for each sample."""
    shape = np.broadcast_shapes(getattr(mean, "shape", ()), getattr(std, "shape", ())) if size is None else tuple(size)
    return randn(shape) * std + mean


def bernoulli(input: Any, p: float | None = None, **_: Any) -> Any:
    """Draw 0 or 1, 1 with the given probabilities, separately for each sample."""
    probability = input if p is None else p
    drawn = _decided(lt(rand(tuple(getattr(input, "shape", ()))), probability))
    return drawn.to(getattr(input, "dtype", get_default_dtype()))


def categorical(probs: Any = None, logits: Any = None) -> Any:
    """Draw a class index with probabilities (or logits) [..., K], separately for each sample."""
    if (probs is None) == (logits is None):
        raise ValueError("categorical: either probs or logits must be given, not both")
    weights = (logits.softmax(-1) if probs is None else probs).detach()
    # Inverse transform: count the classes whose cumulative weight is at most the threshold. The threshold is scaled by
    # the total weight, so that rounding in the sum cannot give an index beyond the last class.
    cdf = weights.cumsum(-1)
    threshold = rand(tuple(weights.shape[:-1])) * cdf[..., -1]
    return _decided((cdf[..., :-1] <= threshold.unsqueeze(-1)).to(np.int64).sum(-1))


def _decided(drawn: Any) -> Any:
    """Record discrete numbers that were drawn, or replace them by recorded ones."""
    execution = state.execution
    if execution is None:
        return drawn
    run = execution.run
    if not run.decides():
        return drawn
    if execution.replaying():
        return execution.recall(_CHOICE)
    samples = execution.group.samples()
    if run.replay is not None:
        array = run.repeat_decisions(samples, drawn.dtype, drawn.numel()).reshape(len(samples), *drawn.shape)
        drawn = SampleTensor(wrap(to_device(array, drawn.device)), execution.group)
    if run.recorder is not None:
        run.recorder.draw(samples, to_host(drawn.at(execution.group).array))
    execution.remember(_CHOICE, drawn)
    return drawn


def _like(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Return the `*_like` form of a draw."""
    return lambda input, **kwargs: draw(tuple(input.shape), **{"dtype": input.dtype, **kwargs})


def _refused(name: str) -> Callable[..., NoReturn]:
    def draw(*args: Any, **kwargs: Any) -> NoReturn:
        raise PerSampleError(
            f"{name}: not offered inside a per-sample program; use rand, randn, bernoulli or categorical"
        )

    return draw


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "rand": rand,
    "randn": randn,
    "normal": normal,
    "bernoulli": bernoulli,
    "categorical": categorical,
    "rand_like": _like(rand),
    "randn_like": _like(randn),
    "randint": _refused("randint"),
    "randperm": _refused("randperm"),
    "multinomial": _refused("multinomial"),
}
"""By function name: what replaces the engine's random functions inside a per-sample program."""
