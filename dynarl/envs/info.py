"""Named numbers from the `info` dicts of environments, for policies that declare them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["InfoFields"]


class InfoFields:
    """The declared fields of N environments, float32 [N] each.

    ``now`` belongs to the current observation, ``reached`` to the state that the last step reached, before any reset:
    they differ where an episode ended. A step must have every field; a reset may omit it (the value is then 0), since
    few environments report anything there.
    """

    def __init__(self, names: Sequence[str], num_envs: int) -> None:
        if len(set(names)) != len(names) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"info_fields: must be distinct strings, got {list(names)}")
        self.names, self.num_envs = tuple(names), num_envs
        self.now = self.reached = self._zeros()

    def _zeros(self) -> dict[str, NDArray[np.float32]]:
        return {name: np.zeros(self.num_envs, np.float32) for name in self.names}

    def begin_step(self) -> None:
        """Start a new step: discard the fields of the last one."""
        self.now = self.reached = self._zeros()

    def step(self, i: int, info: Mapping[str, Any], where: Callable[[int], str]) -> None:
        """Read the fields of environment i's step; raises ValueError for one that is missing or not a number."""
        for name, column in self.reached.items():
            if name not in info:
                raise ValueError(
                    f"{where(i)}: the policy requires info[{name!r}], the step's info has {sorted(map(str, info))}"
                )
            column[i] = self._number(name, info[name], i, where)

    def reset(self, i: int, info: Mapping[str, Any], where: Callable[[int], str]) -> None:
        """Read the fields of environment i's first observation."""
        if self.now is self.reached:
            self.now = {name: column.copy() for name, column in self.reached.items()}
        for name, column in self.now.items():
            column[i] = self._number(name, info[name], i, where) if name in info else 0.0

    def _number(self, name: str, value: Any, i: int, where: Callable[[int], str]) -> float:
        array = np.asarray(value)
        if array.ndim or array.dtype.kind not in "fiub" or not np.isfinite(array):
            raise ValueError(f"{where(i)}: info[{name!r}] must be one finite number, got {value!r}")
        return float(array)

    def of_vector(self, infos: Mapping[str, Any], i: int) -> dict[str, Any]:
        """Return the fields of environment i from a vector environment's infos."""
        masks = {name: infos.get("_" + name) for name in self.names if name in infos}
        return {name: infos[name][i] for name, mask in masks.items() if mask is None or mask[i]}

    def state_dict(self) -> dict[str, Any]:
        """The fields of the current observation."""
        return {name: column.copy() for name, column in self.now.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.now = self.reached = {name: np.array(state[name], np.float32) for name in self.names}
