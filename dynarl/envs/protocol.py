"""The interface of environments to agents, and the bookkeeping shared by all kinds of environments."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from dynarl.envs.bounds import element_name, stored_bounds
from dynarl.envs.info import InfoFields
from dynarl.envs.observations import observation_layout
from dynarl.envs.ragged_spaces import split_batch
from dynarl.envs.spaces import action_layout, env_action_map, integer_range
from dynarl.ragged_rows import row_array
from dynarl.seeding import derive_seed

__all__ = ["Environments", "EpisodeTracker", "Step"]

NOTHING: Mapping[str, NDArray[Any]] = MappingProxyType({})


class Step(NamedTuple):
    """One transition of N environments. The caller may keep the arrays, but not write to them.

    ``next_obs`` [N, ...] is the state reached, before any reset. ``valid[i]`` False marks the dummy row that a vector
    environment makes while it resets: nothing in that row may be used. ``info`` is empty unless episodes ended; then it
    has ``env`` [K], ``episode_return`` [K] and ``episode_length`` [K] of those.
    """

    next_obs: NDArray[Any]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    info: Mapping[str, NDArray[Any]]


class Environments(Protocol):
    """N environments stepped together, whatever their implementation.

    ``obs`` is the observation to act on, ``episode_start`` marks where it is the first of its episode. `step` takes the
    policy's actions (see `dynarl.envs.spaces.action_layout`), clips or shifts them for the environment, and resets
    episodes that ended, except where a vector environment does so in a separate step (``Step.valid``).

    ``action_mask`` [N, M] are the actions allowed at ``obs`` (see `dynarl.envs.masks`), ``next_action_mask`` those at
    the last step's ``next_obs``, before any reset. Both are None if the environments have no masks, which is known
    after the first `reset`. The caller may keep them.
    """

    num_envs: int
    observation_space: Space[Any]
    action_space: Space[Any]
    obs: NDArray[Any]
    episode_start: NDArray[np.bool_]
    env_ids: NDArray[np.int64]
    exact_state: bool
    action_mask: NDArray[np.bool_] | None
    next_action_mask: NDArray[np.bool_] | None
    info: InfoFields | None
    """The fields of `ask_info`; None if none were requested."""

    @property
    def members(self) -> list[Any]:
        """The Gymnasium environments of this process; empty if other processes have them."""
        ...

    def ask_info(self, names: Sequence[str]) -> None:
        """Read these numeric fields of the environments' info dicts from the next `reset` on."""
        ...

    def reset(self) -> NDArray[Any]:
        """Start new episodes everywhere and return the observations."""
        ...

    def step(self, action: Any) -> Step:
        """Act in every environment."""
        ...

    def close(self) -> None:
        """Release what the environments hold."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes: nested dicts of arrays and JSON scalars."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Continue from `state_dict`, exactly if ``exact_state``; return False where new episodes begin instead."""
        ...


_CHECK_STEPS = 64
"""Observations are checked against their bounds in each of the first 64 steps, then in every 64th."""


class EpisodeTracker:
    """Seeds, episode counts and returns of N environments, and the checks of their results.

    Episode k of environment i is reset with a seed keyed by (seed, purpose, environment id, k). ``step`` counts calls;
    an episode's length is counted from ``start`` [N].
    """

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        *,
        num_envs: int,
        seed: int,
        purpose: str,
        env_ids: Any = None,
    ) -> None:
        self.layout = observation_layout(observation_space)
        self.action_shape, self.action_dtype = action_layout(action_space)
        self.map_action: Callable[[NDArray[Any]], Any] = env_action_map(action_space)
        ids = np.arange(num_envs) if env_ids is None else np.asarray(env_ids)
        if ids.shape != (num_envs,) or len(set(ids.tolist())) != num_envs or ids.min() < 0:
            raise ValueError(f"env_ids: must be {num_envs} distinct non-negative integers, got {ids.tolist()}")
        self.env_ids = ids.astype(np.int64)
        self.num_envs = num_envs
        self.seed, self.purpose = seed, purpose
        self.step = 0
        self.episode = np.full(num_envs, -1, np.int64)
        self.start = np.zeros(num_envs, np.int64)
        self.returns = np.zeros(num_envs, np.float64)
        self._all_valid = np.ones(num_envs, np.bool_)
        self._all_valid.flags.writeable = False
        self._floating = np.issubdtype(self.layout.dtype, np.floating)
        self._range = integer_range(self.layout.space)
        self._space = observation_space
        self._bounds = stored_bounds(observation_space)

    def episode_seed(self, i: int) -> int:
        """The seed of the episode that environment i is in."""
        return derive_seed(self.seed, self.purpose, int(self.env_ids[i]), int(self.episode[i]))

    def begin(self, which: Any) -> None:
        """Start the next episode in the environments at ``which`` (indices or a mask)."""
        self.episode[which] += 1
        self.start[which] = self.step
        self.returns[which] = 0.0

    def actions(self, action: Any) -> Any:
        """Check the policy's actions [N, ...] and convert them to the environment's."""
        if self.step == 0 and self.episode[0] < 0:
            raise RuntimeError("step: call reset() before the first step")
        action = np.asarray(action)
        shape = (self.num_envs, *self.action_shape)
        if action.shape != shape:
            raise ValueError(f"step: actions must have shape {shape}, got {action.shape}")
        if self.action_dtype.kind == "f":
            if not isfinite(np.vdot(action, action)):
                self._refuse_non_finite(action, "action")
        elif action.dtype.kind not in "iub":
            raise ValueError(f"step: actions of this space must be integers, got dtype {action.dtype}")
        return self.map_action(action)

    def record(
        self,
        next_obs: NDArray[Any],
        reward: NDArray[np.float64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        valid: NDArray[np.bool_] | None = None,
    ) -> tuple[Step, NDArray[np.int64] | None]:
        """Check a transition and count it; return it and the indices of the episodes it ended.

        A squared norm that is not finite is cheap to detect and almost always means NaN or inf; only then is every
        element checked. Rows where ``valid`` is False must have no reward and no episode end.
        """
        if self._floating and not isfinite(np.vdot(next_obs, next_obs)):
            self._refuse_non_finite(next_obs, "obs")
        elif self._range is not None:
            self._check_range(next_obs)
        if self._bounds is not None and (self.step < _CHECK_STEPS or self.step % _CHECK_STEPS == 0):
            self._check_bounds(next_obs)
        if not isfinite(np.vdot(reward, reward)):
            self._refuse_non_finite(reward, "reward")
        self.returns += reward
        self.step += 1
        valid = self._all_valid if valid is None else valid
        if not np.count_nonzero(terminated) and not np.count_nonzero(truncated):
            return Step(next_obs, reward, terminated, truncated, valid, NOTHING), None
        ended = np.flatnonzero(terminated | truncated)
        info = {
            "env": ended,
            "episode_return": self.returns[ended],
            "episode_length": self.step - self.start[ended],
        }
        return Step(next_obs, reward, terminated, truncated, valid, info), ended

    def check_obs(self, obs: NDArray[Any]) -> None:
        """Raise ValueError for observations of a reset that are NaN, infinite or outside a discrete space."""
        if self._floating and not isfinite(np.vdot(obs, obs)):
            self._refuse_non_finite(obs, "obs of reset")
        elif self._range is not None:
            self._check_range(obs)
        if self._bounds is not None:
            self._check_bounds(obs)

    def coerce(self, obs: Any, lead: tuple[int, ...], where: str) -> Any:
        """Convert an observation of the environment to the stored array [*lead, ...], or to a row of varying size."""
        layout = self.layout
        if layout.pack is not None:
            try:
                if layout.dtype != object or not lead:
                    return layout.pack(obs, lead)
                batch = list(split_batch(layout.space, obs, *lead))
            except (KeyError, IndexError, TypeError, ValueError) as error:
                if lead:
                    self._find_misfit(obs)
                raise ValueError(f"{where}: obs does not fit its space: {error}") from error
            each = (where.replace(self.where(), self.where(i)) for i in range(len(batch)))
            return row_array(self.coerce(one, (), place) for one, place in zip(batch, each))
        array = np.asarray(obs)
        if array.shape != (*lead, *layout.shape):
            raise ValueError(
                f"{where}: obs must have shape {(*lead, *layout.shape)} as its space says, got {array.shape}"
            )
        if not np.can_cast(array.dtype, layout.dtype, "same_kind"):
            raise ValueError(f"{where}: obs must have dtype {layout.dtype}, got {array.dtype}")
        return array.astype(layout.dtype, order="C")

    def where(self, i: int | None = None) -> str:
        """Return the name of an environment and of the step it is about to make."""
        if i is None:
            return f"environments {self.env_ids[0]}-{self.env_ids[-1]}, step {self.step}"
        return f"environment {self.env_ids[i]}, step {self.step}"

    def state_dict(self) -> dict[str, Any]:
        """Counters and sums; the seeds follow from them. Raises RuntimeError before the first reset."""
        if self.episode[0] < 0:
            raise RuntimeError("state_dict: the environments have no state yet, call reset() first")
        return {
            "step": self.step,
            "episode": self.episode.copy(),
            "start": self.start.copy(),
            "returns": self.returns.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue counting from `state_dict`; raises ValueError for another number of environments."""
        if len(state["episode"]) != self.num_envs:
            raise ValueError(
                f"load_state_dict: these are {self.num_envs} environments, the state is of {len(state['episode'])}"
            )
        self.step = int(state["step"])
        self.episode[:] = state["episode"]
        self.start[:] = state["start"]
        self.returns[:] = state["returns"]

    def _refuse_non_finite(self, array: NDArray[Any], field: str) -> None:
        bad = np.argwhere(~np.isfinite(array))
        if len(bad) == 0:  # the values are finite, their squared sum overflowed
            return
        i, *element = bad[0].tolist()
        place = element_name(self._space, element, field) if field.startswith("obs") else f"{field}{element or ''}"
        raise ValueError(
            f"{self.where(i)}: {place} must be finite, got {array[tuple(bad[0])]} "
            f"(episode {self.episode[i]}, reset with seed {self.episode_seed(i)})"
        )

    def _find_misfit(self, obs: Any) -> None:
        """Raise the error of the first environment whose observation does not fit, if the batch can be split."""
        try:
            each = list(split_batch(self._space, obs, self.num_envs))
        except (KeyError, IndexError, TypeError, ValueError):
            return
        for i, one in enumerate(each):
            self.coerce(one, (), self.where(i))

    def _check_bounds(self, obs: NDArray[Any]) -> None:
        """Warn once about an observation outside its Box: its values are usable, but the space is wrong."""
        assert self._bounds is not None
        low, high = self._bounds
        if not np.count_nonzero(obs < low) and not np.count_nonzero(obs > high):
            return
        self._bounds = None
        i, *element = np.argwhere((obs < low) | (obs > high))[0].tolist()
        at = tuple(element)
        warnings.warn(
            f"{self.where(i)}: {element_name(self._space, element)} is {obs[(i, *at)]}, outside its space, which goes "
            f"from {low[at]} to {high[at]}. The value is used unchanged; widen the space, or clip or rescale the "
            "observation (reported once)",
            stacklevel=2,
        )

    def _check_range(self, obs: NDArray[Any]) -> None:
        assert self._range is not None
        low, high = self._range
        bad = np.argwhere((obs < low) | (obs > high))
        if len(bad):
            i = int(bad[0][0])
            raise ValueError(f"{self.where(i)}: obs must lie in {self.layout.space}, got {obs[i]}")
