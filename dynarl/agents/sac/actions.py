"""The actions of SAC: [N, A] in [-1, 1] where the environment has bounds of its own, or [N] from 0 on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.agents.sac.config import SACConfig
from dynarl.envs.masks import draw_allowed

__all__ = ["Actions"]


class Actions:
    """Of a bounded Box or a Discrete space; raises ValueError for others.

    ``count`` is A, the numbers of an action, or how many Discrete ones there are; ``shape`` and ``dtype`` are those of
    an action as it is stored.
    """

    def __init__(self, space: spaces.Space[Any], config: SACConfig) -> None:
        self.config = config
        self.discrete = isinstance(space, spaces.Discrete)
        self.shape: tuple[int, ...] = ()
        self.dtype: Any = np.int64
        if isinstance(space, spaces.Discrete):
            if config.use_sde:
                raise ValueError(f"use_sde: state-dependent exploration is for Box actions, got {space}")
            self.count = int(space.n)
        elif not isinstance(space, spaces.Box):
            raise ValueError(
                f"SAC: supported action spaces are bounded Box and Discrete, got {space}; PPO takes others"
            )
        else:
            if not space.is_bounded("both"):
                raise ValueError(
                    f"SAC: a Box of actions must be bounded, got {space}; "
                    "gymnasium.wrappers.RescaleAction or ClipAction with bounds of your choice makes it so"
                )
            self.count = math.prod(space.shape)
            self.shape, self.dtype = (self.count,), np.float32
            self._env_shape = space.shape
            self._low = space.low.astype(np.float32).reshape(-1)
            self._half_range = (space.high.astype(np.float32).reshape(-1) - self._low) * np.float32(0.5)

    def scaled(self, action: NDArray[Any]) -> NDArray[Any]:
        """Return actions [N, A] in [-1, 1] with the environment's bounds and shape; Discrete ones as they are."""
        if self.discrete:
            return action
        return (self._low + (action + 1.0) * self._half_range).reshape(len(action), *self._env_shape)

    def drawn(self, uniform: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> NDArray[Any]:
        """Return uniformly random actions made of numbers [N, K], K = A or 1, among those that masks allow."""
        if mask is not None:
            return draw_allowed(uniform[:, 0], mask)
        if self.discrete:
            return (uniform[:, 0] * self.count).astype(np.int64)
        return uniform * 2.0 - 1.0

    @property
    def target_entropy(self) -> float:
        """The entropy that the temperature keeps, in nats: -dim(A), or a share of log A where nothing is given."""
        if self.config.target_entropy is not None:
            return self.config.target_entropy
        return self.config.target_entropy_scale * math.log(self.count) if self.discrete else -float(self.count)
