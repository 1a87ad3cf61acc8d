"""Side table for the last observations of episodes, which have no row in a ring of observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FinalObservations"]


class FinalObservations:
    """The last observations of episodes, in slots that are reused. Capacity grows by doubling."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.obs = np.zeros((16, *shape), dtype)
        self.mask: NDArray[np.bool_] | None = None  # [slots, M], allocated with the first masks
        self._free = np.arange(16)[::-1].copy()
        self._left = 16

    def begin_masks(self, size: int) -> None:
        """Allocate masks of `size` actions."""
        self.mask = np.ones((len(self.obs), size), np.bool_)

    def keep(self, obs: NDArray[Any], masks: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Store observations [K, ...], with masks [K, M] if the replay has masks, and return their slots [K]."""
        while self._left < len(obs):
            old = len(self.obs)
            self.obs = np.concatenate((self.obs, np.zeros_like(self.obs)))
            if self.mask is not None:
                self.mask = np.concatenate((self.mask, np.ones_like(self.mask)))
            self._free = np.concatenate((self._free[: self._left], np.arange(2 * old - 1, old - 1, -1)))
            self._free.resize(2 * old, refcheck=False)
            self._left += old
        self._left -= len(obs)
        slots = self._free[self._left : self._left + len(obs)].copy()
        self.obs[slots] = obs
        if self.mask is not None and masks is not None:
            self.mask[slots] = masks
        return slots

    def release(self, slots: NDArray[np.int64]) -> None:
        """Free slots; -1 stands for none."""
        if slots.max() >= 0:
            used = slots[slots >= 0]
            self._free[self._left : self._left + len(used)] = used
            self._left += len(used)

    def state_dict(self) -> dict[str, Any]:
        """Observations, free slots, and masks if there are any."""
        masks = {} if self.mask is None else {"mask": self.mask.copy()}
        return {"obs": self.obs.copy(), "free": self._free.copy(), "left": self._left, **masks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.obs, self._free = np.array(state["obs"]), np.array(state["free"])
        self._left = int(state["left"])
        self.mask = np.array(state["mask"]) if "mask" in state else None
