"""Environments that fail, for workers and for replaying."""

import gymnasium
import numpy as np


class Failing(gymnasium.Env):
    """obs is [episode seed, t]; episodes of 12 steps. Fails by its seed: `when(seed, t)` says how."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    made = 0

    def __init__(self, how="raise", at=5, rate=3):
        self.how, self.at, self.rate = how, at, rate
        self.seed, self.t, self.total = 0, 0, 0.0
        type(self).made += 1

    def get_state(self):
        return {"seed": self.seed, "t": self.t, "total": self.total}

    def set_state(self, state):
        self.seed, self.t, self.total = int(state["seed"]), int(state["t"]), float(state["total"])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.t, self.total = seed % 1000, 0, 0.0
        if self.how == "reset" and self.total_fails():
            raise RuntimeError("no reset")
        return np.array([self.seed, 0.0]), {}

    def total_fails(self):
        return self.seed % self.rate == 0

    def step(self, action):
        self.t += 1
        self.total += float(action[0])
        obs, reward = np.array([self.seed, float(self.t)]), 1.0
        if self.t == self.at and self.total_fails():
            if self.how == "raise":
                raise ZeroDivisionError(f"broken after actions that sum to {self.total!r}")
            obs, reward = {
                "nan": (obs * np.nan, reward),
                "shape": (obs[:1], reward),
                "reward": (obs, np.inf),
                "text": (obs, "one"),
            }[self.how]
        return obs, reward, self.t == 12, False, {}


if "Failing-v0" not in gymnasium.registry:
    gymnasium.register("Failing-v0", entry_point="tests.helpers.failing:Failing")
