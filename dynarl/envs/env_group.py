"""Some of a run's environments: those of one worker, or all of them as the process that only learns sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.envs.info import InfoFields
from dynarl.envs.observations import observation_layout
from dynarl.envs.protocol import Environments

__all__ = ["EnvGroup", "RemoteEnvironments"]


@dataclass(frozen=True, kw_only=True)
class EnvGroup:
    """The environments `env_ids` of a run, made of `env` as `dynarl.envs.make` does.

    Wherever an environment can be given, a Part can be too. Episodes are seeded by `purpose` and the ids, so that
    parts in several processes see what all of them would in one. With ``here=False`` other processes step them.
    """

    env: Any
    env_ids: tuple[int, ...]
    purpose: str = "reset"
    here: bool = True


class RemoteEnvironments:
    """Stands for environments that other processes step: their number, ids and spaces, and nothing that acts."""

    def __init__(self, one: Environments, env_ids: tuple[int, ...]) -> None:
        """Describe environments like `one`."""
        layout = observation_layout(one.observation_space)
        self.num_envs, self.env_ids = len(env_ids), np.array(env_ids, np.int64)
        self.observation_space, self.action_space = one.observation_space, one.action_space
        self.obs: NDArray[Any] = np.zeros((self.num_envs, *layout.shape), layout.dtype)
        self.episode_start = np.ones(self.num_envs, np.bool_)
        self.exact_state = one.exact_state
        self.action_mask: NDArray[np.bool_] | None = None
        self.next_action_mask: NDArray[np.bool_] | None = None
        self.info: InfoFields | None = None

    def ask_info(self, names: Any) -> None:
        """Leave it to the workers."""

    def reset(self) -> Any:
        """Leave it to the workers, which look at the first observations as well."""
        return self.obs

    def step(self, action: Any) -> Any:
        """Raise RuntimeError."""
        raise RuntimeError("environments: the workers of this run step them, step() is not for this process")

    def close(self) -> None:
        """Do nothing: the workers close their environments."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the workers have the states."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: the workers have the states."""
