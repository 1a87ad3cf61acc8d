"""Gaussian noise that is a function of the state: gSDE (arXiv:2005.05719)."""

from __future__ import annotations

import math
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.ops.elementwise import exp, log
from dynarl.autograd.ops.linalg import matmul
from dynarl.autograd.tensor import wrap
from dynarl.distributions.distribution import Distribution, raw
from dynarl.distributions.normal import Normal

__all__ = ["StateDependentNormal", "marginal_log_std"]

# Keeps the variance above zero where all features are zero.
_EPSILON = 1e-6


def marginal_log_std(features: Tensor, log_std: Tensor) -> Tensor:
    """Return the log standard deviation [B, A] of h theta, theta ~ N(0, exp(log_std)^2) (arXiv:2005.05719 eq. 9).

    features h [B, H], log_std [H, A]; no gradient flows into the features.
    """
    variance = matmul(features.data * features.data, exp(log_std * 2.0))
    half_log: Tensor = log(variance + _EPSILON) * 0.5
    return half_log


class StateDependentNormal(Distribution):
    """Gaussian over [B, A] with mean `loc` [B, A] whose noise is h theta: features h [B, H], theta [H, A].

    theta ~ N(0, exp(log_std)^2) with log_std [H, A]. `sample_from` computes theta from H x A normal numbers per row:
    with the same numbers at every step, noise is a smooth function of the state. The density is that of
    a single state, a Gaussian with variance h^2 exp(log_std)^2, summed over A.
    """

    noise_kind = "normal"

    def __init__(self, loc: Tensor, features: Tensor, log_std: Tensor) -> None:
        if loc.ndim != 2 or tuple(log_std.shape) != (features.shape[-1], loc.shape[-1]):
            raise ValueError(
                "StateDependentNormal: loc must be [B, A], features [B, H] and log_std [H, A], got "
                f"{tuple(loc.shape)}, {tuple(features.shape)} and {tuple(log_std.shape)}"
            )
        super().__init__(tuple(loc.shape[:1]), tuple(loc.shape[1:]))
        self.loc, self.features, self.log_std = loc, features, log_std
        self.marginal = Normal(loc, exp(marginal_log_std(features, log_std)), validate_args=False)

    def _like(self) -> Any:
        return self.loc

    @property
    def noise(self) -> tuple[str, int]:
        """Return ("normal", H x A)."""
        return "normal", math.prod(self.log_std.shape)

    def _noise(self, sample_shape: Any) -> Any:
        raise self._missing("own sample: call sample_from with the noise, which must persist over steps")

    def sample_from(self, noise: Any) -> Tensor:
        """Return loc + h theta [B, A] for noise of B x H x A numbers, theta = exp(log_std) noise."""
        array = raw(noise)
        rows, shape = self.batch_shape[0], tuple(self.log_std.shape)
        if array.size != rows * math.prod(shape):
            raise ValueError(
                f"sample_from: StateDependentNormal takes {math.prod(shape)} normal numbers for each of {rows} rows, "
                f"got noise of shape {tuple(array.shape)}"
            )
        theta = exp(self.log_std) * wrap(array.reshape(rows, *shape))
        drawn: Tensor = self.loc + matmul(self.features.data.unsqueeze(1), theta)[:, 0]
        return drawn

    @property
    def mean(self) -> Tensor:
        """Return loc."""
        return self.loc

    mode = mean

    @property
    def variance(self) -> Tensor:
        """Return the variance for one state, [B, A]."""
        return self.marginal.variance

    def log_prob(self, value: Any) -> Tensor:
        """Return the log-density [B] at value [B, A]."""
        return self.marginal.log_prob_sum(value, 1)

    def entropy(self) -> Tensor:
        """Return the entropy [B]."""
        return self.marginal.entropy_sum(1)
