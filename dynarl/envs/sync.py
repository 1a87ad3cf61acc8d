"""Single gymnasium environments, stepped one after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from dynarl.envs.exact_state import env_state, has_exact_state, load_env_state
from dynarl.envs.guard import EnvironmentFailure, Guarded, explained_unpacking, reset_result
from dynarl.envs.info import InfoFields
from dynarl.envs.masks import METHOD, MaskSource
from dynarl.envs.protocol import EpisodeTracker, Step
from dynarl.envs.statistics import load_statistics, statistics_of

__all__ = ["SyncEnvironments"]


class SyncEnvironments:
    """A list of single environments; implements `dynarl.envs.Environments`.

    dynarl resets them, each episode with its own seed, so ``next_obs`` is always the true successor and there are no
    dummy rows. ``exact_state`` is True if the state of every environment can be restored to the bit
    (`dynarl.envs.exact_state`); otherwise loading a state starts the next episodes.
    """

    def __init__(
        self,
        envs: Sequence[gymnasium.Env[Any, Any]],
        *,
        seed: int = 0,
        purpose: str = "reset",
        env_ids: Any = None,
        rebuild: Callable[[], gymnasium.Env[Any, Any]] | None = None,
    ) -> None:
        """With `rebuild`, which makes a new environment, one that fails is replaced alone."""
        self._envs = list(envs)
        first = _check(self._envs)
        self.exact_state = all(has_exact_state(env) for env in self._envs)
        self.spec = first.spec
        self._guards: list[Guarded] = []
        if rebuild is not None:
            self._guards = [Guarded(rebuild, env) for env in self._envs]
            self._envs = list(self._guards)
        self._tracker = EpisodeTracker(
            first.observation_space,
            first.action_space,
            num_envs=len(self._envs),
            seed=seed,
            purpose=purpose,
            env_ids=env_ids,
        )
        for i, guard in enumerate(self._guards):
            guard.identify = partial(self._identify, i)
        self.num_envs = len(self._envs)
        self.env_ids = self._tracker.env_ids
        self.observation_space = first.observation_space
        self.action_space = first.action_space
        self.episode_start = np.ones(self.num_envs, np.bool_)
        self._running = np.zeros(self.num_envs, np.bool_)
        self._running.flags.writeable = False
        self._scalar_actions = self._tracker.action_shape == ()
        self.info: InfoFields | None = None
        self.obs: NDArray[Any] = self._empty()
        self._masks = MaskSource(self.action_space, self.num_envs, has_method=first.has_wrapper_attr(METHOD))
        self.action_mask: NDArray[np.bool_] | None = None
        self.next_action_mask: NDArray[np.bool_] | None = None

    @property
    def members(self) -> list[Any]:
        """The Gymnasium environments."""
        return [_bare(env) for env in self._envs]

    def ask_info(self, names: Sequence[str]) -> None:
        """Read these numeric fields of the environments' info dicts from the next `reset` on."""
        self.info = InfoFields(names, self.num_envs) if names else None

    def reset(self) -> NDArray[Any]:
        """Start new episodes everywhere and return the observations, [N, ...]."""
        obs = self._empty()
        self.action_mask = self._masks.empty()
        self._begin(range(self.num_envs), obs)
        self.obs, self.episode_start = obs, np.ones(self.num_envs, np.bool_)
        return obs

    def step(self, action: Any) -> Step:
        """Act in every environment with the policy's actions [N, ...] and reset those whose episode ended.

        Raises ValueError naming environment, step and field for an observation, reward or flag that does not fit; an
        exception of an environment gets a note with its number and episode seed.
        """
        tracker, layout = self._tracker, self._tracker.layout
        actions = tracker.actions(action)
        each: Any = list(actions) if self._scalar_actions and actions.dtype.kind == "i" else actions
        next_obs = self._empty()
        rewards: list[Any] = []
        terminations: list[Any] = []
        truncations: list[Any] = []
        dtype, shape, ndarray, i, fields = layout.dtype, layout.shape, np.ndarray, 0, self.info
        guards = self._guards
        if fields is not None:
            fields.begin_step()
        mask = self._masks.empty()
        try:
            for i, env in enumerate(self._envs):
                obs, reward, terminated, truncated, info = env.step(each[i])
                if fields is not None:
                    fields.step(i, info, tracker.where)
                if type(obs) is ndarray and obs.dtype is dtype and obs.shape == shape:
                    next_obs[i] = obs
                else:
                    next_obs[i] = tracker.coerce(obs, (), tracker.where(i))
                rewards.append(reward)
                terminations.append(terminated)
                truncations.append(truncated)
                if mask is not None and not terminated and not (guards and guards[i].failed):
                    # no action is taken in a terminal state
                    mask[i] = self._masks.one(env, info, tracker.where(i))
        except Exception as error:
            explained = explained_unpacking(error)
            explained.add_note(self._note(i))
            if explained is not error:
                raise explained from error
            raise
        transition, ended = tracker.record(
            next_obs,
            self._numbers(rewards),
            self._flags(terminations, "terminated"),
            self._flags(truncations, "truncated"),
            self._valid() if guards else None,
        )
        if guards and not transition.valid.all():
            ended = np.flatnonzero(transition.terminated | transition.truncated | ~transition.valid)
        self.action_mask = self.next_action_mask = mask
        if ended is None:
            self.obs, self.episode_start = next_obs, self._running
        else:
            self.action_mask = None if mask is None else mask.copy()
            self.obs = next_obs.copy()
            self.episode_start = transition.terminated | transition.truncated
            self.episode_start[ended] = True
            self._begin(ended.tolist(), self.obs)
        return transition

    def take_failures(self) -> list[EnvironmentFailure]:
        """Return the failures of replaced environments since the last call."""
        found = [failure for guard in self._guards for failure in guard.failures]
        for guard in self._guards:
            guard.failures = []
        return found

    def _valid(self) -> NDArray[np.bool_] | None:
        """Return where a step was made, None if everywhere."""
        failed = [guard.failed for guard in self._guards]
        return ~np.array(failed) if any(failed) else None

    def _identify(self, i: int) -> tuple[int, int]:
        return int(self.env_ids[i]), int(self._tracker.episode[i])

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()

    def state_dict(self) -> dict[str, Any]:
        """Counters, current observations and, if it is exact, each environment's state."""
        state: dict[str, Any] = {
            "ledger": self._tracker.state_dict(),
            "obs": self.obs.copy(),
            "episode_start": self.episode_start.copy(),
            "exact": self.exact_state,
        }
        if self.info is not None:
            state["info"] = self.info.state_dict()
        if self.action_mask is not None:
            state["action_mask"] = self.action_mask.copy()
        if statistics := statistics_of(self.members):
            state["statistics"] = statistics
        if self.exact_state:
            state["envs"] = {str(i): env_state(_bare(env)) for i, env in enumerate(self._envs)}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Continue from `state_dict`; return whether the episodes continue.

        With ``exact_state`` the same actions give the same bytes as without the interruption. Otherwise, and from the
        state of a vector environment, every environment starts its next episode.
        """
        self._tracker.load_state_dict(state["ledger"])
        exact = bool(self.exact_state and state["exact"] and "envs" in state)
        if not exact:
            load_statistics(self.members, state.get("statistics", {}))
            self.reset()
            return False
        for i, env in enumerate(self._envs):
            _, info = env.reset(seed=self._tracker.episode_seed(i))
            self._masks.settle(info)
            load_env_state(_bare(env), state["envs"][str(i)])
        load_statistics(self.members, state.get("statistics", {}))  # after the resets, which change them
        for guard in self._guards:
            guard.from_reset = False
        self.obs = np.array(state["obs"])
        self.episode_start = np.array(state["episode_start"])
        if self.info is not None:
            self.info.load_state_dict(state["info"])
        self.action_mask = np.array(state["action_mask"]) if "action_mask" in state else None
        return True

    def _begin(self, which: Any, obs: NDArray[Any]) -> None:
        """Reset the environments ``which`` and write their first observations to ``obs``."""
        tracker = self._tracker
        for i in which:
            tracker.begin(i)
            try:
                first, info = reset_result(self._envs[i].reset(seed=tracker.episode_seed(i)))
                if self.info is not None:
                    self.info.reset(i, info, tracker.where)
                obs[i] = tracker.coerce(first, (), f"{tracker.where(i)}, reset")
                self._masks.settle(info)
                if self.action_mask is None:
                    self.action_mask = self._masks.empty()
                if self.action_mask is not None:
                    self.action_mask[i] = self._masks.one(self._envs[i], info, f"{tracker.where(i)}, reset")
            except Exception as error:
                error.add_note(self._note(i))
                raise
        tracker.check_obs(obs)

    def _empty(self) -> NDArray[Any]:
        return np.empty((self.num_envs, *self._tracker.layout.shape), self._tracker.layout.dtype)

    def _numbers(self, rewards: list[Any]) -> NDArray[np.float64]:
        try:
            array = np.array(rewards, np.float64)
        except (TypeError, ValueError):
            array = np.empty(0)
        if array.shape != (self.num_envs,) or None in rewards or any(isinstance(r, str | bytes) for r in rewards):
            for i, reward in enumerate(rewards):
                if isinstance(reward, str | bytes) or reward is None or np.ndim(reward) != 0:
                    raise ValueError(f"{self._tracker.where(i)}: reward must be one number, got {reward!r}")
            raise ValueError(f"{self._tracker.where()}: rewards must be numbers, got {rewards!r}")
        return array

    def _flags(self, flags: list[Any], field: str) -> NDArray[np.bool_]:
        array = np.array(flags)
        if array.dtype != np.bool_ or array.shape != (self.num_envs,):
            for i, flag in enumerate(flags):
                if not isinstance(flag, bool | np.bool_):
                    raise ValueError(f"{self._tracker.where(i)}: {field} must be a bool, got {flag!r}")
        return array

    def _note(self, i: int) -> str:
        tracker = self._tracker
        return (
            f"in environment {tracker.env_ids[i]}, step {tracker.step}, "
            f"episode {tracker.episode[i]}, which was reset with seed {tracker.episode_seed(i)}"
        )


def _bare(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    return env.env if isinstance(env, Guarded) else env


def _check(envs: list[gymnasium.Env[Any, Any]]) -> gymnasium.Env[Any, Any]:
    """Raise ValueError for an empty list, a duplicate, different spaces, and gymnasium's Autoreset wrapper."""
    if not envs:
        raise ValueError("num_envs: must be at least 1, got 0")
    if len({id(env) for env in envs}) != len(envs):
        raise ValueError("envs: must be distinct objects, got one twice; a callable must make a new one at each call")
    first = envs[0]
    for i, env in enumerate(envs):
        for field in ("observation_space", "action_space"):
            mine, others = getattr(env, field), getattr(first, field)
            if mine != others:
                raise ValueError(f"environment {i}: {field} {mine} differs from environment 0's, {others}")
        layer: Any = env
        while isinstance(layer, gymnasium.Wrapper):
            if isinstance(layer, gymnasium.wrappers.Autoreset):
                raise ValueError(
                    f"environment {i}: has gymnasium's Autoreset wrapper, which hides where episodes end; "
                    "remove it, dynarl resets environments itself"
                )
            layer = layer.env
    return first
