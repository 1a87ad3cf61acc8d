"""The squashed normal distribution of SAC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.ops.activation import softplus
from dynarl.autograd.ops.elementwise import clamp, tanh
from dynarl.autograd.ops.trigonometry import atanh
from dynarl.distributions.constraints import OPEN_UNIT, UNIT_INTERVAL, check_value
from dynarl.distributions.distribution import Distribution, sum_rightmost
from dynarl.distributions.normal import Normal


class TanhNormal(Distribution):
    """tanh(u) with u ~ Normal(loc, scale): `TransformedDistribution(Normal(loc, scale), TanhTransform())`.

    `log_prob` of the last sample uses the u that produced it, because atanh loses precision near ±1. The density's
    correction is log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)), exact for all u (arXiv:1812.05905, app. C).
    """

    has_rsample = True
    noise_kind = "normal"

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.base_dist = Normal(loc, scale, validate_args)
        self.batch_shape = self.base_dist.batch_shape
        if validate_args is not None:
            self._validate_args = validate_args
        self._last: tuple[Any, Any] = (None, None)

    @property
    def loc(self) -> Tensor:
        """Return the mean before tanh."""
        return self.base_dist.loc

    @property
    def scale(self) -> Tensor:
        """Return the standard deviation before tanh."""
        return self.base_dist.scale

    def _printed(self) -> dict[str, Any]:
        return self.base_dist._printed()

    def _like(self) -> Any:
        return self.base_dist._like()

    def _draw(self, noise: Any) -> Tensor:
        u = self.base_dist._draw(noise)
        y: Tensor = tanh(u)
        self._last = (y, u)
        return y

    def pre_tanh(self, value: Any) -> Tensor:
        """Return u with tanh(u) = value: exactly for the last sample, else by atanh one rounding away from ±1."""
        y, u = self._last
        if value is y:
            found: Tensor = u
            return found
        if self._validate_args:
            check_value(self, value.array, OPEN_UNIT)
        limit = 1.0 - float(np.finfo(value.dtype).eps)
        return atanh(clamp(value, -limit, limit))

    def log_prob(self, value: Any) -> Tensor:
        """Return the log-density at value in (-1, 1)."""
        return self.log_prob_sum(value, 0)

    def log_prob_sum(self, value: Any, dims: int) -> Tensor:
        """Return the log-density summed over the last `dims` dimensions."""
        u = self.pre_tanh(value)
        correction = (u + softplus(u * -2.0) - math.log(2.0)) * 2.0
        return self.base_dist.log_prob_sum(u, dims) + sum_rightmost(correction, dims)

    def cdf(self, value: Any) -> Tensor:
        """Return the probability of a draw at or below value."""
        return self.base_dist.cdf(self.pre_tanh(value))

    def icdf(self, value: Any) -> Tensor:
        """Return the quantile of a probability."""
        if self._validate_args:
            check_value(self, value.array, UNIT_INTERVAL)
        return tanh(self.base_dist.icdf(value))

    @property
    def median(self) -> Tensor:
        """Return tanh(loc), the usual deterministic action; mean and mode have no closed form."""
        return tanh(self.base_dist.loc)

    def expand(self, batch_shape: Sequence[int]) -> TanhNormal:
        """Return this distribution with its parameters broadcast to batch_shape."""
        base = self.base_dist.expand(batch_shape)
        return TanhNormal(base.loc, base.scale, validate_args=self._validate_args)
