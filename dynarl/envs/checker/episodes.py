"""What shows only while an environment is played: part of `dynarl.envs.check`."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space, spaces
from gymnasium.vector import AutoresetMode

__all__ = ["play", "play_vector"]

_SHORT = 30


class _Broken(Exception):
    """Nothing more can be learned from this environment."""


def play(env: gymnasium.Env[Any, Any], report: Any, *, steps: int, seed: int) -> None:
    """Play episodes with random actions and look at all that comes back."""
    try:
        actions = _actions(env.action_space, seed, max(steps, _SHORT))
        _resets(env, report, seed)
        _seeding(env, report, seed, actions[:_SHORT])
        ends = _episodes(env, report, seed, actions)
    except _Broken:
        return
    _endings(env, report, ends)


def _actions(space: Space[Any], seed: int, count: int) -> list[Any]:
    own = copy.deepcopy(space)  # the environment's stream stays as it is
    own.seed(seed)
    return [own.sample() for _ in range(count)]


# ---------------------------------------------------------------------------------------------- what is returned


def _reset(env: Any, report: Any, seed: int | None) -> Any:
    try:
        result = env.reset(seed=seed)
    except TypeError as error:
        report(
            "error", "reset signature", f"reset(seed={seed}) raised TypeError: {error}",
            "define reset(self, *, seed=None, options=None) and call super().reset(seed=seed) first",
        )  # fmt: skip
        raise _Broken from error
    if not isinstance(result, tuple) or len(result) != 2:
        report("error", "reset result", f"reset() must return (obs, info), got {_kind(result)}", "return obs, {}")
        raise _Broken
    obs, info = result
    _look_at_obs(env.observation_space, obs, report, "reset()")
    _look_at_info(info, report, "reset()")
    _look_at_mask(env, info, report)
    return obs


def _step(env: Any, report: Any, action: Any) -> tuple[Any, float, bool, bool]:
    given = copy.deepcopy(action)
    result = env.step(given)
    if not isinstance(result, tuple) or len(result) != 5:
        report(
            "error", "step result",
            f"step() must return (obs, reward, terminated, truncated, info), got {_kind(result)}",
            "return terminated (a final state was reached) and truncated (time ran out) in place of done",
        )  # fmt: skip
        raise _Broken
    obs, reward, terminated, truncated, info = result
    if not _equal(given, action):
        report("warning", "action changed", "step() writes into the action it was given", "copy it before changing it")
    _look_at_obs(env.observation_space, obs, report, "step()")
    _look_at_info(info, report, "step()")
    _look_at_mask(env, info, report)
    number = _look_at_reward(reward, report)
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, bool | np.bool_):
            report("error", f"{name} type", f"{name} must be a bool, got {flag!r}", f"return bool({name})")
    return obs, number, bool(terminated), bool(truncated)


def _look_at_obs(space: Space[Any], obs: Any, report: Any, where: str, name: str = "obs") -> None:
    parts: list[tuple[Any, Space[Any]]] = []
    if isinstance(space, spaces.Dict) and isinstance(obs, dict):
        parts = list(space.spaces.items())
    elif isinstance(space, spaces.Tuple) and isinstance(obs, tuple | list) and len(obs) == len(space.spaces):
        parts = list(enumerate(space.spaces))
    if parts:
        for key, part in parts:
            if isinstance(obs, dict) and key not in obs:
                report("error", "obs keys", f"{where}: {name} has no {key!r}, its space does", "return every key")
            else:
                _look_at_obs(part, obs[key], report, where, f"{name}[{key!r}]")
    elif isinstance(space, spaces.Box | spaces.MultiBinary | spaces.MultiDiscrete):
        _look_at_array(space, obs, report, where, name)
    elif not space.contains(obs):
        report("error", "obs", f"{where}: {name} must lie in {space}, got {obs!r}", "return a value of that space")


def _look_at_array(space: Any, obs: Any, report: Any, where: str, name: str) -> None:
    if not isinstance(obs, np.ndarray):
        report("warning", "obs type", f"{where}: {name} is no array: {_kind(obs)}", "return np.array(obs, space.dtype)")
    array = np.asarray(obs)
    if array.shape != space.shape:
        report(
            "error", "obs shape", f"{where}: {name} has shape {array.shape}, its space {space.shape}",
            "make observation_space and obs agree",
        )  # fmt: skip
        return
    if array.dtype != space.dtype:
        lossy = not np.can_cast(array.dtype, space.dtype, "same_kind")
        report(
            "error" if lossy else "warning", "obs dtype",
            f"{where}: {name} is {array.dtype}, its space {space.dtype}",
            f"return obs.astype(np.{space.dtype}), or declare the dtype that is returned",
        )  # fmt: skip
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        at = np.argwhere(~np.isfinite(array))[0].tolist()
        report(
            "error", "obs not finite", f"{where}: {name}{at} is {array[tuple(at)]}",
            "look for a division by zero or an overflow in the dynamics; end the episode before the state explodes",
        )  # fmt: skip
    elif isinstance(space, spaces.Box) and not ((array >= space.low) & (array <= space.high)).all():
        at = np.argwhere(~((array >= space.low) & (array <= space.high)))[0].tolist()
        i = tuple(at)
        report(
            "warning", "obs bounds",
            f"{where}: {name}{at} = {array[i]} lies outside [{space.low[i]}, {space.high[i]}]",
            "clip it, or widen the bounds (-inf, inf where there are none)",
        )  # fmt: skip
    elif not isinstance(space, spaces.Box) and not space.contains(array.astype(space.dtype)):
        report("error", "obs", f"{where}: {name} must lie in {space}, got {obs!r}", "return a value of that space")


def _look_at_info(info: Any, report: Any, where: str) -> None:
    if not isinstance(info, dict):
        report(
            "error", "info type", f"{where}: info must be a dict, got {_kind(info)}", "return {} where there is none"
        )
    elif bad := [key for key in info if not isinstance(key, str)]:
        report("warning", "info keys", f"{where}: keys of info must be strings, got {bad[0]!r}", "name what you report")


def _look_at_mask(env: Any, info: Any, report: Any) -> None:
    mask = info.get("action_mask") if isinstance(info, dict) else None
    if mask is None:
        return
    space = env.action_space
    size = int(space.n) if isinstance(space, spaces.Discrete) else None
    if size is None and isinstance(space, spaces.MultiDiscrete):
        size = int(np.sum(space.nvec))
    flat = np.concatenate([np.ravel(one) for one in mask]) if isinstance(mask, tuple | list) else np.ravel(mask)
    if size is None or flat.size != size:
        report(
            "error", "action mask", f"info['action_mask'] has {flat.size} entries, {space} needs {size or 'none'}",
            "give one entry per action (MultiDiscrete: side by side), and none for other spaces",
        )  # fmt: skip
    elif not flat.any():
        report("error", "action mask", "info['action_mask'] allows nothing", "end the episode, or allow a no-op")


def _look_at_reward(reward: Any, report: Any) -> float:
    if (
        isinstance(reward, str | bytes)
        or reward is None
        or np.ndim(reward) != 0
        or np.asarray(reward).dtype.kind == "c"
    ):
        report("error", "reward type", f"reward must be one number, got {_kind(reward)}", "return float(reward)")
        raise _Broken
    number = float(reward)
    if not np.isfinite(number):
        report("error", "reward not finite", f"reward is {number}", "look for a division by zero; clip it")
    elif abs(number) > 1e3:
        report(
            "hint", "reward scale", f"rewards reach {number:g}: large value targets are learned slowly",
            "scale rewards (normalize_reward), or divide them by their natural scale",
        )  # fmt: skip
    return number


# ------------------------------------------------------------------------------------------------------- seeding


def _resets(env: Any, report: Any, seed: int) -> None:
    """Reset with seeds and without, and compare what is drawn."""
    first = _keep(_reset(env, report, seed))
    unseeded = [_keep(_reset(env, report, None)) for _ in range(3)]
    if not _equal(_keep(_reset(env, report, seed)), first):
        report(
            "error", "seed ignored", f"two calls of reset(seed={seed}) gave different observations",
            "draw from self.np_random alone (not np.random or random) and call super().reset(seed=seed) first",
        )  # fmt: skip
        return
    others = [_keep(_reset(env, report, seed + i)) for i in range(1, 4)]
    if any(not _equal(one, first) for one in others) and all(_equal(one, unseeded[0]) for one in unseeded[1:]):
        report(
            "error", "same episode", "reset() without a seed starts the same episode every time",
            "seed the generator only where a seed is given: super().reset(seed=seed) does",
        )  # fmt: skip


def _seeding(env: Any, report: Any, seed: int, actions: list[Any]) -> None:
    """Play the same actions twice after the same seed."""
    runs = []
    for _ in range(2):
        rows = [_keep(_reset(env, report, seed))]
        for action in actions:
            obs, reward, terminated, truncated = _step(env, report, action)
            rows.append((_keep(obs), reward, terminated, truncated))
            if terminated or truncated:
                break
        runs.append(rows)
    if not _equal(runs[0], runs[1]):
        report(
            "error", "seed ignored", f"the same actions after reset(seed={seed}) gave different transitions",
            "draw from self.np_random alone, and set everything an episode changes in reset()",
        )  # fmt: skip
    inner = env.unwrapped
    if isinstance(inner, gymnasium.Env) and inner._np_random is not None and inner._np_random_seed != seed:
        report(
            "warning", "seed not passed on", f"np_random was seeded with {inner._np_random_seed}, not with {seed}",
            "call super().reset(seed=seed) first in reset()",
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ episodes


def _episodes(env: Any, report: Any, seed: int, actions: list[Any]) -> list[tuple[int, bool, bool]]:
    """Return (length, terminated, truncated) of the episodes that random actions make."""
    ends: list[tuple[int, bool, bool]] = []
    length, before = 0, _reset(env, report, seed)
    kept = _keep(before)
    for action in actions:
        obs, _, terminated, truncated = _step(env, report, action)
        if not _equal(_keep(before), kept):
            report(
                "warning", "obs reused", "step() changed the observation that was returned before",
                "return a new array (obs.copy()): whoever keeps observations has the last one many times",
            )  # fmt: skip
        length += 1
        before = obs
        if terminated or truncated:
            ends.append((length, terminated, truncated))
            length, before = 0, _reset(env, report, None)
        kept = _keep(before)
    return ends


def _endings(env: Any, report: Any, ends: list[tuple[int, bool, bool]]) -> None:
    """Say where time limits look like terminations, or terminations like time limits."""
    limit = _limit(env)
    lengths = {length for length, _, _ in ends}
    at_limit = [terminated and not truncated for length, terminated, truncated in ends if length == limit]
    if at_limit and all(at_limit):
        report(
            "error", "limit terminates", f"episodes that reach the limit of {limit} steps end as terminated",
            "return truncated=True there: a limit is no property of the state, and its value must be bootstrapped",
        )  # fmt: skip
    elif len(ends) >= 3 and len(lengths) == 1 and max(lengths) > 1 and all(t and not u for _, t, u in ends):
        report(
            "warning", "limit terminates", f"all {len(ends)} episodes end as terminated after {max(lengths)} steps",
            "if that is a time limit, return truncated=True in place of terminated=True",
        )  # fmt: skip
    if len(ends) >= 3 and len(lengths) > 1 and all(truncated and not terminated for _, terminated, truncated in ends):
        report(
            "warning", "termination truncates",
            f"all {len(ends)} episodes end as truncated, after {min(lengths)} to {max(lengths)} steps",
            "return terminated=True where a final state is reached: truncation bootstraps its value",
        )  # fmt: skip
    if not ends and limit is None:
        report(
            "hint", "no end", "no episode ended, and there is no time limit",
            "register with max_episode_steps, or wrap in gymnasium.wrappers.TimeLimit: evaluation plays to the end",
        )  # fmt: skip


def _limit(env: Any) -> int | None:
    layer = env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, gymnasium.wrappers.TimeLimit):
            return int(layer._max_episode_steps)
        layer = layer.env
    return None if env.spec is None else env.spec.max_episode_steps


# ------------------------------------------------------------------------------------------- vector environments


def play_vector(env: Any, mode: AutoresetMode, report: Any, steps: int = 300) -> None:
    """Play a vector environment and compare its resets with the autoreset mode that it declares."""
    obs, _ = env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(steps):
        obs, reward, terminated, truncated, infos = env.step(env.action_space.sample())
        for name, array in (("reward", reward), ("terminated", terminated), ("truncated", truncated)):
            if np.shape(array) != (env.num_envs,):
                report(
                    "error", f"{name} shape", f"{name} must have shape ({env.num_envs},), got {np.shape(array)}",
                    "return one entry per environment",
                )  # fmt: skip
                return
        if not env.observation_space.contains(obs):
            report(
                "warning", "obs", "obs does not lie in observation_space (the batched one)",
                "make shape, dtype and bounds agree with batch_space(single_observation_space, num_envs)",
            )  # fmt: skip
        ended = np.asarray(terminated) | np.asarray(truncated)
        if not ended.any():
            continue
        if mode is AutoresetMode.SAME_STEP and "final_obs" not in infos:
            report(
                "error", "final obs", "an episode ended in autoreset mode SAME_STEP without infos['final_obs']",
                "add the last observation of the episode there: what obs holds is the next one's first",
            )  # fmt: skip
            return
        if mode is AutoresetMode.DISABLED:
            try:
                env.reset(options={"reset_mask": ended})
            except (TypeError, ValueError, AssertionError) as error:
                report(
                    "error", "reset mask", f"reset(options={{'reset_mask': ...}}) raised {error!r}",
                    "mode DISABLED: reset those environments alone, or declare another mode",
                )  # fmt: skip
                return


# ----------------------------------------------------------------------------------------------------- comparing


def _keep(value: Any) -> Any:
    return copy.deepcopy(value)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return isinstance(b, tuple | list) and len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        return a.shape == b.shape and bool(
            np.array_equal(a, b, equal_nan=a.dtype.kind in "fc" and b.dtype.kind in "fc")
        )
    return bool(a == b) or (a != a and b != b)


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"{type(value).__name__} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
