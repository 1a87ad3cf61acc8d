"""An environment whose episodes are written down beforehand, and the transitions it must give."""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dynarl.envs import SyncEnvironments, VectorEnvironments

# (length, terminated, truncated) of an episode
Script = list[tuple[int, bool, bool]]

MODES = ["single", "disabled", "same_step", "next_step"]


class Scripted(gymnasium.Env[np.ndarray, int]):
    """Episode k of the script, again and again; obs is [env, episode, t], reward a number of those."""

    def __init__(self, number: int, script: Script) -> None:
        self.number, self.script = number, script
        self.observation_space = spaces.Box(-1e6, 1e6, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.episode, self.t = -1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self._obs(), {}

    def step(self, action: int) -> Any:
        length, terminated, truncated = self.script[self.episode % len(self.script)]
        assert self.t < length, "stepped beyond the end of an episode"
        self.t += 1
        over = self.t == length
        reward = 100.0 * self.number + 10 * (self.episode + 1) + self.t
        return self._obs(), reward, over and terminated, over and truncated, {}

    def _obs(self) -> np.ndarray:
        return np.array([self.number, self.episode, self.t], np.float32)


class Row(NamedTuple):
    obs: tuple[float, ...]
    next_obs: tuple[float, ...]
    reward: float
    terminated: bool
    truncated: bool
    episode_start: bool


def brute_force(number: int, script: Script, count: int) -> list[Row]:
    """The first ``count`` transitions of a `Scripted` environment."""
    rows: list[Row] = []
    episode = 0
    while len(rows) < count:
        length, terminated, truncated = script[episode % len(script)]
        for t in range(length):
            over = t + 1 == length
            reward = 100.0 * number + 10 * (episode + 1) + t + 1
            ends = over and terminated, over and truncated
            rows.append(Row((number, episode, t), (number, episode, t + 1), reward, *ends, t == 0))
        episode += 1
    return rows[:count]


def scripted_environments(scripts: list[Script], mode: str) -> SyncEnvironments | VectorEnvironments:
    functions = [lambda i=i, script=script: Scripted(i, script) for i, script in enumerate(scripts)]
    if mode == "single":
        return SyncEnvironments([function() for function in functions])
    return VectorEnvironments(SyncVectorEnv(functions, autoreset_mode=AutoresetMode[mode.upper()]))
