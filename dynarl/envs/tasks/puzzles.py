"""Puzzles that need different amounts or kinds of computation per question. The optimum is always 1.

==========================  ==================================================  ==============================
``dynarl/...``              differences between questions                       guessing
==========================  ==================================================  ==============================
``PointerChase-v0``         hops to follow: 1 to 6, equally likely              1 / 8
``SometimesHard-v0``        a bit to read (3 of 4), or a parity of 2 (1 of 4)   1 / 2; the bit alone: 7 / 8
``Dispatch-v0``             which of 8 rules applies                            1 / 6; one rule for all: at most 1 / 3
``HeaviestKind-v0``         1 to 12 things to weigh                             1 / 4
``Expression-v0``           an expression tree of up to 15 nodes                1 / 2
==========================  ==================================================  ==============================

An episode is 16 independent questions; a right answer pays 1 / 16, and answers do not affect later questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

__all__ = [
    "Dispatch",
    "Expression",
    "HeaviestKind",
    "PointerChase",
    "Questions",
    "SometimesHard",
    "puzzle_env",
]

Drawn = tuple[NDArray[np.float32], int]


class Puzzle(Protocol):
    """A kind of question: observations [size] in [-1, 1], answers 0 ... answers - 1."""

    @property
    def size(self) -> int:
        """Length of the observation."""

    @property
    def answers(self) -> int:
        """Number of possible answers."""

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Return a question and its right answer."""


class Questions(gymnasium.Env[NDArray[np.float32], Any]):
    """Ask ``count`` questions of one puzzle; each right answer pays 1 / ``count``; truncated after the last."""

    def __init__(self, puzzle: Puzzle, count: int = 16) -> None:
        if count < 1:
            raise ValueError(f"Questions: count must be at least 1, got {count}")
        self.puzzle, self.count = puzzle, count
        self.observation_space = spaces.Box(-1.0, 1.0, (puzzle.size,), np.float32)
        self.action_space = spaces.Discrete(puzzle.answers)
        self._obs, self._answer, self._asked = np.zeros(puzzle.size, np.float32), 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Ask the first question."""
        super().reset(seed=seed)
        self._asked = 0
        return self._ask(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Judge the answer and ask the next question."""
        reward = float(action == self._answer) / self.count
        over = self._asked == self.count
        return self._obs if over else self._ask(), reward, False, over, {}

    def get_state(self) -> dict[str, Any]:
        """The question, its answer, and the number asked."""
        return {"obs": self._obs.copy(), "answer": self._answer, "asked": self._asked}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._obs = np.array(state["obs"], np.float32)
        self._answer, self._asked = int(state["answer"]), int(state["asked"])

    def _ask(self) -> NDArray[np.float32]:
        self._obs, self._answer = self.puzzle.draw(self.np_random)
        self._asked += 1
        return self._obs


@dataclass(frozen=True)
class PointerChase:
    """Every node points to one other; follow the pointers from the start to the node that points to itself; name it.

    The observation is [the start, one-hot; the target of each node's pointer, one-hot each]: nodes x (nodes + 1)
    numbers. The number of hops is uniform in 1 ... hops; the other nodes form a second chain with its own end.
    """

    nodes: int = 8
    hops: int = 6

    def __post_init__(self) -> None:
        """Check the number of hops."""
        if not 1 <= self.hops < self.nodes:
            raise ValueError(f"PointerChase: hops must lie in [1, nodes), got {self.hops} hops and {self.nodes} nodes")

    @property
    def size(self) -> int:
        """Start and pointers."""
        return self.nodes * (self.nodes + 1)

    @property
    def answers(self) -> int:
        """Any node."""
        return self.nodes

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Draw the two chains."""
        order, end = rng.permutation(self.nodes), int(rng.integers(1, self.hops + 1))
        to = np.empty(self.nodes, np.int64)
        for way in (order[: end + 1], order[end + 1 :]):
            to[way[:-1]], to[way[-1:]] = way[1:], way[-1:]
        obs = np.zeros((self.nodes + 1, self.nodes), np.float32)
        obs[0, order[0]] = 1.0
        obs[np.arange(1, self.nodes + 1), to] = 1.0
        return obs.ravel(), int(order[end])


@dataclass(frozen=True)
class SometimesHard:
    """Usually the answer is an observed bit; sometimes it is whether two other bits are equal.

    The observation is [whether this question is hard, the bit, the two bits], all -1 or 1.
    """

    hard: float = 0.25
    size = 4
    answers = 2

    def __post_init__(self) -> None:
        """Check the probability."""
        if not 0.0 <= self.hard <= 1.0:
            raise ValueError(f"SometimesHard: hard must lie in [0, 1], got {self.hard}")

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Draw three bits and whether the question is hard."""
        bits = rng.choice((-1.0, 1.0), 3)
        hard = rng.random() < self.hard
        answer = bits[1:].prod() if hard else bits[0]
        return np.array([1.0 if hard else -1.0, *bits], np.float32), int(answer > 0)


@dataclass(frozen=True)
class Dispatch:
    """Name the symbol by the rule that applies: each of ``rules`` has its own names for the ``symbols``.

    The observation is [the rule, one-hot; the symbol, one-hot]. The names are fixed.
    """

    rules: int = 8
    symbols: int = 6

    def __post_init__(self) -> None:
        """Check the numbers of rules and symbols."""
        if self.rules < 1 or self.symbols < 2:
            raise ValueError(f"Dispatch: rules must be at least 1 and symbols 2, got {self.rules} and {self.symbols}")

    @property
    def size(self) -> int:
        """Rule and symbol."""
        return self.rules + self.symbols

    @property
    def answers(self) -> int:
        """One per symbol."""
        return self.symbols

    def names(self) -> NDArray[np.int64]:
        """Return each rule's name for each symbol, [rules, symbols]."""
        rng = np.random.default_rng(0)
        return np.stack([rng.permutation(self.symbols) for _ in range(self.rules)])

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Draw the rule and the symbol."""
        rule, symbol = int(rng.integers(self.rules)), int(rng.integers(self.symbols))
        obs = np.concatenate((np.arange(self.rules) == rule, np.arange(self.symbols) == symbol))
        return obs.astype(np.float32), int(self.names()[rule, symbol])


@dataclass(frozen=True)
class HeaviestKind:
    """Name the kind with the largest total weight among 1 to ``most`` things of four kinds, of weights in (0, 1).

    The observation is [number of things / most; for each thing its weight and its kind, one-hot; zeros after the last].
    """

    most: int = 12
    answers = 4

    def __post_init__(self) -> None:
        """Check the number of things."""
        if self.most < 1:
            raise ValueError(f"HeaviestKind: most must be at least 1, got {self.most}")

    @property
    def size(self) -> int:
        """The number of things and the things."""
        return 1 + self.most * (1 + self.answers)

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Draw the things."""
        many = int(rng.integers(1, self.most + 1))
        kind, weight = rng.integers(0, self.answers, many), rng.random(many)
        things = np.zeros((self.most, 1 + self.answers), np.float32)
        things[:many, 0] = weight
        things[np.arange(many), 1 + kind] = 1.0
        obs = np.concatenate(([np.float32(many / self.most)], things.ravel()), dtype=np.float32)
        return obs, int(np.bincount(kind, things[:many, 0], self.answers).argmax())


@dataclass(frozen=True)
class Expression:
    """Evaluate an expression of 0, 1, and, or, xor, not: a tree of up to 2^depth - 1 nodes.

    The observation has node i of a binary tree at position i, one-hot over (nothing, 0, 1, and, or, xor, not), with its
    children at 2 i + 1 and 2 i + 2; "not" has a left child only.
    """

    depth: int = 4
    answers = 2
    tokens = 7

    def __post_init__(self) -> None:
        """Check the depth."""
        if self.depth < 1:
            raise ValueError(f"Expression: depth must be at least 1, got {self.depth}")

    @property
    def size(self) -> int:
        """One-hot tokens."""
        return (2**self.depth - 1) * self.tokens

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Grow the tree from its root: an operator with probability 3 / 4 where children fit."""
        token = np.zeros(2**self.depth - 1, np.int64)
        value = self._grow(token, 0, rng)
        return np.eye(self.tokens, dtype=np.float32)[token].ravel(), int(value)

    def _grow(self, token: NDArray[np.int64], i: int, rng: np.random.Generator) -> bool:
        room = 2 * i + 2 < len(token)
        token[i] = rng.integers(3, 7) if room and (i == 0 or rng.random() < 0.75) else rng.integers(1, 3)
        if token[i] < 3:
            return bool(token[i] == 2)
        left = self._grow(token, 2 * i + 1, rng)
        if token[i] == 6:
            return not left
        right = self._grow(token, 2 * i + 2, rng)
        return left and right if token[i] == 3 else left or right if token[i] == 4 else left != right


_PUZZLES: dict[str, type] = {
    puzzle.__name__: puzzle for puzzle in (PointerChase, SometimesHard, Dispatch, HeaviestKind, Expression)
}


def puzzle_env(puzzle: str, count: int = 16, **options: Any) -> Questions:
    """Make `Questions` of the puzzle with the given class name, built with `options`."""
    return Questions(_PUZZLES[puzzle](**options), count)
