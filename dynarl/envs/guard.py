"""Replaces single environments that fail, and records how to reproduce the failure."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import gymnasium
import numpy as np

from dynarl.envs.observations import observation_layout

__all__ = ["EnvironmentFailure", "Guarded", "check_step", "explained_unpacking", "reset_result"]

_MAX_FAILURES = 5


@dataclass(kw_only=True)
class EnvironmentFailure:
    """An exception in an environment, or a value outside its spaces, with the data to reproduce it.

    The episode begins with a reset with `episode_seed`, then `actions` are made (in the form of the action space's
    ``to_jsonable``). The failure occurs at the last one, or in the reset if there are none.
    """

    environment: int
    episode: int
    episode_seed: int
    message: str
    traceback: str
    actions: list[Any]
    from_reset: bool = True
    """False if the run was resumed within the episode, so that `actions` are only its last ones."""


class Guarded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Wraps an environment so that a failure ends the episode instead of the process.

    After a failure, `failed` is True until the next reset, `step` returns the last observation again, and `rebuild`
    makes a new environment. If a reset fails, it is tried once more in a new environment. Raises after 5 failures
    without a finished episode in between.
    """

    def __init__(
        self, rebuild: Callable[[], gymnasium.Env[Any, Any]], env: gymnasium.Env[Any, Any] | None = None
    ) -> None:
        super().__init__(rebuild() if env is None else env)
        self._rebuild = rebuild
        self._layout = observation_layout(self.observation_space)
        self._obs: Any = None
        self._info: dict[str, Any] = {}
        self._actions: list[Any] = []
        self._seed = 0
        self._in_a_row = 0
        self.failed, self.from_reset = False, True
        self.failures: list[EnvironmentFailure] = []
        self.identify: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Returns the environment's number and that of its episode."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step; after a failure, return the last observation with reward 0."""
        self._actions.append(action)
        try:
            obs, reward, terminated, truncated, info = self.env.step(action)
            check_step(self._layout, obs, reward, terminated, truncated)
        except Exception as error:
            self._fail(explained_unpacking(error))
            return self._obs, 0.0, False, False, self._info
        if terminated or truncated:
            self._in_a_row = 0
        self._obs, self._info = obs, info
        return obs, reward, terminated, truncated, info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset; after a failure, make a new environment and reset that."""
        self.failed, self.from_reset, self._actions, self._seed = False, True, [], seed or 0
        try:
            obs, info = reset_result(self.env.reset(seed=seed, options=options))
            check_step(self._layout, obs)
        except Exception as error:
            self._fail(error)
            self.failed = False
            obs, info = reset_result(self.env.reset(seed=seed, options=options))
        self._obs, self._info = obs, info
        return obs, info

    def _fail(self, error: Exception) -> None:
        environment, episode = self.identify()
        self._in_a_row += 1
        if self._in_a_row >= _MAX_FAILURES:
            error.add_note(f"environment {environment} failed in {self._in_a_row} episodes without finishing one")
            raise error
        self.failures.append(
            EnvironmentFailure(
                environment=environment,
                episode=episode,
                episode_seed=self._seed,
                message=f"{type(error).__name__}: {error}",
                traceback=traceback.format_exc(),
                actions=list(self.action_space.to_jsonable(self._actions)),
                from_reset=self.from_reset,
            )
        )
        self.failed = True
        with contextlib.suppress(Exception):
            self.env.close()
        self.env = self._rebuild()


_OLD = "as Gymnasium's do since 0.26; environments of the old API are wrapped by shimmy"


def reset_result(result: Any) -> tuple[Any, dict[str, Any]]:
    """Return (obs, info), what `reset` returned; raises ValueError for anything else."""
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
        raise ValueError(f"reset: the environment's reset() must return (obs, info), {_OLD}; got {result!r}")
    return result


def explained_unpacking(error: Exception) -> Exception:
    """Return the error of a `step` whose result could not be unpacked, in terms of Gymnasium's API; others as they are.

    An error without a deeper frame was raised where the result was unpacked, not by the environment.
    """
    here = error.__traceback__ is not None and error.__traceback__.tb_next is None
    if not here or not isinstance(error, ValueError | TypeError) or "unpack" not in str(error):
        return error
    return ValueError(
        f"step: the environment's step() must return (obs, reward, terminated, truncated, info), {_OLD}: {error}"
    )


def check_step(layout: Any, obs: Any, reward: Any = 0.0, terminated: Any = False, truncated: Any = False) -> None:
    """Raise ValueError for results that do not fit the spaces; `layout` is that of the observations."""
    if layout.pack is None:
        array = np.asarray(obs)
        if array.shape != layout.shape or not np.can_cast(array.dtype, layout.dtype, "same_kind"):
            raise ValueError(
                f"obs must be {layout.dtype} of shape {layout.shape} as its space says, got {array.dtype} of "
                f"shape {array.shape}"
            )
    else:
        array = layout.pack(obs, ())
    if isinstance(array, np.ndarray) and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"obs must be finite, got {obs!r}")
    if isinstance(reward, str) or reward is None or np.ndim(reward) or not isfinite(reward):
        raise ValueError(f"reward must be one finite number, got {reward!r}")
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, bool | np.bool_):
            raise ValueError(f"{name} must be a bool, got {flag!r}")
