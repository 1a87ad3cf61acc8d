"""Any gymnasium `VectorEnv`, in each of the three autoreset modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array
from numpy.typing import NDArray

from dynarl.envs.cartpole import ResettableCartPole
from dynarl.envs.exact_state import has_exact_vector_state, load_vector_state, vector_state
from dynarl.envs.info import InfoFields
from dynarl.envs.masks import KEY, METHOD, MaskSource, flat_mask
from dynarl.envs.protocol import EpisodeTracker, Step
from dynarl.envs.statistics import load_statistics, members_of, statistics_of
from dynarl.seeding import derive_seed

__all__ = ["VectorEnvironments"]


class VectorEnvironments:
    """A vector environment as `dynarl.envs.Environments`.

    DISABLED: dynarl resets with ``options={"reset_mask": ...}`` and one seed per episode if the environment takes a
    list of seeds, as gymnasium's do. SAME_STEP: the true successor is ``infos["final_obs"]``. NEXT_STEP: the row after
    an episode's end is the reset; it is returned with ``valid`` False, reward and flags 0. Raises ValueError if the
    environment does not declare its mode.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        *,
        seed: int = 0,
        purpose: str = "reset",
        env_ids: Any = None,
    ) -> None:
        self._env = env
        self._mode = _autoreset_mode(env)
        self._tracker = EpisodeTracker(
            env.single_observation_space,
            env.single_action_space,
            num_envs=env.num_envs,
            seed=seed,
            purpose=purpose,
            env_ids=env_ids,
        )
        self.num_envs: int = env.num_envs
        self.env_ids = self._tracker.env_ids
        self.observation_space = env.single_observation_space
        self.action_space = env.single_action_space
        self.exact_state = has_exact_vector_state(env)
        self.spec = env.spec
        self.episode_start = np.ones(self.num_envs, np.bool_)
        inner = env.unwrapped
        self._seed_list = isinstance(inner, SyncVectorEnv | AsyncVectorEnv | ResettableCartPole)
        self._running = np.zeros(self.num_envs, np.bool_)
        self._running.flags.writeable = False
        # [N] where the next step of a NEXT_STEP environment is a reset; None if nowhere.
        self._resetting: NDArray[np.bool_] | None = None
        self.info: InfoFields | None = None
        layout = self._tracker.layout
        self._shape = (self.num_envs, *layout.shape)
        self.obs: NDArray[Any] = np.empty(self._shape, layout.dtype)
        self._call_masks = _mask_caller(env)
        self._masks = MaskSource(self.action_space, self.num_envs, has_method=self._call_masks is not None)
        self.action_mask: NDArray[np.bool_] | None = None
        self.next_action_mask: NDArray[np.bool_] | None = None

    @property
    def members(self) -> list[Any]:
        """The Gymnasium environments: single ones where they are at hand, else the vector environment."""
        return members_of(self._env)

    def ask_info(self, names: Sequence[str]) -> None:
        """Read these numeric fields of the environments' info dicts from the next `reset` on."""
        self.info = InfoFields(names, self.num_envs) if names else None

    def reset(self) -> NDArray[Any]:
        """Start new episodes everywhere and return the observations, [N, ...]."""
        self._tracker.begin(slice(None))
        obs, infos = self._env.reset(seed=self._seeds(np.ones(self.num_envs, np.bool_)))
        self.obs = self._own(obs, ", reset")
        self._masks.settle(infos)
        self.action_mask = self._read_masks(infos, ", reset")
        self._tracker.check_obs(self.obs)
        self._fields_of_reset(range(self.num_envs), infos)
        self.episode_start = np.ones(self.num_envs, np.bool_)
        self._resetting = None
        return self.obs

    def step(self, action: Any) -> Step:
        """Act in every environment with the policy's actions [N, ...].

        Raises ValueError naming environment, step and field for an observation, reward or flag that does not fit.
        """
        tracker = self._tracker
        actions = tracker.actions(action)
        if isinstance(actions, list):  # N nested actions -> nested arrays [N, ...], as vector environments take them
            memory: Any = create_empty_array(self.action_space, self.num_envs)
            actions = concatenate(self.action_space, actions, memory)
        try:
            obs, reward, terminated, truncated, infos = self._env.step(actions)
        except Exception as error:
            error.add_note(f"in {tracker.where()}")
            raise
        obs = self._own(obs)
        reward = self._numbers(reward)
        terminated = self._flags(terminated, "terminated")
        truncated = self._flags(truncated, "truncated")
        if self.info is not None:
            self._fields_of_step(infos, terminated | truncated)
        self.action_mask = self.next_action_mask = self._read_masks(infos, default=self._masks.empty())
        if self._mode is AutoresetMode.NEXT_STEP:
            return self._step_of_next_step(obs, reward, terminated, truncated)
        next_obs = obs
        if self._mode is AutoresetMode.SAME_STEP and (np.count_nonzero(terminated) or np.count_nonzero(truncated)):
            next_obs = self._true_successor(obs, terminated | truncated, infos)
            self.next_action_mask = self._final_masks(truncated & ~terminated, infos)
        step, ended = tracker.record(next_obs, reward, terminated, truncated)
        if ended is None:
            self.obs, self.episode_start = obs, self._running
            return step
        tracker.begin(ended)
        self.episode_start = terminated | truncated
        self.obs = obs
        if self._mode is AutoresetMode.DISABLED:
            first, infos = self._env.reset(
                seed=self._seeds(self.episode_start), options={"reset_mask": self.episode_start.copy()}
            )
            first = self._own(first, ", reset")
            self.action_mask = self._read_masks(infos, ", reset", default=self.action_mask)
            self.obs = next_obs.copy()
            self.obs[ended] = first[ended]
            self._fields_of_reset(ended.tolist(), infos)
        elif self._mode is AutoresetMode.SAME_STEP:
            self._fields_of_reset(ended.tolist(), infos)
        tracker.check_obs(self.obs)
        return step

    def close(self) -> None:
        """Close the vector environment."""
        self._env.close()

    def state_dict(self) -> dict[str, Any]:
        """Counters, current observations and, if it is exact, the environments' state."""
        state: dict[str, Any] = {
            "ledger": self._tracker.state_dict(),
            "obs": self.obs.copy(),
            "episode_start": self.episode_start.copy(),
            "resetting": self._running.copy() if self._resetting is None else self._resetting.copy(),
            "exact": self.exact_state,
        }
        if self.info is not None:
            state["info"] = self.info.state_dict()
        if self.action_mask is not None:
            state["action_mask"] = self.action_mask.copy()
        if statistics := statistics_of(self.members):
            state["statistics"] = statistics
        if self.exact_state:
            state["env"] = vector_state(self._env)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Continue from `state_dict`; return whether the episodes continue.

        They do with ``exact_state``. Otherwise, and from the state of single environments, as an earlier version wrote
        it for some ids, every environment starts its next episode.
        """
        self._tracker.load_state_dict(state["ledger"])
        exact = bool(self.exact_state and state["exact"] and "env" in state)
        if not exact:
            load_statistics(self.members, state.get("statistics", {}))
            self.reset()
            return False
        everywhere = np.ones(self.num_envs, np.bool_)
        _, infos = self._env.reset(seed=self._seeds(everywhere))
        self._masks.settle(infos)
        self.action_mask = np.array(state["action_mask"]) if "action_mask" in state else None
        self.obs = np.array(state["obs"])
        load_vector_state(self._env, state["env"], self.obs)
        load_statistics(self.members, state.get("statistics", {}))  # after the reset, which changes them
        self.episode_start = np.array(state["episode_start"])
        if self.info is not None:
            self.info.load_state_dict(state["info"])
        resetting = np.array(state["resetting"])
        self._resetting = resetting if resetting.any() else None
        return True

    def _step_of_next_step(
        self,
        obs: NDArray[Any],
        reward: NDArray[np.float64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
    ) -> Step:
        resetting, valid = self._resetting, None
        if resetting is not None:
            valid = ~resetting
            reward[resetting] = 0.0
            terminated &= valid
            truncated &= valid
        step, ended = self._tracker.record(obs, reward, terminated, truncated, valid)
        self.obs = obs
        self.episode_start = self._running if resetting is None else resetting
        if resetting is not None:
            self._tracker.begin(resetting)
        self._resetting = None if ended is None else terminated | truncated
        return step

    def _fields_of_step(self, infos: Any, ended: NDArray[np.bool_]) -> None:
        """Read the fields of the states reached; reset rows of a NEXT_STEP environment are first observations."""
        fields, where = self.info, self._tracker.where
        assert fields is not None
        fields.begin_step()
        final = infos.get("final_info", {}) if self._mode is AutoresetMode.SAME_STEP else {}
        for i in range(self.num_envs):
            if self._resetting is not None and self._resetting[i]:
                fields.reset(i, fields.of_vector(infos, i), where)
            else:
                source = final if ended[i] and self._mode is AutoresetMode.SAME_STEP else infos
                fields.step(i, fields.of_vector(source, i), where)

    def _fields_of_reset(self, which: Any, infos: Any) -> None:
        if self.info is not None:
            for i in which:
                self.info.reset(i, self.info.of_vector(infos, i), self._tracker.where)

    def _true_successor(self, obs: NDArray[Any], ended: NDArray[np.bool_], infos: Any) -> NDArray[Any]:
        next_obs = obs.copy()
        final = infos.get("final_obs")
        for i in np.flatnonzero(ended).tolist():
            if final is None or final[i] is None:
                raise ValueError(
                    f"{self._tracker.where(i)}: infos['final_obs'] must have the last observation of an episode that "
                    "ended in autoreset mode SAME_STEP, got none"
                )
            next_obs[i] = self._tracker.coerce(final[i], (), f"{self._tracker.where(i)}, final_obs")
        return next_obs

    def _read_masks(
        self, infos: Any, when: str = "", default: NDArray[np.bool_] | None = None
    ) -> NDArray[np.bool_] | None:
        """Return the masks [N, M] after a reset or step; ``default`` for environments without one in `infos`."""
        where = self._tracker.where() + when
        if self._call_masks is not None:
            return self._masks.all(self._call_masks(), where)
        if self._masks.kind is None:
            return None
        given = infos.get(KEY)
        if given is None and default is None:
            raise ValueError(f"{where}: infos must have {KEY!r}, as in the first reset; set it at every step")
        said = infos.get("_" + KEY, np.ones(self.num_envs, np.bool_))
        if default is not None:  # infos may cover some environments only, if others were reset
            given = [given[i] if given is not None and said[i] else None for i in range(self.num_envs)]
        return self._masks.all(given, where, default)

    def _final_masks(self, bootstrapped: NDArray[np.bool_], infos: Any) -> NDArray[np.bool_] | None:
        """Return the masks at the true successors: SAME_STEP keeps those of ended episodes in ``final_info``."""
        masks = self.action_mask
        if masks is None:
            return None
        masks = masks.copy()
        given = (infos.get("final_info") or {}).get(KEY)
        for i in np.flatnonzero(bootstrapped).tolist():
            masks[i] = True if given is None else flat_mask(self.action_space, given[i], self._tracker.where(i))
        return masks

    def _seeds(self, which: NDArray[np.bool_]) -> Any:
        """Return seeds of the new episodes: a list, or one number if the environment takes one."""
        tracker = self._tracker
        if self._seed_list:
            seeds: list[int | None] = [None] * self.num_envs
            for i in np.flatnonzero(which).tolist():
                seeds[i] = tracker.episode_seed(i)
            return seeds
        if not which.all():
            return None
        return derive_seed(
            tracker.seed, tracker.purpose + "-vector", *self.env_ids.tolist(), int(tracker.episode.sum())
        )

    def _own(self, obs: Any, when: str = "") -> NDArray[Any]:
        """Return a copy of the environment's observations, whose buffers may change in the next step."""
        layout = self._tracker.layout
        if type(obs) is np.ndarray and obs.dtype is layout.dtype and obs.shape == self._shape:
            return np.array(obs, order="C")
        return self._tracker.coerce(obs, (self.num_envs,), self._tracker.where() + when)

    def _numbers(self, reward: Any) -> NDArray[np.float64]:
        array = np.asarray(reward)
        if array.shape != (self.num_envs,) or array.dtype.kind not in "fiub":
            self._refuse(array, "reward", "numbers")
        return array.astype(np.float64)

    def _flags(self, flags: Any, field: str) -> NDArray[np.bool_]:
        array = np.asarray(flags)
        if array.shape != (self.num_envs,) or array.dtype.kind != "b":
            self._refuse(array, field, "bool")
        return array.copy()

    def _refuse(self, array: NDArray[Any], field: str, kind: str) -> None:
        raise ValueError(
            f"{self._tracker.where()}: {field} must be {kind} of shape ({self.num_envs},), "
            f"got {array.dtype} of shape {array.shape}"
        )


def _mask_caller(env: VectorEnv[Any, Any, Any]) -> Any:
    """Return a function that asks the environments for their masks, None if they have no such method."""
    inner = env.unwrapped
    if isinstance(inner, SyncVectorEnv):
        known = all(one.has_wrapper_attr(METHOD) for one in inner.envs)
        return (lambda: inner.call(METHOD)) if known else None
    if isinstance(inner, AsyncVectorEnv):
        return None  # a call of a missing method would end the subprocess, so only infos are read
    method = getattr(inner, METHOD, None)
    return method if callable(method) else None


def _autoreset_mode(env: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    mode = env.metadata.get("autoreset_mode")
    try:
        return mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
    except ValueError:
        pass
    raise ValueError(
        f"{type(env.unwrapped).__name__}: a vector environment must declare its autoreset mode, "
        f"metadata['autoreset_mode'] is {mode!r}. Set it to a gymnasium.vector.AutoresetMode: DISABLED "
        "(the caller resets, with options={'reset_mask': ...}), SAME_STEP (the step that ends an episode "
        "returns the first observation of the next, infos['final_obs'] has the last) or NEXT_STEP (the "
        "following step resets). A wrong guess would train on transitions that never happened."
    )
