"""Diagnostic tasks with known values and optimal actions, for tests and for debugging agents.

Registered as ``dynarl/NAME-v0`` when `dynarl.envs` is imported. V is the value of the first state.

| id | episode | answer |
|---|---|---|
| dynarl/ConstantReward-v0 | reward 1 forever | V = 1 / (1 - gamma) |
| dynarl/Truncated-v0 | reward 1, truncated every 5 steps | V = 1 / (1 - gamma): truncation bootstraps |
| dynarl/Terminated-v0 | reward 1, terminated after 1 step | V = 1 |
| dynarl/TwoStateChain-v0 | state 0 (reward 1) to state 1 (reward 2), terminated | V = 1 + 2 gamma, then 2 |
| dynarl/ObservationValue-v0 | one step, obs is -1 or 1, reward is obs | V(obs) = obs |
| dynarl/IdentityDiscrete-v0 (MultiDiscrete, MultiBinary) | 32 steps, truncated; repeat the observation | reward 1 |
| dynarl/IdentityBox-v0 | the same with reward -(action - obs)^2 | reward 0 |
| dynarl/IdentityMixed-v0, IdentityMixedTuple-v0 | Dict or Tuple, rewards summed | reward 1, 2 |
| dynarl/MaskedBandit-v0 | one step, arm i pays i / n; the mask is the obs | V(obs) = (largest arm allowed) / n |
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

__all__ = ["Chain", "IdentityEnv", "MaskedBandit", "ObservationValue", "identity_env"]


class Chain(gymnasium.Env[np.ndarray, Any]):
    """A row of states with one reward each, whatever the action; the last one terminates, truncates or stays.

    ``rewards[s]`` is paid for leaving state s. ``show_state=False`` gives all states the same observation, so that they
    share one value. ``end`` is "terminated", "truncated" or "stay" (remain in the last state forever).
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
        """Leave the state; the action has no effect."""
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


class IdentityEnv(gymnasium.Env[Any, Any]):
    """Observe a sample of ``action_space``; the reward is for repeating it as the action.

    Truncated after ``length`` steps. The reward is 1 or 0, for a Box the negative squared distance, for a Dict or Tuple
    the sum over its parts.
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
        """Compare the action with the target and draw the next target."""
        reward = self._reward(self.action_space, action, self._target)
        self._count += 1
        return self._draw(), reward, False, self._count >= self.length, {}

    def get_state(self) -> dict[str, Any]:
        """Steps made and the target."""
        return {"count": self._count, "target": _arrays(self._target)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._count, self._target = int(state["count"]), _arrays(state["target"])

    def _reward(self, space: spaces.Space[Any], action: Any, target: Any) -> float:
        match space:
            case spaces.Dict():
                return sum(self._reward(part, action[key], target[key]) for key, part in space.items())
            case spaces.Tuple():
                return sum(map(self._reward, space, action, target))
            case spaces.Box():
                return -float(np.sum(np.square(action - target)))
        return float(np.array_equal(action, target))

    def _draw(self) -> Any:
        self._target = self._sample(self.action_space)
        return self._target

    def _sample(self, space: spaces.Space[Any]) -> Any:
        match space:
            case spaces.Dict():
                return {key: self._sample(part) for key, part in space.items()}
            case spaces.Tuple():
                return tuple(self._sample(part) for part in space)
            case spaces.Box() as box:
                target: Any = self.np_random.uniform(box.low, box.high).astype(box.dtype)
            case spaces.Discrete() as discrete:
                target = np.int64(discrete.start + self.np_random.integers(discrete.n))
            case spaces.MultiDiscrete() as multi:
                target = (multi.start + self.np_random.integers(multi.nvec)).astype(multi.dtype)
            case _:
                target = self.np_random.integers(0, 2, space.shape, dtype=np.int8)
        return target


def _arrays(value: Any) -> Any:
    """Return nested dicts and sequences of numbers as dicts and tuples of new arrays."""
    if isinstance(value, dict):
        return {key: _arrays(item) for key, item in value.items()}
    return tuple(map(_arrays, value)) if isinstance(value, tuple | list) else np.array(value)


class ObservationValue(gymnasium.Env[np.ndarray, Any]):
    """One step: the observation is -1 or 1, the reward equals the observation, then it terminates."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._sign = 1.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw the sign."""
        super().reset(seed=seed)
        self._sign = float(self.np_random.choice((-1.0, 1.0)))
        return np.array([self._sign], np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Pay the observation and terminate."""
        return np.array([self._sign], np.float32), self._sign, True, False, {}

    def get_state(self) -> dict[str, Any]:
        """The sign."""
        return {"sign": self._sign}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._sign = float(state["sign"])


class MaskedBandit(gymnasium.Env[np.ndarray, Any]):
    """One step: arm i of n pays i / n, but some arms are forbidden; playing one of those raises an error.

    The observation is the mask as numbers. The mask is also given as ``info["action_mask"]``, or with
    ``source="method"`` by ``action_masks()``. With ``components`` > 1 the action is MultiDiscrete: that many bandits,
    whose pay is averaged.
    """

    def __init__(self, arms: int = 4, components: int = 1, source: str = "info") -> None:
        if source not in ("info", "method"):
            raise ValueError(f"MaskedBandit: source must be 'info' or 'method', got {source!r}")
        self.arms, self.components = arms, components
        self.observation_space = spaces.Box(0.0, 1.0, (arms * components,), np.float32)
        self.action_space: spaces.Space[Any] = spaces.Discrete(arms)
        if components > 1:
            self.action_space = spaces.MultiDiscrete([arms] * components)
        if source == "method":
            self.action_masks = self._flat
        self._in_info = source == "info"
        self._mask = np.ones((components, arms), np.bool_)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Forbid random arms, but not all."""
        super().reset(seed=seed)
        self._mask = self.np_random.random((self.components, self.arms)) < 0.5
        allowed = self.np_random.integers(self.arms, size=self.components)
        self._mask[np.arange(self.components), allowed] = True
        return self._obs(), self._info()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Pay the arms; raises ValueError for a forbidden one."""
        arms = np.atleast_1d(action)
        if not self._mask[np.arange(self.components), arms].all():
            raise ValueError(f"MaskedBandit: the action must be allowed by the mask {self._flat()}, got {action}")
        return self._obs(), float(arms.mean()) / self.arms, True, False, self._info()

    def best(self) -> float:
        """Return the pay of the best allowed arms."""
        return float((self.arms - 1 - self._mask[:, ::-1].argmax(axis=1)).mean()) / self.arms

    def get_state(self) -> dict[str, Any]:
        """The mask."""
        return {"mask": self._mask.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._mask = np.array(state["mask"])

    def _flat(self) -> np.ndarray:
        return self._mask.reshape(-1).copy()

    def _obs(self) -> np.ndarray:
        return self._flat().astype(np.float32)

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self._flat()} if self._in_info else {}


def identity_env(kind: str, length: int = 32) -> IdentityEnv:
    """Make an `IdentityEnv` over the space called `kind`: a kind of space, "Mixed" (Dict) or "MixedTuple"."""
    offered: dict[str, spaces.Space[Any]] = {
        "Discrete": spaces.Discrete(3),
        "Box": spaces.Box(-1.0, 1.0, (2,), np.float32),
        "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
        "MultiBinary": spaces.MultiBinary(3),
        "Mixed": spaces.Dict(choice=spaces.Discrete(3), amount=spaces.Box(-1.0, 1.0, (2,), np.float32)),
        "MixedTuple": spaces.Tuple(
            (spaces.Box(-1.0, 1.0, (1,), np.float32), spaces.MultiDiscrete([2, 3]), spaces.Discrete(2, start=1))
        ),
    }
    return IdentityEnv(offered[kind], length)
