"""Plays whole episodes, for evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.envs.protocol import Environments

__all__ = ["play"]


def play(
    envs: Environments,
    act: Callable[[NDArray[Any], NDArray[np.bool_], NDArray[Any]], Any],
    episodes: int,
    *,
    max_episode_steps: int = 1_000_000,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Play ``episodes`` episodes and return their returns and lengths, [episodes] each.

    ``act(obs, episode_start, reward)`` returns the actions [N, ...]; reward [N] is that of the previous step. The
    number of episodes of each environment is fixed in advance. Results are ordered by environment, then time. Raises
    RuntimeError for an episode longer than ``max_episode_steps``.
    """
    if episodes < 1:
        raise ValueError(f"play: episodes must be at least 1, got {episodes}")
    # Fixed in advance: taking the first episodes that end would count short ones more often.
    quota = [episodes // envs.num_envs + (i < episodes % envs.num_envs) for i in range(envs.num_envs)]
    results: list[list[tuple[float, int]]] = [[] for _ in quota]
    open_, length_now = episodes, np.zeros(envs.num_envs, np.int64)
    envs.reset()
    reward: NDArray[Any] = np.zeros(envs.num_envs)
    while open_:
        step = envs.step(act(envs.obs, envs.episode_start, reward))
        info, reward = step.info, step.reward
        length_now += 1
        if info:
            length_now[info["env"]] = 0
        if length_now.max() > max_episode_steps:
            raise RuntimeError(
                f"play: an episode must end within {max_episode_steps} steps, environment {length_now.argmax()} did "
                "not; give the environment a time limit, or raise max_episode_steps"
            )
        if not info:
            continue
        for i, total, length in zip(info["env"], info["episode_return"], info["episode_length"]):
            if len(results[i]) < quota[i]:
                results[i].append((float(total), int(length)))
                open_ -= 1
    flat = [result for one in results for result in one]
    return np.array([r for r, _ in flat]), np.array([length for _, length in flat], np.int64)
