"""A distribution reached by random branches, whose probability is part of the probability of the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynarl.autograd import Tensor
from dynarl.distributions.distribution import Distribution


class Branched(Distribution):
    """`base`, reached by random branches that were taken with `log_prob`, of shape batch_shape.

    log p(branches, x) = log p(branches) + log p(x | branches): a policy gradient on `log_prob` then also
    trains the networks that chose the branches (score function estimator, arXiv:1506.05254). `entropy` of the branches,
    if given, is added to that of `base`.
    """

    def __init__(self, base: Any, log_prob: Any, entropy: Any = None) -> None:
        self.base, self.branch_log_prob, self.branch_entropy = base, log_prob, entropy
        if tuple(log_prob.shape) != tuple(base.batch_shape):
            raise ValueError(
                f"Branched: log_prob must have the batch_shape {tuple(base.batch_shape)} of the distribution, "
                f"got {tuple(log_prob.shape)}"
            )
        self.noise_kind = base.noise_kind
        super().__init__(base.batch_shape, base.event_shape)

    def _like(self) -> Any:
        return self.base._like()

    @property
    def noise(self) -> tuple[str, int]:
        """Return the noise of `base`; branches are drawn inside the program."""
        noise: tuple[str, int] = self.base.noise
        return noise

    def sample_from(self, noise: Any) -> Tensor:
        """Return the sample of `base` that `noise` determines."""
        sample: Tensor = self.base.sample_from(noise)
        return sample

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw from `base`."""
        sample: Tensor = self.base.sample(sample_shape)
        return sample

    def log_prob(self, value: Any) -> Tensor:
        """Return the log-probability of the branches and of value."""
        total: Tensor = self.base.log_prob(value) + self.branch_log_prob
        return total

    def entropy(self) -> Tensor:
        """Return the entropy of `base`, plus that of the branches if given."""
        entropy: Tensor = self.base.entropy()
        return entropy if self.branch_entropy is None else entropy + self.branch_entropy

    @property
    def mode(self) -> Tensor:
        """Return the mode of `base`."""
        mode: Tensor = self.base.mode
        return mode


__all__ = ["Branched"]
