"""The Bernoulli distribution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from dynarl.autograd import Tensor, arange, dispatch, no_grad, xp
from dynarl.autograd.ops.activation import sigmoid, softplus
from dynarl.autograd.ops.elementwise import clamp, log, log1p
from dynarl.autograd.tensor import wrap
from dynarl.distributions.constraints import BOOLEAN, REAL, UNIT_INTERVAL, check_parameter, check_value
from dynarl.distributions.distribution import Distribution, as_parameters

_LOG_ZERO = 1e4  # exp(-1e4) is 0 in every dtype: the limit keeps 0 * log 0 finite


class Bernoulli(Distribution):
    """0 or 1 (as floats), with the probability `probs` or the log-odds `logits` of a 1."""

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        (given,) = as_parameters(logits if probs is None else probs)
        self._given = given
        self._from_logits = probs is None
        self.batch_shape = tuple(given.shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            if probs is None:
                check_parameter(self, "logits", given, REAL)
            else:
                check_parameter(self, "probs", given, UNIT_INTERVAL)
        if probs is None:
            self.logits = given
        else:
            self.probs = given

    @cached_property
    def logits(self) -> Tensor:
        """Return the log-odds of a 1."""
        eps = float(np.finfo(self.probs.dtype).eps)
        p = clamp(self.probs, eps, 1 - eps)
        return log(p) - log1p(-p)

    @cached_property
    def probs(self) -> Tensor:
        """Return the probability of a 1."""
        return sigmoid(self.logits)

    def _printed(self) -> dict[str, Any]:
        return {"logits" if self._from_logits else "probs": self._given}

    def _like(self) -> Any:
        return self._given

    def _draw(self, noise: Any) -> Tensor:
        with no_grad():
            p = self.probs.array
            return wrap((noise.astype(p.dtype) < p).astype(p.dtype))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw 0 or 1, sample_shape + batch_shape; in a per-sample program each sample draws separately."""
        if not sample_shape and (self._given.__class__ is dispatch.sample_type or dispatch.in_batched_call()):
            return dispatch.draw_per_sample("bernoulli", self.probs)
        return super().sample(sample_shape)

    def log_prob(self, value: Any) -> Tensor:
        """Return value log p + (1 - value) log(1 - p)."""
        if self._validate_args and value.__class__ is not dispatch.sample_type:
            check_value(self, value.array, BOOLEAN)
        if value.dtype.kind != "f":
            value = value.to(self._given.dtype)
        logits = self._finite_logits()
        return logits * value - softplus(logits)

    def entropy(self) -> Tensor:
        """Return -(p log p + (1 - p) log(1 - p))."""
        logits = self._finite_logits()
        return softplus(logits) - logits * sigmoid(logits)

    def _finite_logits(self) -> Tensor:
        return clamp(self.logits, -_LOG_ZERO, _LOG_ZERO) if self._from_logits else self.logits

    @property
    def mean(self) -> Tensor:
        """Return p."""
        return self.probs

    @property
    def variance(self) -> Tensor:
        """Return p (1 - p)."""
        return self.probs * (1 - self.probs)

    @property
    def mode(self) -> Tensor:
        """Return 1 where p > 1/2, 0 below, NaN at exactly 1/2 (two modes), as PyTorch does."""
        with no_grad():
            p = self.probs.array
            np_ = xp(p)
            return wrap(np_.where(p == 0.5, np_.nan, (p > 0.5)).astype(p.dtype))

    def expand(self, batch_shape: Sequence[int]) -> Bernoulli:
        """Return this distribution with its parameters broadcast to batch_shape."""
        given = self._given.expand(tuple(batch_shape))
        if self._from_logits:
            return Bernoulli(logits=given, validate_args=self._validate_args)
        return Bernoulli(probs=given, validate_args=self._validate_args)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return 0 and 1 along the first dimension."""
        values = arange(2, dtype=self._given.dtype, device=self._given.device)
        values = values.reshape(-1, *(1,) * len(self.batch_shape))
        return values.expand((2, *self.batch_shape)) if expand else values
