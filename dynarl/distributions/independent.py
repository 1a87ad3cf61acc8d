"""`Independent`: batch dimensions read as one event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynarl.autograd import Tensor
from dynarl.distributions.distribution import Distribution, sum_rightmost


class Independent(Distribution):
    """Read the last `reinterpreted_batch_ndims` batch dimensions of a distribution as one event."""

    def __init__(
        self, base_distribution: Any, reinterpreted_batch_ndims: int, validate_args: bool | None = None
    ) -> None:
        batch_shape = base_distribution.batch_shape
        if reinterpreted_batch_ndims > len(batch_shape):
            raise ValueError(
                "Expected reinterpreted_batch_ndims <= len(base_distribution.batch_shape), "
                f"actual {reinterpreted_batch_ndims} vs {len(batch_shape)}"
            )
        self.base_dist = base_distribution
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims
        split = len(batch_shape) - reinterpreted_batch_ndims
        self.batch_shape = batch_shape[:split]
        self.event_shape = batch_shape[split:] + base_distribution.event_shape
        self.has_rsample = base_distribution.has_rsample
        self.noise_kind = base_distribution.noise_kind
        if validate_args is not None:
            self._validate_args = validate_args

    def _like(self) -> Any:
        return self.base_dist._like()

    def _draw(self, noise: Any) -> Tensor:
        drawn: Tensor = self.base_dist._draw(noise)
        return drawn

    def log_prob(self, value: Any) -> Tensor:
        """Return the log-density, summed over the event."""
        dims = self.reinterpreted_batch_ndims
        fused = getattr(self.base_dist, "log_prob_sum", None)
        return sum_rightmost(self.base_dist.log_prob(value), dims) if fused is None else fused(value, dims)

    def entropy(self) -> Tensor:
        """Return the entropy, summed over the event."""
        dims = self.reinterpreted_batch_ndims
        fused = getattr(self.base_dist, "entropy_sum", None)
        return sum_rightmost(self.base_dist.entropy(), dims) if fused is None else fused(dims)

    @property
    def mean(self) -> Tensor:
        """Return the mean of each component."""
        mean: Tensor = self.base_dist.mean
        return mean

    @property
    def mode(self) -> Tensor:
        """Return the mode of each component."""
        mode: Tensor = self.base_dist.mode
        return mode

    @property
    def median(self) -> Tensor:
        """Return the median of each component, where the base distribution has one."""
        median: Tensor = self.base_dist.median
        return median

    @property
    def variance(self) -> Tensor:
        """Return the variance of each component."""
        variance: Tensor = self.base_dist.variance
        return variance

    def expand(self, batch_shape: Sequence[int]) -> Independent:
        """Return this distribution with its parameters broadcast to batch_shape."""
        reinterpreted = self.event_shape[: self.reinterpreted_batch_ndims]
        base = self.base_dist.expand((*batch_shape, *reinterpreted))
        return Independent(base, self.reinterpreted_batch_ndims, validate_args=self._validate_args)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return all values, where nothing was reinterpreted."""
        if self.reinterpreted_batch_ndims > 0:
            raise NotImplementedError("Enumeration over cartesian product is not implemented")
        values: Tensor = self.base_dist.enumerate_support(expand=expand)
        return values

    def __repr__(self) -> str:
        return f"Independent({self.base_dist!r}, {self.reinterpreted_batch_ndims})"
