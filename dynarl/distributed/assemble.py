"""Joins the fragments of all groups into one, as if one process had stepped all environments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.rollout.feedback import map_state
from dynarl.rollout.fragment import Fragment

__all__ = ["FragmentAssembler"]


class FragmentAssembler:
    """Copies fragments [T, n, ...] of `groups` groups into one [T, groups * n, ...], in any order of arrival."""

    def __init__(self, groups: int, envs_per_group: int) -> None:
        self._groups, self._each = groups, envs_per_group
        self._whole: Fragment | None = None
        self._parts: dict[int, Fragment] = {}

    def place(self, group: int, fragment: Fragment) -> None:
        """Copy the rows of a group to their columns. `finish` reads the other attributes of the fragment."""
        if self._whole is None:
            self._whole = Fragment()
        columns = slice(group * self._each, (group + 1) * self._each)
        for name, array in fragment.items():
            if name not in self._whole:
                shape = (array.shape[0], self._groups * self._each, *array.shape[2:])
                dict.__setitem__(self._whole, name, np.zeros(shape, array.dtype))
            self._whole[name][:, columns] = array
        self._parts[group] = fragment

    def finish(self, step: int, version: int) -> Fragment:
        """Return the joined fragment, whose memory the next one reuses. Every group must have been placed."""
        assert self._whole is not None and len(self._parts) == self._groups
        whole, parts = self._whole, [self._parts[group] for group in range(self._groups)]
        whole.env_ids = np.arange(self._groups * self._each)
        whole.first_step, whole.policy_version = step, version
        whole.last_obs = np.concatenate([part.last_obs for part in parts])
        whole.final_index = np.concatenate([self._shifted(i, part.final_index) for i, part in enumerate(parts)])
        whole.final_obs = np.concatenate([part.final_obs for part in parts])
        whole.episode_return = np.concatenate([part.episode_return for part in parts])
        whole.episode_length = np.concatenate([part.episode_length for part in parts])
        if hasattr(parts[0], "states"):
            self._finish_stateful(whole, parts)
        self._parts = {}
        return whole

    def _finish_stateful(self, whole: Fragment, parts: list[Fragment]) -> None:
        whole.states = map_state(lambda *leaves: np.concatenate(leaves, axis=1), *(part.states for part in parts))
        whole.first_action = np.concatenate([part.first_action for part in parts])
        whole.first_reward = np.concatenate([part.first_reward for part in parts])
        first: Any = parts[0].paths
        whole.paths = None if first is None else first.concatenate([part.paths for part in parts], axis=1)

    def _shifted(self, group: int, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return indices (t, n) within a group as indices (t, n) over all environments."""
        return index + np.array([0, group * self._each])
