"""Whole episodes played by an Actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.actor import Actor
from dynarl.envs import Environments
from dynarl.rollout import play

__all__ = ["Evaluation", "play_episodes"]


class Evaluation(NamedTuple):
    """Returns of evaluation episodes: mean and standard deviation (ddof 0), and each episode's return and length."""

    mean: float
    std: float
    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]


def play_episodes(
    actor: Actor,
    envs: Environments,
    episodes: int,
    *,
    deterministic: bool = True,
    watch: Callable[[], None] | None = None,
) -> Evaluation:
    """Play whole episodes in the given environments; `watch` is called before each step (to render)."""
    envs.ask_info(actor.info_fields)
    state: Any = None

    def act(obs: NDArray[Any], episode_start: NDArray[np.bool_], reward: NDArray[Any]) -> NDArray[Any]:
        nonlocal state
        if watch is not None:
            watch()
        action, state = actor.predict_stored(
            obs, state, episode_start=episode_start, reward=reward, info=None if envs.info is None else envs.info.now,
            action_mask=envs.action_mask, deterministic=deterministic,
        )  # fmt: skip
        return action

    returns, lengths = play(envs, act, episodes)
    return Evaluation(float(returns.mean()), float(returns.std()), returns, lengths)
