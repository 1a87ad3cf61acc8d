"""The uniform distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.ops.elementwise import clamp, log, square, where
from dynarl.autograd.tensor import wrap
from dynarl.distributions.constraints import REAL, UNIT_INTERVAL, check_parameter, check_value
from dynarl.distributions.distribution import Distribution, as_parameters, broadcast_shape


class Uniform(Distribution):
    """Uniform on [low, high), numbers or tensors that broadcast. Outside, `log_prob` is -inf."""

    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        low, high = as_parameters(low, high)
        self.batch_shape = broadcast_shape(tuple(low.shape), tuple(high.shape))
        self.low = low.expand(self.batch_shape)
        self.high = high.expand(self.batch_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            check_parameter(self, "low", low, REAL)
            check_parameter(self, "high", high, REAL)
            if not bool((low.array < high.array).all()):
                raise ValueError("Uniform is not defined when low>= high")

    def _printed(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}

    def _like(self) -> Any:
        return self.low

    def _draw(self, noise: Any) -> Tensor:
        drawn: Tensor = self.low + (self.high - self.low) * wrap(noise.astype(self.low.dtype))
        return drawn

    def log_prob(self, value: Any) -> Tensor:
        """Return -log(high - low) inside, -inf outside."""
        if self._validate_args:
            check_value(self, value.array, REAL)
        inside = (value >= self.low) & (value < self.high)
        density = -log(self.high - self.low)
        return where(inside, density, float("-inf"))

    def entropy(self) -> Tensor:
        """Return log(high - low)."""
        return log(self.high - self.low)

    def cdf(self, value: Any) -> Tensor:
        """Return (value - low) / (high - low), limited to [0, 1]."""
        return clamp((value - self.low) / (self.high - self.low), 0.0, 1.0)

    def icdf(self, value: Any) -> Tensor:
        """Return low + value (high - low)."""
        if self._validate_args:
            check_value(self, value.array, UNIT_INTERVAL)
        return value * (self.high - self.low) + self.low

    @property
    def mean(self) -> Tensor:
        """Return the middle."""
        return (self.high + self.low) * 0.5

    median = mean

    @property
    def variance(self) -> Tensor:
        """Return (high - low)^2 / 12."""
        return square(self.high - self.low) / 12

    @property
    def stddev(self) -> Tensor:
        """Return (high - low) / sqrt(12)."""
        return (self.high - self.low) / 12**0.5

    def expand(self, batch_shape: Sequence[int]) -> Uniform:
        """Return this distribution with its parameters broadcast to batch_shape."""
        shape = tuple(batch_shape)
        return Uniform(self.low.expand(shape), self.high.expand(shape), validate_args=self._validate_args)
