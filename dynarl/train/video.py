"""Videos of an agent's episodes as GIF files, which TensorBoard can show."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from dynarl.callbacks import Callback, Every, LearningAgent
from dynarl.envs import Environments, make
from dynarl.envs.another import another
from dynarl.extras import how_to_install

__all__ = ["VideoRecorder", "record_video", "write_gif"]

_MAX_FRAMES = 2_000


class PlayingAgent(Protocol):
    """An agent, as a recording sees it."""

    source: Any
    seed: int

    def play(self, envs: Environments, episodes: int, *, watch: Callable[[], None] | None = None) -> object:
        """Play whole episodes; `watch` is called before each step."""
        ...


def record_video(
    agent: PlayingAgent,
    path: str | os.PathLike[str],
    *,
    env: Any = None,
    episodes: int = 1,
    seed: int | None = None,
    max_frames: int = _MAX_FRAMES,
) -> Path:
    """Write a GIF of deterministic episodes of `agent` to `path` and return it.

    A new environment is made with render_mode="rgb_array" from `env` (an id or a function that takes render_mode; None:
    the agent's environment); seeds as in `Agent.evaluate`. Frames beyond `max_frames` are left out. Raises ValueError
    if the environment cannot render, ImportError without Pillow.
    """
    _pillow()
    single = _rendering(agent.source if env is None else env)
    frames: list[NDArray[np.uint8]] = []

    def watch() -> None:
        if len(frames) < max_frames:
            frames.append(_frame(single))

    envs = make(single, 1, seed=agent.seed if seed is None else seed, purpose="evaluate")
    try:
        agent.play(envs, episodes, watch=watch)
    finally:
        envs.close()
    return write_gif(path, frames, fps=int(single.metadata.get("render_fps") or 30))


def write_gif(path: str | os.PathLike[str], frames: Sequence[NDArray[np.uint8]], *, fps: int) -> Path:
    """Write frames [H, W, 3] uint8 as an animated GIF. A GIF shows at most 50 frames per second."""
    if not frames:
        raise ValueError("write_gif: there must be at least one frame, got 0")
    image = _pillow()
    first, *rest = [image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=max(20, round(1000 / fps)), loop=0)
    return path


class VideoRecorder(Callback):
    """Record a deterministic episode every `every` environment steps as DIRECTORY/STEPS.gif."""

    def __init__(
        self,
        every: int,
        directory: str | os.PathLike[str],
        *,
        on_video: Callable[[int, Path], None] | None = None,
    ) -> None:
        _pillow()
        self.every, self.directory, self.on_video = Every(every), Path(directory), on_video

    def begin(self, agent: LearningAgent) -> None:
        """Count from the agent's steps."""
        self.every.begin(int(agent.env_steps))

    def on_iteration(self, agent: LearningAgent, metrics: dict[str, Any]) -> bool | None:
        """Record when due."""
        if self.every.due(int(agent.env_steps)):
            path = record_video(cast(PlayingAgent, agent), self.directory / f"{int(agent.env_steps):012d}.gif")
            if self.on_video is not None:
                self.on_video(int(agent.env_steps), path)
        return None


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"video: recording needs Pillow: {how_to_install('video')}") from error
    return Image


def _rendering(source: Any) -> gymnasium.Env[Any, Any]:
    """Make one environment that renders frames, from an id, a function, or the spec of an environment."""
    try:
        env = another(source, render_mode="rgb_array")()
    except TypeError as error:
        raise ValueError(f"video: the environment must accept render_mode='rgb_array': {error}") from error
    if not isinstance(env, gymnasium.Env):
        raise ValueError(f"video: needs a single environment, got {type(env).__name__}")
    if env.render_mode != "rgb_array":
        raise ValueError(f"video: {env} must have render_mode 'rgb_array', got {env.render_mode!r}")
    return env


def _frame(env: gymnasium.Env[Any, Any]) -> NDArray[np.uint8]:
    frame: Any = env.render()
    frame = frame[-1] if isinstance(frame, list) and frame else frame
    array = np.asarray(frame)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise ValueError(
            f"video: render() of {env} must return uint8 frames [H, W, 3], got {array.dtype} of shape {array.shape}"
        )
    return array
