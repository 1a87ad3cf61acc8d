"""The normal distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.dtypes import result_type
from dynarl.autograd.ops.activation import erf
from dynarl.autograd.ops.elementwise import square
from dynarl.autograd.ops.probability import erfinv, normal_entropy, normal_log_prob
from dynarl.autograd.tensor import wrap
from dynarl.distributions.constraints import POSITIVE, REAL, UNIT_INTERVAL, check_parameter, check_value
from dynarl.distributions.distribution import Distribution, as_parameters, broadcast_shape, is_tensor


class Normal(Distribution):
    """Normal with mean `loc` and standard deviation `scale`, numbers or tensors that broadcast."""

    has_rsample = True
    noise_kind = "normal"

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        if not (is_tensor(loc) and is_tensor(scale)):
            loc, scale = as_parameters(loc, scale)
        self._loc, self._scale = loc, scale
        self.batch_shape = broadcast_shape(tuple(loc.shape), tuple(scale.shape))
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            check_parameter(self, "loc", loc, REAL)
            check_parameter(self, "scale", scale, POSITIVE)

    def _full(self, parameter: Tensor) -> Tensor:
        return parameter if tuple(parameter.shape) == self.batch_shape else parameter.expand(self.batch_shape)

    @property
    def loc(self) -> Tensor:
        """Return the mean, of shape batch_shape."""
        return self._full(self._loc)

    @property
    def scale(self) -> Tensor:
        """Return the standard deviation, of shape batch_shape."""
        return self._full(self._scale)

    mean = mode = median = loc
    stddev = scale

    @property
    def variance(self) -> Tensor:
        """Return scale squared."""
        return square(self.scale)

    def _printed(self) -> dict[str, Any]:
        return {"loc": self.loc, "scale": self.scale}

    def _like(self) -> Any:
        return self._loc

    def _draw(self, noise: Any) -> Tensor:
        like = self._loc.dtype
        z = wrap(noise if noise.dtype == like else noise.astype(like))
        drawn: Tensor = self._loc + self._scale * z
        return drawn

    def expand(self, batch_shape: Sequence[int]) -> Normal:
        """Return this distribution with its parameters broadcast to batch_shape."""
        shape = tuple(batch_shape)
        return Normal(self._loc.expand(shape), self._scale.expand(shape), validate_args=False)

    def log_prob(self, value: Any) -> Tensor:
        """Return the log-density at value."""
        return self.log_prob_sum(value, 0)

    def log_prob_sum(self, value: Any, dims: int) -> Tensor:
        """Return the log-density summed over the last `dims` dimensions, as one operation."""
        if self._validate_args:
            check_value(self, value.array, REAL)
        loc, scale = self._loc, self._scale
        dtype = loc.dtype
        if scale.dtype != dtype or value.dtype != dtype:
            dtype = result_type(loc, scale, value)
            loc, scale, value = loc.to(dtype), scale.to(dtype), value.to(dtype)
        logp: Tensor = normal_log_prob(value, loc, scale, dims=dims)
        return logp

    def entropy(self) -> Tensor:
        """Return 1/2 + log(sqrt(2 pi) scale)."""
        return self.entropy_sum(0)

    def entropy_sum(self, dims: int) -> Tensor:
        """Return the entropy summed over the last `dims` dimensions; a scale shared by all rows is summed once."""
        split = len(self.batch_shape) - dims
        scale = self._scale if tuple(self._scale.shape[-dims:]) == self.batch_shape[split:] or not dims else self.scale
        return normal_entropy(scale, dims=dims, batch_shape=self.batch_shape[:split])

    def cdf(self, value: Any) -> Tensor:
        """Return Phi((value - loc) / scale)."""
        if self._validate_args:
            check_value(self, value.array, REAL)
        return (erf((value - self._loc) / (self._scale * math.sqrt(2.0))) + 1) * 0.5

    def icdf(self, value: Any) -> Tensor:
        """Return the quantile loc + scale Phi^-1(value)."""
        if self._validate_args:
            check_value(self, value.array, UNIT_INTERVAL)
        return self._loc + self._scale * erfinv(value * 2 - 1) * math.sqrt(2.0)
