"""A group of a run's environments, and the stand-in for environments that run in other processes."""

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
    """The environments `env_ids` of a run, made from `env` as by `dynarl.envs.make`.

    A group can be given wherever an environment can. Episodes are seeded by `purpose` and the ids, so groups in several
    processes have the same episodes as one process with all environments. With ``here=False`` other processes step
    them.
    """

    env: Any
    env_ids: tuple[int, ...]
    purpose: str = "reset"
    here: bool = True


class RemoteEnvironments:
    """Number, ids and spaces of environments that other processes step."""

    def __init__(self, one: Environments, env_ids: tuple[int, ...]) -> None:
        """Take the spaces of `one`."""
        layout = observation_layout(one.observation_space)
        self.num_envs, self.env_ids = len(env_ids), np.array(env_ids, np.int64)
        self.observation_space, self.action_space = one.observation_space, one.action_space
        self.obs: NDArray[Any] = np.zeros((self.num_envs, *layout.shape), layout.dtype)
        self.episode_start = np.ones(self.num_envs, np.bool_)
        self.exact_state = one.exact_state
        self.action_mask: NDArray[np.bool_] | None = None
        self.next_action_mask: NDArray[np.bool_] | None = None
        self.info: InfoFields | None = None

    @property
    def members(self) -> list[Any]:
        """An empty list: the workers have the environments."""
        return []

    def ask_info(self, names: Any) -> None:
        """Do nothing: the workers read the fields."""

    def reset(self) -> Any:
        """Return placeholder observations: the workers reset their environments."""
        return self.obs

    def step(self, action: Any) -> Any:
        """Raise RuntimeError."""
        raise RuntimeError("step: this run's environments are in its workers and cannot be stepped here")

    def close(self) -> None:
        """Do nothing: the workers close their environments."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty dict: the workers have the states."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Do nothing: the workers have the states."""
        return True
