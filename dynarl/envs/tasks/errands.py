"""A planning task: reach goals in a town whose map is not observed; goals differ in their distance.

==============  =======  =================================================================================
``dynarl/...``  optimum  planning at most one, two, three or four steps ahead, else random
==============  =======  =================================================================================
``Errands-v0``  1        0.24, 0.50, 0.75, 0.93
==============  =======  =================================================================================
"""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

__all__ = ["Errands", "town"]


def town(places: int, ways: int, farthest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the place to which each way leads [ways, places], and the steps between places [places, places].

    The result depends on the arguments alone: the first random town in which every way is a permutation of the places
    and every place has others at each distance from 1 to `farthest`. Raises ValueError if a thousand seeds have none.
    """
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        leads = np.stack([rng.permutation(places) for _ in range(ways)])
        steps = np.where(np.eye(places, dtype=bool), 0, places)
        for _ in range(places):
            steps = np.minimum(steps, 1 + steps[leads].min(axis=0))
        if all((steps == d).any(axis=1).all() for d in range(1, farthest + 1)):
            return leads, steps
    raise ValueError(
        f"Errands: no town of {places} places and {ways} ways has other places {farthest} steps from every place"
    )


class Errands(gymnasium.Env[NDArray[np.float32], Any]):
    """Walk through a town from goal to goal; the map is fixed and must be learned.

    The observation is [the place, one-hot; the goal, one-hot]. The action is one of the ``ways`` that leave every
    place. A goal is 1 to ``farthest`` steps away, each distance equally likely; when it is reached, a new one is drawn
    and ``info["new_goal"]`` is 1, else 0. Truncated after ``count`` steps. Shortest paths reach `goals` goals on
    average; each pays 1 / goals, so the optimum is 1.
    """

    def __init__(self, places: int = 32, ways: int = 2, farthest: int = 5, count: int = 40) -> None:
        if places < 2 or ways < 2 or not 1 <= farthest < places or count < farthest:
            raise ValueError(
                "Errands: places and ways must be at least 2, farthest at least 1, less than places and at most "
                f"count, got places {places}, ways {ways}, farthest {farthest} and count {count}"
            )
        self.places, self.farthest, self.count = places, farthest, count
        self.leads, self.steps = town(places, ways, farthest)
        self.observation_space = spaces.Box(0.0, 1.0, (2 * places,), np.float32)
        self.action_space = spaces.Discrete(ways)
        self.goals = _expected_goals(farthest, count)
        self._place, self._goal, self._step = 0, 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start in a random place with a goal."""
        super().reset(seed=seed)
        self._place, self._step = int(self.np_random.integers(self.places)), 0
        self._draw_goal()
        return self._obs(), {"new_goal": 1.0}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take one of the ways."""
        self._step += 1
        self._place = int(self.leads[int(action), self._place])
        reached = self._place == self._goal
        if reached:
            self._draw_goal()
        return self._obs(), reached / self.goals, False, self._step >= self.count, {"new_goal": float(reached)}

    def get_state(self) -> dict[str, Any]:
        """Place, goal and steps made."""
        return {"place": self._place, "goal": self._goal, "step": self._step}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._place, self._goal, self._step = (int(state[name]) for name in ("place", "goal", "step"))

    def _draw_goal(self) -> None:
        away = self.np_random.integers(1, self.farthest + 1)
        self._goal = int(self.np_random.choice(np.flatnonzero(self.steps[self._place] == away)))

    def _obs(self) -> NDArray[np.float32]:
        every = np.arange(self.places)
        return np.concatenate((every == self._place, every == self._goal)).astype(np.float32)


def _expected_goals(farthest: int, count: int) -> float:
    """Return the expected number of goals reached in count steps, each 1 to farthest steps away, equally likely."""
    goals = np.zeros(count + 1)
    for left, away in itertools.product(range(1, count + 1), range(1, farthest + 1)):
        if away <= left:
            goals[left] += (1.0 + goals[left - away]) / farthest
    return float(goals[count])
