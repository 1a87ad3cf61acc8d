"""Non-stationary tasks: the rule changes without notice; only the reward or the info reveals it.

=====================  =============================================  =============================================
``dynarl/...``         optimum                                        otherwise
=====================  =============================================  =============================================
``FeedbackSwitch-v0``  1 - 2 switch (count - 1) / count = 0.902       without feedback: -1/3, a guess of three
``Runaway-v0``         1 - 2 switch (count - 1) / count = 0.81        never moving on: 0.0; by the reward's sign: 0.13
``CommonestSuit-v0``   1                                              the card shown: 0.72; never forgetting: 0.66
=====================  =============================================  =============================================
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

__all__ = ["CommonestSuit", "FeedbackSwitch", "Runaway"]


class FeedbackSwitch(gymnasium.Env[NDArray[np.float32], Any]):
    """Answer (symbol + rule) mod ``rules``; only the reward reveals that the rule has increased by one.

    The observation is the symbol, one-hot. A right answer pays 1 / ``count``, a wrong one costs that. The rule is 0 at
    first, and increases after each answer with probability ``switch``; truncated after ``count`` answers. The best
    policy increases its rule after each wrong answer: it is right with probability 1 - ``switch`` (the first time
    always), and no policy can know more. The optimum is 1 - 2 switch (count - 1) / count.
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
        """Return to rule 0 and show a symbol."""
        super().reset(seed=seed)
        self._rule, self._answered = 0, 0
        return self._show(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Judge the answer, change the rule at random, and show the next symbol."""
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


class Runaway(gymnasium.Env[NDArray[np.float32], Any]):
    """Name the node at which a person hides; only a reward below its expected value reveals that the person has moved.

    ``nodes`` nodes lie on a circle, in a new order each episode; ``hideouts`` of them are marked as hiding places, and
    the person is first shown at one of them. After each answer the person moves with probability ``switch``, along the
    circle to the next hideout. A right answer pays 1 / ``count``, a wrong one costs that, and an observed wind adds up
    to ``wind`` / ``count`` to either; every second wind is the negative of the one before. Truncated after ``count``
    answers, an even number. The best policy moves on to the next hideout after each wrong answer: it is right with
    probability 1 - ``switch`` (the first time always), and no policy can know more. The optimum is
    1 - 2 switch (count - 1) / count.

    The observation is [nodes + 1, nodes + 1], flat: [where the person is shown, one-hot, 0 after the first step; the
    wind / ``wind``], then for each node [the next node, one-hot; whether that is a hideout].
    """

    def __init__(
        self, nodes: int = 6, hideouts: int = 3, switch: float = 0.1, wind: float = 2.0, count: int = 20
    ) -> None:
        if not 2 <= hideouts <= nodes or not 0.0 <= switch < 0.5 or wind < 0.0 or count < 2 or count % 2:
            raise ValueError(
                "Runaway: hideouts must lie in [2, nodes], switch in [0, 0.5), wind be at least 0 and count even, got "
                f"{hideouts} of {nodes}, {switch}, {wind} and {count}"
            )
        self.nodes, self.hideouts, self.switch, self.wind, self.count = nodes, hideouts, switch, wind, count
        self.observation_space = spaces.Box(-1.0, 1.0, ((nodes + 1) ** 2,), np.float32)
        self.action_space = spaces.Discrete(nodes)
        self._circle, self._marked = np.arange(nodes), np.arange(nodes) < hideouts
        self._at, self._answered, self._wind = 0, 0, 0.0

    @property
    def optimum(self) -> float:
        """The expected return of the best policy."""
        return 1.0 - 2.0 * self.switch * (self.count - 1) / self.count

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw the circle, the hideouts and the first hiding place."""
        super().reset(seed=seed)
        self._circle = self.np_random.permutation(self.nodes)
        self._marked = self.np_random.permutation(self.nodes) < self.hideouts
        self._at, self._answered, self._wind = 0, 0, self._blow()
        self._run()
        return self._obs(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Judge the answer; the person moves at random."""
        right = action == self._circle[self._at]
        reward = ((1.0 if right else -1.0) + self.wind * self._wind) / self.count
        self._answered += 1
        self._wind = -self._wind if self._answered % 2 else self._blow()
        if self.np_random.random() < self.switch:
            self._run()
        return self._obs(), reward, False, self._answered >= self.count, {}

    def get_state(self) -> dict[str, Any]:
        """Circle, marks, place, answers given and wind."""
        return {
            "circle": self._circle.copy(), "marked": self._marked.copy(), "at": self._at, "answered": self._answered,
            "wind": self._wind,
        }  # fmt: skip

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._circle, self._marked = np.array(state["circle"]), np.array(state["marked"])
        self._at, self._answered, self._wind = int(state["at"]), int(state["answered"]), float(state["wind"])

    def _run(self) -> None:
        self._at = (self._at + 1) % self.nodes
        while not self._marked[self._at]:
            self._at = (self._at + 1) % self.nodes

    def _blow(self) -> float:
        return float(self.np_random.uniform(-1.0, 1.0))

    def _obs(self) -> NDArray[np.float32]:
        shown = np.zeros((self.nodes + 1, self.nodes + 1), np.float32)
        if not self._answered:
            shown[0, self._circle[self._at]] = 1.0
        shown[0, -1] = self._wind
        behind = np.roll(self._circle, -1)
        shown[1 + self._circle, behind] = 1.0
        shown[1 + self._circle, -1] = np.roll(self._marked, -1)
        return shown.ravel()


class CommonestSuit(gymnasium.Env[NDArray[np.float32], Any]):
    """Cards are shown one by one; name the suit shown most often since the deck was last shuffled.

    The observation is the suit of the card, one-hot, drawn with replacement. Before each card except the first the deck
    is shuffled with probability ``shuffle``; then ``info["shuffled"]`` is 1, else 0. The new card counts; if several
    suits are the most common, each is right. A right answer pays 1 / ``count``; truncated after ``count`` cards.
    """

    def __init__(self, suits: int = 4, shuffle: float = 0.15, count: int = 40) -> None:
        if suits < 2 or count < 1 or not 0.0 <= shuffle <= 1.0:
            raise ValueError(
                "CommonestSuit: suits must be at least 2, count 1, and shuffle in [0, 1], got "
                f"{suits}, {count} and {shuffle}"
            )
        self.suits, self.shuffle, self.count = suits, shuffle, count
        self.observation_space = spaces.Box(0.0, 1.0, (suits,), np.float32)
        self.action_space = spaces.Discrete(suits)
        self._seen, self._card, self._shown = np.zeros(suits, np.int64), 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Show the first card of a new deck."""
        super().reset(seed=seed)
        self._shown = 0
        return self._show(True), {"shuffled": 1.0}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Judge the answer, shuffle at random, and show the next card."""
        reward = float(self._seen[action] == self._seen.max()) / self.count
        shuffled = bool(self.np_random.random() < self.shuffle)
        return self._show(shuffled), reward, False, self._shown > self.count, {"shuffled": float(shuffled)}

    def get_state(self) -> dict[str, Any]:
        """How often each suit was seen, the card, and how many were shown."""
        return {"seen": self._seen.copy(), "card": self._card, "shown": self._shown}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._seen, self._card, self._shown = np.array(state["seen"]), int(state["card"]), int(state["shown"])

    def _show(self, shuffled: bool) -> NDArray[np.float32]:
        if shuffled:
            self._seen = np.zeros(self.suits, np.int64)
        self._card = int(self.np_random.integers(self.suits))
        self._seen[self._card] += 1
        self._shown += 1
        return (np.arange(self.suits) == self._card).astype(np.float32)
