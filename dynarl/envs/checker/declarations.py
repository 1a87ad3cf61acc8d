"""Checks of an environment's spaces and metadata that need no step: part of `dynarl.envs.check`."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space, spaces

from dynarl.envs.observations import observation_layout
from dynarl.envs.spaces import action_layout, named_leaves

__all__ = ["actions", "declared", "observations", "rendering"]


def declared(env: Any, report: Any) -> bool:
    """Check that the environment has both spaces."""
    good = True
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(env, name, None), Space):
            good = False
            report(
                "error", name, f"{name} must be a gymnasium space, got {getattr(env, name, None)!r}",
                f"set self.{name} in __init__",
            )  # fmt: skip
    return good


def observations(space: Space[Any], report: Any) -> None:
    """Check the observation space and all its parts."""
    try:
        observation_layout(space)
    except ValueError as error:
        report("error", "observation space", str(error), "describe the observation with the supported spaces")
        return
    for name, part in named_leaves(space, "obs"):
        if isinstance(part, spaces.Box):
            _box(name, part, report)


def _box(name: str, box: spaces.Box, report: Any) -> None:
    floating = np.issubdtype(box.dtype, np.floating)
    if box.dtype == np.float64:
        report(
            "hint", "float64", f"{name} is float64: it takes twice the memory, and networks compute in float32",
            "declare dtype=np.float32 and return astype(np.float32)",
        )  # fmt: skip
    if np.any(box.low > box.high):
        report(
            "error", "bounds", f"{name}: low exceeds high in {int(np.sum(box.low > box.high))} elements",
            "swap low and high",
        )  # fmt: skip
    elif np.any(box.low == box.high):
        report(
            "warning", "bounds", f"{name}: {int(np.sum(box.low == box.high))} elements have a single possible value",
            "remove constants from the observation",
        )  # fmt: skip
    if len(box.shape) == 3 and floating and np.all(box.low >= 0) and np.all(box.high == 255):
        report(
            "warning", "image", f"{name} looks like an image, but has dtype {box.dtype}",
            "declare Box(0, 255, shape, np.uint8): images are then stored in bytes and scaled for the network",
        )  # fmt: skip
    if len(box.shape) == 3 and box.dtype == np.uint8 and (np.any(box.low != 0) or np.any(box.high != 255)):
        report(
            "warning", "image", f"{name} is a uint8 image with bounds other than 0 and 255",
            "declare Box(0, 255, shape, np.uint8), the bounds by which images are recognised",
        )  # fmt: skip
    if len(box.shape) == 3 and box.dtype == np.uint8 and min(box.shape[0], box.shape[2]) > 32:
        report(
            "warning", "image channels", f"{name} of shape {box.shape} has its channels neither first nor last",
            "return [C, H, W] or [H, W, C]",
        )  # fmt: skip
    large = floating and np.isfinite(box.high).any() and float(np.abs(box.high[np.isfinite(box.high)]).max()) > 1e3
    if floating and len(box.shape) < 3 and (large or not box.is_bounded()):
        report(
            "hint", "obs scale", f"{name} is unbounded or large, so its scale is unknown",
            "normalise observations (normalize_obs) or divide by their natural scale",
        )  # fmt: skip


def actions(space: Space[Any], report: Any) -> None:
    """Check the action space."""
    try:
        action_layout(space)
    except ValueError as error:
        fix = "describe the action with the supported spaces"
        if isinstance(space, spaces.Box):
            fix = "declare a floating-point Box and round in step(), or use MultiDiscrete"
        report("error", "action space", str(error), fix)
        return
    for name, part in named_leaves(space, "action"):
        if isinstance(part, spaces.Box) and not part.is_bounded():
            report(
                "warning", "unbounded actions",
                f"{name} is unbounded: a policy starts with a standard deviation of about 1, and SAC requires bounds",
                "declare bounds, preferably -1 and 1, and scale in step()",
            )  # fmt: skip
        elif isinstance(part, spaces.Box) and (np.any(part.low != -part.high) or np.any(part.high != 1)):
            report(
                "hint", "action scale", f"{name} does not lie in [-1, 1]: a Gaussian policy starts around 0 with a "
                "standard deviation of about 1",
                "wrap it in gymnasium.wrappers.RescaleAction(env, -1, 1), or scale in step()",
            )  # fmt: skip
        elif isinstance(part, spaces.Discrete) and part.start != 0:
            report(
                "hint", "discrete start", f"{name} counts from {part.start}: dynarl shifts it, other libraries do not",
                "count from 0 and shift in step()",
            )  # fmt: skip


def rendering(env: Any, report: Any) -> None:
    """Check the metadata of rendering."""
    modes = env.metadata.get("render_modes")
    if modes is None or (env.render_mode is not None and env.render_mode not in modes):
        report(
            "warning", "render modes", f"render_mode is {env.render_mode!r}, metadata['render_modes'] is {modes!r}",
            "list the modes of render() in metadata['render_modes'], and accept render_mode in __init__",
        )  # fmt: skip
    elif modes and not env.metadata.get("render_fps"):
        report(
            "hint", "render fps", "metadata has no 'render_fps': videos play at a default speed",
            "add metadata['render_fps']",
        )  # fmt: skip
