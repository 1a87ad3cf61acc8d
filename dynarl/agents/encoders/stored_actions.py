"""Actions as fragments store them, and as distributions sample and score them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.autograd.device import to_host
from dynarl.envs.spaces import action_layout

__all__ = ["StoredActions"]


class StoredActions:
    """Shape and dtype of the stored actions of a space (see `dynarl.envs.spaces.action_layout`)."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.space = space
        self.shape, self.dtype = action_layout(space)

    def stored(self, sample: Any) -> NDArray[Any]:
        """Return a distribution's sample, a Tensor [N, ...], as it is stored."""
        array = to_host(sample.array)
        if array.dtype != self.dtype:  # a Bernoulli's mode is NaN at p = 0.5 exactly: then 0
            array = np.nan_to_num(array).astype(self.dtype)
        return array if array.shape[1:] == self.shape else array.reshape(len(array), *self.shape)

    def scored(self, action: Any, lead: int = 1) -> Any:
        """Return stored actions as `log_prob` takes them; the first `lead` dimensions stay, the others become one."""
        if self.shape:
            action = action.reshape(*action.shape[:lead], -1)
        return action.astype(np.float32) if isinstance(self.space, spaces.MultiBinary) else action

    def zeros(self, rows: int) -> NDArray[Any]:
        """Return `rows` stored actions of zeros: what precedes the first step of an episode."""
        return np.zeros((rows, *self.shape), self.dtype)
