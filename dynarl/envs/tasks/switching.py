"""Environments where what was right until now is suddenly wrong, and where what to do was said a while ago.

=====================  ============================================  =====================
``dynarl/...``         optimum                                       without feedback
=====================  ============================================  =====================
``FeedbackSwitch-v0``  1 - 2 switch (count - 1) / count = 0.902      -1/3: a guess of three
=====================  ============================================  =====================
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.envs.tasks.registration import register_once

__all__ = ["FeedbackSwitch", "register_switching"]


class FeedbackSwitch(gymnasium.Env[NDArray[np.float32], Any]):
    """Answer (symbol + rule) mod ``rules``; nothing but the reward tells that the rule has moved on by one.

    The observation is the symbol, one-hot. A right answer pays 1 / ``count``, a wrong one costs that. The rule is 0 at
    first, and after each answer it moves on with probability ``switch``; truncated after ``count`` answers. Who moves
    on after each wrong answer is right with probability 1 - ``switch``, the first time surely, and nobody can know
    more: the optimum is 1 - 2 switch (count - 1) / count.
    """

    def __init__(self, rules: int = 3, switch: float = 0.05, count: int = 50) -> None:
        if rules < 2 or count < 1 or not 0.0 <= switch < 0.5:
            raise ValueError(
                f"FeedbackSwitch: rules must be at least 2, count 1, and switch in [0, 0.5), got {rules}, {count} "
                f"and {switch}"
            )
        self.rules, self.switch, self.count = rules, switch, count
        self.observation_space = spaces.Box(0.0, 1.0, (rules,), np.float32)
        self.action_space = spaces.Discrete(rules)
        self._rule, self._symbol, self._answered = 0, 0, 0

    @property
    def optimum(self) -> float:
        """The expected return of the best policy."""
        return 1.0 - 2.0 * self.switch * (self.count - 1) / self.count

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Go back to rule 0 and show a symbol."""
        super().reset(seed=seed)
        self._rule, self._answered = 0, 0
        return self._show(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Judge the answer, maybe move the rule on, and show the next symbol."""
        right = action == (self._symbol + self._rule) % self.rules
        self._answered += 1
        if self.np_random.random() < self.switch:
            self._rule = (self._rule + 1) % self.rules
        return self._show(), (1.0 if right else -1.0) / self.count, False, self._answered >= self.count, {}

    def get_state(self) -> dict[str, Any]:
        """Rule, symbol and answers given."""
        return {"rule": self._rule, "symbol": self._symbol, "answered": self._answered}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._rule, self._symbol, self._answered = (int(state[name]) for name in ("rule", "symbol", "answered"))

    def _show(self) -> NDArray[np.float32]:
        self._symbol = int(self.np_random.integers(self.rules))
        return (np.arange(self.rules) == self._symbol).astype(np.float32)


def register_switching() -> None:
    """Register the environment of this module with gymnasium; a second call does nothing."""
    register_once("FeedbackSwitch", "dynarl.envs.tasks.switching:FeedbackSwitch")
