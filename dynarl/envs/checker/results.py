"""Checks of the values that reset() and step() return: part of `dynarl.envs.check`."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space, spaces

__all__ = ["CheckAborted", "check_info", "check_mask", "check_obs", "check_reward", "kind_of"]


class CheckAborted(Exception):
    """Raised when no further check of this environment is possible."""


def check_obs(space: Space[Any], obs: Any, report: Any, where: str, name: str = "obs") -> None:
    parts: list[tuple[Any, Space[Any]]] = []
    if isinstance(space, spaces.Dict) and isinstance(obs, dict):
        parts = list(space.spaces.items())
    elif isinstance(space, spaces.Tuple) and isinstance(obs, tuple | list) and len(obs) == len(space.spaces):
        parts = list(enumerate(space.spaces))
    if parts:
        for key, part in parts:
            if isinstance(obs, dict) and key not in obs:
                report("error", "obs keys", f"{where}: {name} must have {key!r} as its space has", "return every key")
            else:
                check_obs(part, obs[key], report, where, f"{name}[{key!r}]")
    elif isinstance(space, spaces.Box | spaces.MultiBinary | spaces.MultiDiscrete):
        _check_array(space, obs, report, where, name)
    elif not space.contains(obs):
        report("error", "obs", f"{where}: {name} must lie in {space}, got {obs!r}", "return a value of that space")


def _check_array(space: Any, obs: Any, report: Any, where: str, name: str) -> None:
    if not isinstance(obs, np.ndarray):
        report(
            "warning",
            "obs type",
            f"{where}: {name} must be an array, got {kind_of(obs)}",
            "return np.array(obs, space.dtype)",
        )
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


def check_info(info: Any, report: Any, where: str) -> None:
    if not isinstance(info, dict):
        report(
            "error",
            "info type",
            f"{where}: info must be a dict, got {kind_of(info)}",
            "return {} if there is nothing to report",
        )
    elif bad := [key for key in info if not isinstance(key, str)]:
        report("warning", "info keys", f"{where}: keys of info must be strings, got {bad[0]!r}", "use strings as keys")


def check_mask(env: Any, info: Any, report: Any) -> None:
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
            "give one entry per action (MultiDiscrete: concatenated); other spaces have no masks",
        )  # fmt: skip
    elif not flat.any():
        report("error", "action mask", "info['action_mask'] allows no action", "end the episode, or allow a no-op")


def check_reward(reward: Any, report: Any) -> float:
    if (
        isinstance(reward, str | bytes)
        or reward is None
        or np.ndim(reward) != 0
        or np.asarray(reward).dtype.kind == "c"
    ):
        report("error", "reward type", f"reward must be one number, got {kind_of(reward)}", "return float(reward)")
        raise CheckAborted
    number = float(reward)
    if not np.isfinite(number):
        report("error", "reward not finite", f"reward is {number}", "look for a division by zero; clip it")
    elif abs(number) > 1e3:
        report(
            "hint", "reward scale", f"rewards reach {number:g}: large value targets are learned slowly",
            "scale rewards (normalize_reward), or divide them by their natural scale",
        )  # fmt: skip
    return number


def kind_of(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"{type(value).__name__} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
