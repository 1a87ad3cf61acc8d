"""A corridor task: the colour shown at the start of a corridor decides every choice until its end.

================  =======  ====================================================
``dynarl/...``    optimum  without memory
================  =======  ====================================================
``Corridors-v0``  1        -0.15: halls are free, in a room one door of four
================  =======  ====================================================
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

__all__ = ["Corridors"]


class Corridors(gymnasium.Env[NDArray[np.float32], Any]):
    """Follow the doors of one colour from room to room; a sign in the hall at the start of a corridor shows the colour.

    Each of the four walls of a room has a door, all of different colours, arranged at random in every room. The
    observation is [the colour of each wall's door, one-hot: 4 x 4; the colour on the sign, one-hot]; a room has no
    sign, and a hall has nothing else. A hall is followed by 1 to ``longest`` - 1 rooms. The action is a wall: in a room
    the door of the corridor's colour pays 1 / ``count``, the others cost that; every door leads to the next room. In a
    hall any wall pays. Truncated after ``count`` rooms and halls; the optimum is 1. ``info["at_junction"]`` is 1 in a
    hall, else 0.
    """

    colours = 4

    def __init__(self, longest: int = 7, count: int = 40) -> None:
        if longest < 2 or count < 1:
            raise ValueError(f"Corridors: longest must be at least 2 and count 1, got {longest} and {count}")
        self.longest, self.count = longest, count
        self.observation_space = spaces.Box(0.0, 1.0, (self.colours * (self.colours + 1),), np.float32)
        self.action_space = spaces.Discrete(self.colours)
        self._doors = np.arange(self.colours)
        self._colour, self._left, self._sign, self._step = 0, 1, True, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start in a hall."""
        super().reset(seed=seed)
        self._left, self._step = 0, 0
        self._enter()
        return self._obs(), self._info()

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Go through a door."""
        self._step += 1
        right = self._sign or self._doors[int(action)] == self._colour
        self._enter()
        return self._obs(), (1.0 if right else -1.0) / self.count, False, self._step >= self.count, self._info()

    def get_state(self) -> dict[str, Any]:
        """The room, the corridor's colour, the rooms until its end, and the steps made."""
        return {
            "doors": self._doors.copy(), "colour": self._colour, "left": self._left, "sign": self._sign,
            "step": self._step,
        }  # fmt: skip

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._doors, self._sign = np.array(state["doors"]), bool(state["sign"])
        self._colour, self._left, self._step = (int(state[name]) for name in ("colour", "left", "step"))

    def _enter(self) -> None:
        """Enter the next room, or a hall if the corridor is at its end."""
        self._sign = self._left == 0
        if self._sign:
            self._colour = int(self.np_random.integers(self.colours))
            self._left = int(self.np_random.integers(2, self.longest + 1))
        self._left -= 1
        self._doors = self.np_random.permutation(self.colours)

    def _obs(self) -> NDArray[np.float32]:
        colours = np.arange(self.colours)
        doors = (self._doors[:, None] == colours) & (not self._sign)
        return np.concatenate((doors.ravel(), (colours == self._colour) & self._sign)).astype(np.float32)

    def _info(self) -> dict[str, Any]:
        return {"at_junction": float(self._sign)}
