"""The categorical distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from dynarl.autograd import Tensor, arange, dispatch, full, no_grad, xp
from dynarl.autograd.ops.activation import log_softmax, softmax
from dynarl.autograd.ops.elementwise import clamp, log
from dynarl.autograd.ops.indexing import gather
from dynarl.autograd.ops.probability import (
    Statistics,
    categorical_entropy,
    categorical_log_prob,
    invert_cdf,
    row_statistics,
)
from dynarl.autograd.tensor import wrap
from dynarl.distributions.constraints import (
    NON_NEGATIVE_ROWS,
    REAL,
    check_parameter,
    check_value,
    integer_interval,
)
from dynarl.distributions.distribution import Distribution


class Categorical(Distribution):
    """Class indices 0 ... K-1, given `probs` [..., K] (normalised here) or `logits` [..., K].

    Logits of -inf (or -1e8) mask a class: it is never drawn, adds nothing to the entropy, and gradients stay finite.
    """

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        given = logits if probs is None else probs
        if given.ndim < 1:
            raise ValueError(f"`{'logits' if probs is None else 'probs'}` parameter must be at least one-dimensional.")
        if validate_args is not None:
            self._validate_args = validate_args
        self.batch_shape = tuple(given.shape[:-1])
        self._given = given
        self._from_logits = probs is None
        if self._validate_args:
            if probs is None:
                check_parameter(self, "logits", given, REAL)
            else:
                check_parameter(self, "probs", given, NON_NEGATIVE_ROWS)
        if probs is None:
            self._logits = logits
        else:
            self.probs = probs / probs.sum(dim=-1, keepdim=True)
            eps = float(np.finfo(probs.dtype).eps)
            self._logits = log(clamp(self.probs, eps, 1 - eps))
            exact = self.probs.array  # the clamped logits would give a class of probability 0 a chance of eps
            self._statistics = (self._logits.array, exact, xp(exact).ones_like(exact[..., :1]))
        self._drawn: Any = None

    @cached_property
    def _statistics(self) -> Statistics:
        return row_statistics(self._logits.array)

    @cached_property
    def logits(self) -> Tensor:
        """Return the normalised logits: log-probabilities [..., K]."""
        return log_softmax(self._logits, -1)

    @cached_property
    def probs(self) -> Tensor:
        """Return the probabilities [..., K]."""
        return softmax(self._logits, -1)

    @property
    def param_shape(self) -> tuple[int, ...]:
        """Return the shape of the logits."""
        return tuple(self._given.shape)

    @property
    def num_events(self) -> int:
        """Return K."""
        return int(self._given.shape[-1])

    def _printed(self) -> dict[str, Any]:
        return {"logits" if self._from_logits else "probs": self._given}

    def _like(self) -> Any:
        return self._logits

    def _draw(self, noise: Any) -> Tensor:
        self._drawn = drawn = wrap(invert_cdf(self._statistics[1], noise))
        return drawn

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw class indices, sample_shape + batch_shape; in a per-sample program each sample draws separately."""
        if not sample_shape and (self._logits.__class__ is dispatch.sample_type or dispatch.in_batched_call()):
            return dispatch.draw_per_sample("categorical", logits=self._logits)
        return super().sample(sample_shape)

    def log_prob(self, value: Any) -> Tensor:
        """Return the log-probability of class indices: any shape that broadcasts with batch_shape."""
        if dispatch.sample_type in (value.__class__, self._logits.__class__):
            chosen: Tensor = gather(self.logits, -1, value.unsqueeze(-1)).squeeze(-1)
            return chosen
        index = value.array
        if self._validate_args and value is not self._drawn:
            check_value(self, index, integer_interval(self.num_events))
        if index.dtype.kind not in "iu":
            index = index.astype(np.int64)
        if index.shape == self.batch_shape:
            logp: Tensor = categorical_log_prob(self._logits, index=index, statistics=self._statistics)
            return logp
        shape = np.broadcast_shapes(index.shape, self.batch_shape)
        index = wrap(xp(index).ascontiguousarray(xp(index).broadcast_to(index, shape)))
        logits = self.logits.expand((*shape, self.num_events))
        return gather(logits, -1, index.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Return -sum p log p."""
        if self._logits.__class__ is dispatch.sample_type:
            summed: Tensor = -(self.probs * clamp(self.logits, -1e8)).sum(-1)
            return summed
        entropy: Tensor = categorical_entropy(self._logits, statistics=self._statistics)
        return entropy

    @property
    def mode(self) -> Tensor:
        """Return the most probable class (the first of equals)."""
        with no_grad():
            return wrap(self._logits.array.argmax(axis=-1))

    @property
    def mean(self) -> Tensor:
        """Return NaN: classes have no mean."""
        return full(self.batch_shape, math.nan, dtype=self._logits.dtype, device=self._logits.device)

    @property
    def variance(self) -> Tensor:
        """Return NaN: classes have no variance."""
        return self.mean

    def expand(self, batch_shape: Sequence[int]) -> Categorical:
        """Return this distribution with its parameters broadcast to batch_shape."""
        given = self._given.expand((*batch_shape, self.num_events))
        if self._from_logits:
            return Categorical(logits=given, validate_args=self._validate_args)
        return Categorical(probs=given, validate_args=self._validate_args)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return 0 ... K-1 along the first dimension."""
        values = arange(self.num_events, device=self._logits.device)
        values = values.reshape(-1, *(1,) * len(self.batch_shape))
        return values.expand((self.num_events, *self.batch_shape)) if expand else values
