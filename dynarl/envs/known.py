"""Environments whose values and best actions are known, for tests and for finding a bug in an agent.

Registered as ``dynarl/NAME-v0`` when `dynarl.envs` is imported. V below is the value of the first state.

| id | episode | answer |
|---|---|---|
| dynarl/ConstantReward-v0 | reward 1 for ever | V = 1 / (1 - gamma) |
| dynarl/Truncated-v0 | reward 1, truncated every 5 steps | V = 1 / (1 - gamma): truncation bootstraps |
| dynarl/Terminated-v0 | reward 1, terminated after 1 step | V = 1 |
| dynarl/TwoStateChain-v0 | state 0 (reward 1) to state 1 (reward 2), terminated | V = 1 + 2 gamma, then 2 |
| dynarl/ObservationValue-v0 | one step, obs is -1 or 1, reward is obs | V(obs) = obs |
| dynarl/IdentityDiscrete-v0 (MultiDiscrete, MultiBinary) | 32 steps, truncated; act as observed | reward 1 |
| dynarl/IdentityBox-v0 | the same with reward -(action - obs)^2 | reward 0 |
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

__all__ = ["Chain", "Identity", "ObservationValue", "register_known"]


class Chain(gymnasium.Env[np.ndarray, Any]):
    """States in a row with a reward each, whatever is done; the end terminates, truncates or stays.

    ``rewards[s]`` is what leaving state s pays. ``show_state=False`` makes all states look alike, so that
    they share one value. ``end`` is "terminated", "truncated" or "stay" (in the last state, for ever).
    """

    def __init__(self, rewards: tuple[float, ...] = (1.0,), end: str = "terminated", show_state: bool = True) -> None:
        if end not in ("terminated", "truncated", "stay"):
            raise ValueError(f"Chain: end must be 'terminated', 'truncated' or 'stay', got {end!r}")
        self.rewards, self.end, self.show_state = tuple(rewards), end, show_state
        self.observation_space = spaces.Box(0.0, 1.0, (len(self.rewards),), np.float32)
        self.action_space = spaces.Discrete(2)
        self._position = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Go to state 0."""
        super().reset(seed=seed)
        self._position = 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Leave the state; actions do nothing."""
        reward = self.rewards[self._position]
        over = self._position == len(self.rewards) - 1
        self._position += not over
        return self._obs(), reward, over and self.end == "terminated", over and self.end == "truncated", {}

    def get_state(self) -> dict[str, Any]:
        """The position."""
        return {"position": self._position}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to the position of `get_state`."""
        self._position = int(state["position"])

    def _obs(self) -> np.ndarray:
        obs = np.zeros(len(self.rewards), np.float32)
        obs[self._position if self.show_state else 0] = 1.0
        return obs


class Identity(gymnasium.Env[Any, Any]):
    """Observe a sample of ``action_space`` and be paid for acting as observed.

    Truncated after ``length`` steps. The reward is 1 or 0, in a Box minus the squared distance.
    """

    def __init__(self, action_space: spaces.Space[Any], length: int = 32) -> None:
        self.action_space = self.observation_space = action_space
        self.length = length
        self._count = 0
        self._target: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draw the first target."""
        super().reset(seed=seed)
        self._count = 0
        return self._draw(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Compare with the target and draw the next."""
        if isinstance(self.action_space, spaces.Box):
            reward = -float(np.sum(np.square(action - self._target)))
        else:
            reward = float(np.array_equal(action, self._target))
        self._count += 1
        return self._draw(), reward, False, self._count >= self.length, {}

    def get_state(self) -> dict[str, Any]:
        """Steps made and the target."""
        return {"count": self._count, "target": np.array(self._target)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._count, self._target = int(state["count"]), np.array(state["target"])

    def _draw(self) -> Any:
        match self.action_space:
            case spaces.Box() as box:
                target: Any = self.np_random.uniform(box.low, box.high).astype(box.dtype)
            case spaces.Discrete() as discrete:
                target = np.int64(discrete.start + self.np_random.integers(discrete.n))
            case spaces.MultiDiscrete() as multi:
                target = (multi.start + self.np_random.integers(multi.nvec)).astype(multi.dtype)
            case _:
                target = self.np_random.integers(0, 2, self.action_space.shape, dtype=np.int8)
        self._target = target
        return target


class ObservationValue(gymnasium.Env[np.ndarray, Any]):
    """One step: the observation is -1 or 1, the reward is the observation, then it terminates."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._sign = 1.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Toss the coin."""
        super().reset(seed=seed)
        self._sign = float(self.np_random.choice((-1.0, 1.0)))
        return np.array([self._sign], np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Pay the observation."""
        return np.array([self._sign], np.float32), self._sign, True, False, {}

    def get_state(self) -> dict[str, Any]:
        """The sign."""
        return {"sign": self._sign}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._sign = float(state["sign"])


def _identity(kind: str, length: int = 32) -> Identity:
    offered: dict[str, spaces.Space[Any]] = {
        "Discrete": spaces.Discrete(3),
        "Box": spaces.Box(-1.0, 1.0, (2,), np.float32),
        "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
        "MultiBinary": spaces.MultiBinary(3),
    }
    return Identity(offered[kind], length)


def register_known() -> None:
    """Register the environments of this module with gymnasium; a second call does nothing."""
    alike = {"show_state": False}
    known: dict[str, tuple[Any, dict[str, Any]]] = {
        "ConstantReward": (Chain, {"rewards": (1.0,), "end": "stay"}),
        "Truncated": (Chain, {"rewards": (1.0,) * 5, "end": "truncated", **alike}),
        "Terminated": (Chain, {"rewards": (1.0,), "end": "terminated"}),
        "TwoStateChain": (Chain, {"rewards": (1.0, 2.0), "end": "terminated"}),
        "ObservationValue": (ObservationValue, {}),
    }
    for kind in ("Discrete", "Box", "MultiDiscrete", "MultiBinary"):
        known[f"Identity{kind}"] = (_identity, {"kind": kind})
    for name, (entry, kwargs) in known.items():
        if f"dynarl/{name}-v0" not in gymnasium.registry:
            gymnasium.register(f"dynarl/{name}-v0", entry_point=entry, kwargs=kwargs)
