"""A product of independent categoricals, for MultiDiscrete actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from dynarl.autograd import Tensor, dispatch, xp
from dynarl.autograd.ops.probability import pad_components
from dynarl.autograd.ops.shape import split
from dynarl.distributions.categorical import Categorical
from dynarl.distributions.distribution import Distribution


@lru_cache(maxsize=256)
def _columns(nvec: tuple[int, ...]) -> Any:
    widest = max(nvec)
    return np.concatenate([i * widest + np.arange(n) for i, n in enumerate(nvec)])


class MultiCategorical(Distribution):
    """Vectors of class indices: component i has nvec[i] classes, their logits concatenated [..., sum(nvec)].

    A sample is int64 [..., len(nvec)]; log_prob and entropy sum over the components.
    """

    def __init__(self, logits: Any, nvec: Sequence[int], validate_args: bool | None = None) -> None:
        self.nvec = tuple(int(n) for n in nvec)
        if not self.nvec or min(self.nvec) < 1:
            raise ValueError(f"MultiCategorical: nvec must hold at least one count, each >= 1, got {self.nvec}")
        if logits.ndim < 1 or logits.shape[-1] != sum(self.nvec):
            raise ValueError(
                f"MultiCategorical: logits must end in sum(nvec) = {sum(self.nvec)} columns for nvec {self.nvec}, "
                f"got shape {tuple(logits.shape)}"
            )
        if validate_args is not None:
            self._validate_args = validate_args
        self._logits = logits
        self.batch_shape = tuple(logits.shape[:-1])
        self.event_shape = (len(self.nvec),)
        if self._validate_args and logits.__class__ is not dispatch.sample_type:
            self.base_dist  # noqa: B018  (checks the logits)

    @cached_property
    def base_dist(self) -> Categorical:
        """Return the components as one Categorical [..., len(nvec)], padded to the widest."""
        count, widest = len(self.nvec), max(self.nvec)
        padded = self._logits
        if sum(self.nvec) != count * widest:
            columns = xp(padded.array).asarray(_columns(self.nvec))
            padded = pad_components(padded, columns=columns, width=count * widest, fill=-math.inf)
        return Categorical(logits=padded.reshape(*self.batch_shape, count, widest), validate_args=self._validate_args)

    def _printed(self) -> dict[str, Any]:
        return {"logits": self._logits}

    def _like(self) -> Any:
        return self._logits

    def _draw(self, noise: Any) -> Tensor:
        return self.base_dist._draw(noise)

    def log_prob(self, value: Any) -> Tensor:
        """Return the log-probability of index vectors [..., len(nvec)]."""
        return self.base_dist.log_prob(value).sum(dim=-1)

    def entropy(self) -> Tensor:
        """Return the sum of the components' entropies."""
        return self.base_dist.entropy().sum(dim=-1)

    @property
    def mode(self) -> Tensor:
        """Return the most probable class of each component."""
        return self.base_dist.mode

    def components(self) -> list[Categorical]:
        """Return one Categorical per component."""
        parts = split(self._logits, list(self.nvec), -1)
        return [Categorical(logits=part, validate_args=self._validate_args) for part in parts]

    def expand(self, batch_shape: Sequence[int]) -> MultiCategorical:
        """Return this distribution with its parameters broadcast to batch_shape."""
        logits = self._logits.expand((*batch_shape, sum(self.nvec)))
        return MultiCategorical(logits, self.nvec, validate_args=self._validate_args)
