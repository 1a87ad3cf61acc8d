"""Memory tasks, with their optima and the best returns without memory.

=========================  =======  ==========================================================
``dynarl/...``             optimum  without memory
=========================  =======  ==========================================================
``CartPoleNoVelocity-v0``  500      about 50: the direction of motion is not observed
``TMaze-v0``               1        0.5: the turn at the end is a guess
``RepeatPrevious-v0``      1        about -0.5: one of four suits is right by chance
=========================  =======  ==========================================================
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv

__all__ = ["PositionsOnly", "RepeatPrevious", "TMaze", "cartpole_without_velocity"]


class PositionsOnly(gymnasium.ObservationWrapper[np.ndarray, Any, np.ndarray]):
    """Show the elements at ``index`` of a Box observation [D] and hide the others."""

    def __init__(self, env: gymnasium.Env[np.ndarray, Any], index: tuple[int, ...]) -> None:
        super().__init__(env)
        space: Any = env.observation_space
        self._index = list(index)
        self.observation_space = spaces.Box(space.low[self._index], space.high[self._index], dtype=space.dtype)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Return the elements shown."""
        return observation[self._index]


class TMaze(gymnasium.Env[np.ndarray, Any]):
    """Walk a corridor of ``length`` cells; the first cell alone shows which way to turn at the end (Bakker 2002).

    The observation is [the sign on the wall (-1, 1; 0 after the first cell), whether this is the end]. Actions: 0 moves
    forward, 1 and 2 are the turns for the signs -1 and 1. At the end the right turn pays 1, the wrong one 0, and both
    terminate; every step without a move costs 1 / ``length``. Truncated after 3 ``length`` steps. The optimum is 1.
    """

    def __init__(self, length: int = 10) -> None:
        if length < 2:
            raise ValueError(f"TMaze: length must be at least 2, got {length}")
        self.length = length
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(3)
        self._sign, self._cell, self._count = 1, 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Go to the first cell and draw the sign."""
        super().reset(seed=seed)
        self._sign, self._cell, self._count = int(self.np_random.choice((-1, 1))), 0, 0
        return self._obs(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Walk or turn."""
        self._count += 1
        at_end = self._cell == self.length - 1
        over, reward = False, 0.0
        if at_end and action != 0:
            over, reward = True, float((action == 2) == (self._sign == 1))
        elif not at_end and action == 0:
            self._cell += 1
        else:
            reward = -1.0 / self.length
        return self._obs(), reward, over, not over and self._count >= 3 * self.length, {}

    def get_state(self) -> dict[str, Any]:
        """Sign, cell and steps made."""
        return {"sign": self._sign, "cell": self._cell, "count": self._count}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._sign, self._cell, self._count = (int(state[name]) for name in ("sign", "cell", "count"))

    def _obs(self) -> np.ndarray:
        return np.array([self._sign if self._cell == 0 else 0.0, self._cell == self.length - 1], np.float32)


class RepeatPrevious(gymnasium.Env[np.int64, Any]):
    """Cards of a shuffled deck are shown one by one; name the suit of the card ``k`` before (POPGym, arXiv:2303.01859).

    52 cards, 4 suits; from card k on, a right answer pays 1 / (52 - k), a wrong one costs that. Terminates at the end
    of the deck. The optimum is 1; a policy without memory gets about -0.5.
    """

    cards = 52

    def __init__(self, k: int = 4) -> None:
        if not 1 <= k < self.cards:
            raise ValueError(f"RepeatPrevious: k must lie in [1, {self.cards}), got {k}")
        self.k = k
        self.observation_space = spaces.Discrete(4)
        self.action_space = spaces.Discrete(4)
        self._deck = np.arange(self.cards) % 4
        self._shown = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Shuffle and show the first card."""
        super().reset(seed=seed)
        self._deck = self.np_random.permutation(np.arange(self.cards) % 4)
        self._shown = 0
        return self._deck[0], {}

    def step(self, action: int) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Judge the answer and show the next card."""
        reward = 0.0
        if self._shown >= self.k:
            right = action == self._deck[self._shown - self.k]
            reward = (1.0 if right else -1.0) / (self.cards - self.k)
        over = self._shown == self.cards - 1
        self._shown += not over
        return self._deck[self._shown], reward, over, False, {}

    def get_state(self) -> dict[str, Any]:
        """The deck and the position in it."""
        return {"deck": self._deck.copy(), "shown": self._shown}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._deck, self._shown = np.array(state["deck"]), int(state["shown"])


def cartpole_without_velocity(**kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Make a CartPole whose observation is [position of the cart, angle of the pole]."""
    return PositionsOnly(CartPoleEnv(**kwargs), (0, 2))
