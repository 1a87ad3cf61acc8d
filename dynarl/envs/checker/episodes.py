"""Checks of an environment while it is played: part of `dynarl.envs.check`."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space
from gymnasium.vector import AutoresetMode

from dynarl.envs.checker.results import CheckAborted, check_info, check_mask, check_obs, check_reward, kind_of

__all__ = ["play", "play_vector"]

_SHORT = 30


def play(env: gymnasium.Env[Any, Any], report: Any, *, steps: int, seed: int) -> None:
    """Play episodes with random actions and check all returned values."""
    try:
        actions = _actions(env.action_space, seed, max(steps, _SHORT))
        _resets(env, report, seed)
        _seeding(env, report, seed, actions[:_SHORT])
        ends = _episodes(env, report, seed, actions)
    except CheckAborted:
        return
    _endings(env, report, ends)


def _actions(space: Space[Any], seed: int, count: int) -> list[Any]:
    own = copy.deepcopy(space)  # sampling must not advance the environment's generator
    own.seed(seed)
    return [own.sample() for _ in range(count)]


# ----------------------------------------------------------------------------------------------- returned values


def _reset(env: Any, report: Any, seed: int | None) -> Any:
    try:
        result = env.reset(seed=seed)
    except TypeError as error:
        report(
            "error", "reset signature", f"reset(seed={seed}) raised TypeError: {error}",
            "define reset(self, *, seed=None, options=None) and call super().reset(seed=seed) first",
        )  # fmt: skip
        raise CheckAborted from error
    if not isinstance(result, tuple) or len(result) != 2:
        report("error", "reset result", f"reset() must return (obs, info), got {kind_of(result)}", "return obs, {}")
        raise CheckAborted
    obs, info = result
    check_obs(env.observation_space, obs, report, "reset()")
    check_info(info, report, "reset()")
    check_mask(env, info, report)
    return obs


def _step(env: Any, report: Any, action: Any) -> tuple[Any, float, bool, bool]:
    given = copy.deepcopy(action)
    result = env.step(given)
    if not isinstance(result, tuple) or len(result) != 5:
        report(
            "error", "step result",
            f"step() must return (obs, reward, terminated, truncated, info), got {kind_of(result)}",
            "return terminated (a final state was reached) and truncated (a time limit was reached) instead of done",
        )  # fmt: skip
        raise CheckAborted
    obs, reward, terminated, truncated, info = result
    if not _equal(given, action):
        report("warning", "action changed", "step() modifies its action argument", "copy it before modifying it")
    check_obs(env.observation_space, obs, report, "step()")
    check_info(info, report, "step()")
    check_mask(env, info, report)
    number = check_reward(reward, report)
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, bool | np.bool_):
            report("error", f"{name} type", f"{name} must be a bool, got {flag!r}", f"return bool({name})")
    return obs, number, bool(terminated), bool(truncated)


# ------------------------------------------------------------------------------------------------------- seeding


def _resets(env: Any, report: Any, seed: int) -> None:
    """Reset with and without seeds, and compare the observations."""
    first = _keep(_reset(env, report, seed))
    unseeded = [_keep(_reset(env, report, None)) for _ in range(3)]
    if not _equal(_keep(_reset(env, report, seed)), first):
        report(
            "error", "seed ignored", f"two calls of reset(seed={seed}) gave different observations",
            "draw only from self.np_random (not np.random or random) and call super().reset(seed=seed) first",
        )  # fmt: skip
        return
    others = [_keep(_reset(env, report, seed + i)) for i in range(1, 4)]
    if any(not _equal(one, first) for one in others) and all(_equal(one, unseeded[0]) for one in unseeded[1:]):
        report(
            "error", "same episode", "reset() without a seed starts the same episode every time",
            "seed the generator only if a seed is given, as super().reset(seed=seed) does",
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
            "draw only from self.np_random, and reset every variable that an episode changes",
        )  # fmt: skip
    inner = env.unwrapped
    if isinstance(inner, gymnasium.Env) and inner._np_random is not None and inner._np_random_seed != seed:
        report(
            "warning", "seed not passed on", f"np_random was seeded with {inner._np_random_seed}, not with {seed}",
            "call super().reset(seed=seed) first in reset()",
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ episodes


def _episodes(env: Any, report: Any, seed: int, actions: list[Any]) -> list[tuple[int, bool, bool]]:
    """Return (length, terminated, truncated) of the episodes played."""
    ends: list[tuple[int, bool, bool]] = []
    length, before = 0, _reset(env, report, seed)
    kept = _keep(before)
    for action in actions:
        obs, _, terminated, truncated = _step(env, report, action)
        if not _equal(_keep(before), kept):
            report(
                "warning", "obs reused", "step() changed the observation that was returned before",
                "return a new array (obs.copy()): stored observations would all become the last one",
            )  # fmt: skip
        length += 1
        before = obs
        if terminated or truncated:
            ends.append((length, terminated, truncated))
            length, before = 0, _reset(env, report, None)
        kept = _keep(before)
    return ends


def _endings(env: Any, report: Any, ends: list[tuple[int, bool, bool]]) -> None:
    """Report time limits declared as terminations, and terminations declared as truncations."""
    limit = _limit(env)
    lengths = {length for length, _, _ in ends}
    at_limit = [terminated and not truncated for length, terminated, truncated in ends if length == limit]
    if at_limit and all(at_limit):
        report(
            "error", "limit terminates", f"episodes that reach the limit of {limit} steps end as terminated",
            "return truncated=True there: the limit is not part of the state, so its value must be bootstrapped",
        )  # fmt: skip
    elif len(ends) >= 3 and len(lengths) == 1 and max(lengths) > 1 and all(t and not u for _, t, u in ends):
        report(
            "warning", "limit terminates", f"all {len(ends)} episodes end as terminated after {max(lengths)} steps",
            "if that is a time limit, return truncated=True instead of terminated=True",
        )  # fmt: skip
    if len(ends) >= 3 and len(lengths) > 1 and all(truncated and not terminated for _, terminated, truncated in ends):
        report(
            "warning", "termination truncates",
            f"all {len(ends)} episodes end as truncated, after {min(lengths)} to {max(lengths)} steps",
            "return terminated=True in final states: truncation bootstraps their value",
        )  # fmt: skip
    if not ends and limit is None:
        report(
            "hint", "no end", "no episode ended, and there is no time limit",
            "register with max_episode_steps, or wrap in gymnasium.wrappers.TimeLimit: evaluation plays whole episodes",
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
    """Play a vector environment and compare its resets with its declared autoreset mode."""
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
                "add the last observation of the episode there: obs has the first one of the next episode",
            )  # fmt: skip
            return
        if mode is AutoresetMode.DISABLED:
            try:
                env.reset(options={"reset_mask": ended})
            except (TypeError, ValueError, AssertionError) as error:
                report(
                    "error", "reset mask", f"reset(options={{'reset_mask': ...}}) raised {error!r}",
                    "mode DISABLED: reset only those environments, or declare another mode",
                )  # fmt: skip
                return


# ---------------------------------------------------------------------------------------------------- comparison


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
