"""Fragments of the groups put side by side, as if one process had stepped all environments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.rollout.feedback import map_state
from dynarl.rollout.fragment import Fragment

__all__ = ["FragmentAssembler"]


class FragmentAssembler:
    """Copies fragments [T, n, ...] of `groups` groups into one [T, groups * n, ...], in whatever order they arrive."""

    def __init__(self, groups: int, envs_per_group: int) -> None:
        self._groups, self._each = groups, envs_per_group
        self._merged: Fragment | None = None
        self._parts: dict[int, Fragment] = {}

    def place(self, group: int, fragment: Fragment) -> None:
        """Copy a group's rows to their place; its other parts are read by `finish`."""
        if self._merged is None:
            self._merged = Fragment()
        columns = slice(group * self._each, (group + 1) * self._each)
        for name, array in fragment.items():
            if name not in self._merged:
                shape = (array.shape[0], self._groups * self._each, *array.shape[2:])
                dict.__setitem__(self._merged, name, np.zeros(shape, array.dtype))
            self._merged[name][:, columns] = array
        self._parts[group] = fragment

    def finish(self, step: int, version: int) -> Fragment:
        """Return the whole, whose memory the next one reuses; every group must have been placed."""
        assert self._merged is not None and len(self._parts) == self._groups
        merged, parts = self._merged, [self._parts[group] for group in range(self._groups)]
        merged.env_ids = np.arange(self._groups * self._each)
        merged.first_step, merged.policy_version = step, version
        merged.last_obs = np.concatenate([part.last_obs for part in parts])
        merged.final_index = np.concatenate([self._shifted(i, part.final_index) for i, part in enumerate(parts)])
        merged.final_obs = np.concatenate([part.final_obs for part in parts])
        merged.episode_return = np.concatenate([part.episode_return for part in parts])
        merged.episode_length = np.concatenate([part.episode_length for part in parts])
        if hasattr(parts[0], "states"):
            self._finish_stateful(merged, parts)
        self._parts = {}
        return merged

    def _finish_stateful(self, merged: Fragment, parts: list[Fragment]) -> None:
        merged.states = map_state(lambda *leaves: np.concatenate(leaves, axis=1), *(part.states for part in parts))
        merged.first_action = np.concatenate([part.first_action for part in parts])
        merged.first_reward = np.concatenate([part.first_reward for part in parts])
        first: Any = parts[0].paths
        merged.paths = None if first is None else first.concatenate([part.paths for part in parts], axis=1)

    def _shifted(self, group: int, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (t, n) of a group as (t, n) of all environments."""
        return index + np.array([0, group * self._each])
