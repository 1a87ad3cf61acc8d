"""`Distribution`: the interface of all distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dynarl.autograd import Tensor, dispatch, get_default_dtype, no_grad, rand, randn, tensor
from dynarl.autograd.ops.elementwise import exp, sqrt

Shape = tuple[int, ...]


class Distribution:
    """Base class with the interface of `torch.distributions.Distribution`.

    A sample has shape `sample_shape + batch_shape + event_shape`; `log_prob` sums over the event.

    Besides `sample`, every distribution can sample from given noise: `noise` is its kind ("uniform" or "normal")
    and the count of numbers for one row (element of the first batch dimension), `sample_from` maps the numbers to
    a sample. A rollout can thus use counter-based random streams, whose numbers do not depend on the call order.
    """

    has_rsample = False
    noise_kind = "uniform"
    _validate_args: bool = __debug__
    batch_shape: Shape = ()
    event_shape: Shape = ()

    def __init__(
        self, batch_shape: Sequence[int] = (), event_shape: Sequence[int] = (), validate_args: bool | None = None
    ) -> None:
        self.batch_shape = tuple(batch_shape)
        self.event_shape = tuple(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Switch validation of parameters and values on or off for distributions made from now on."""
        if value not in (True, False):
            raise ValueError(f"set_default_validate_args: expected True or False, got {value!r}")
        Distribution._validate_args = value

    # A subclass defines what its distribution has; everything else raises NotImplementedError.

    def _missing(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} has no {what}")

    @property
    def mean(self) -> Tensor:
        raise self._missing("mean in closed form")

    @property
    def variance(self) -> Tensor:
        raise self._missing("variance in closed form")

    @property
    def mode(self) -> Tensor:
        raise self._missing("mode in closed form")

    @property
    def stddev(self) -> Tensor:
        """Return the square root of the variance."""
        return sqrt(self.variance)

    def log_prob(self, value: Any) -> Tensor:
        """Return the log-density (or log-probability) of value: sample_shape + batch_shape."""
        raise self._missing("log_prob")

    def entropy(self) -> Tensor:
        """Return the entropy in nats, of shape batch_shape."""
        raise self._missing("entropy in closed form")

    def cdf(self, value: Any) -> Tensor:
        """Return the probability of a draw at or below value."""
        raise self._missing("cdf")

    def icdf(self, value: Any) -> Tensor:
        """Return the value whose cdf is the given probability."""
        raise self._missing("icdf")

    def perplexity(self) -> Tensor:
        """Return exp(entropy)."""
        return exp(self.entropy())

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return all values of a discrete distribution, along the first dimension."""
        raise self._missing("finite support to enumerate")

    def expand(self, batch_shape: Sequence[int]) -> Distribution:
        """Return this distribution with its parameters broadcast to batch_shape."""
        raise self._missing("expand")

    # Sampling

    def _like(self) -> Any:
        """Return a parameter, whose dtype and device samples and noise have."""
        raise NotImplementedError

    def _draw(self, noise: Any) -> Tensor:
        """Turn raw noise of shape (..., *batch_shape, *event_shape) into a sample."""
        raise NotImplementedError

    def _noise(self, sample_shape: Sequence[int]) -> Any:
        shape = self._extended_shape(sample_shape)
        like = self._like()
        draw = randn if self.noise_kind == "normal" else rand
        return draw(shape, dtype=like.dtype, device=like.device).array

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw without gradient; shape sample_shape + batch_shape + event_shape."""
        with no_grad():
            return self._draw(self._noise(sample_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw with gradients through the parameters (reparameterised)."""
        if not self.has_rsample:
            raise self._missing("reparameterised sample: use sample()")
        return self._draw(self._noise(sample_shape))

    @property
    def noise(self) -> tuple[str, int]:
        """Return (kind, k): `sample_from` takes k numbers per row, "uniform" in [0, 1) or "normal"."""
        return self.noise_kind, math.prod(self.batch_shape[1:] + self.event_shape)

    def sample_from(self, noise: Any) -> Tensor:
        """Return the sample that `noise` determines: [rows, k] or any shape of as many numbers.

        Where `has_rsample`, gradients flow through the parameters unless under `no_grad()`.
        """
        shape = self.batch_shape + self.event_shape
        array = raw(noise)
        if array.shape != shape:
            if array.size != math.prod(shape):
                kind, k = self.noise
                raise ValueError(
                    f"sample_from: {type(self).__name__} with batch_shape {self.batch_shape} and event_shape "
                    f"{self.event_shape} takes {k} {kind} numbers per row, got noise of shape {tuple(array.shape)}"
                )
            array = array.reshape(shape)
        return self._draw(array)

    def _extended_shape(self, sample_shape: Sequence[int] = ()) -> Shape:
        return (*sample_shape, *self.batch_shape, *self.event_shape)

    # Printing

    def _printed(self) -> dict[str, Any]:
        return {}

    def __repr__(self) -> str:
        parts = []
        for name, value in self._printed().items():
            shown = value.item() if value.array.size == 1 else tuple(value.shape)
            parts.append(f"{name}: {shown}")
        return f"{type(self).__name__}({', '.join(parts)})"


def is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor, of a batch or of one sample."""
    return isinstance(value, Tensor)


def raw(value: Any) -> Any:
    """Return the array of a tensor; arrays and per-sample tensors, which have none, stay as they are."""
    return value.array if isinstance(value, Tensor) and value.__class__ is not dispatch.sample_type else value


def as_parameters(*values: Any) -> list[Tensor]:
    """Return tensors of one floating dtype for parameters given as numbers or tensors."""
    like = next((v for v in values if is_tensor(v)), None)
    if like is None:
        return [tensor(v, dtype=get_default_dtype()) for v in values]
    for v in values:
        if not (is_tensor(v) or isinstance(v, (int, float, np.number))):
            raise ValueError(f"Input arguments must all be numbers or Tensors, got {type(v).__name__}")
    dtype = like.dtype if like.dtype.kind == "f" else get_default_dtype()
    return [v if is_tensor(v) else tensor(v, dtype=dtype, device=like.device) for v in values]


def broadcast_shape(a: Shape, b: Shape) -> Shape:
    """Return the broadcast shape of two shapes; equal shapes and suffixes need no call of NumPy."""
    if a == b or not b or a[-len(b) :] == b:
        return tuple(a)
    return np.broadcast_shapes(a, b)


def sum_rightmost(value: Tensor, dims: int) -> Tensor:
    """Sum over the last `dims` dimensions."""
    return value if dims == 0 else value.sum(dim=tuple(range(-dims, 0)))


__all__ = ["Distribution", "as_parameters", "broadcast_shape", "sum_rightmost"]
