"""Tasks whose observations vary in size, with their optima and the returns without part of the observation.

========================  =======  ============================================================================
``dynarl/...``            optimum  without
========================  =======  ============================================================================
``PickLargest-v0``        1        the elements' numbers: 0.46, any of the slots shown
``FollowLinks-v0``        1        the links: 0.61, the most common colour of the other nodes
``FollowTrail-v0``        1        the links: 0.43, the most common colour; 1 to 4 hops: 0.39, 0.55, 0.70, 0.86
========================  =======  ============================================================================
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

__all__ = ["FollowLinks", "FollowTrail", "PickLargest"]


class _Rounds(gymnasium.Env[Any, Any]):
    """Independent questions, ``rounds`` in an episode; each right answer pays 1 / rounds."""

    def __init__(self, rounds: int) -> None:
        if rounds < 1:
            raise ValueError(f"{type(self).__name__}: rounds must be at least 1, got {rounds}")
        self.rounds, self._round = rounds, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Ask the first question."""
        super().reset(seed=seed)
        self._round = 0
        return self._ask(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Judge the answer and ask the next question."""
        reward = float(int(action) == self._answer()) / self.rounds
        self._round += 1
        return self._ask(), reward, self._round == self.rounds, False, {}

    def _ask(self) -> Any:
        raise TypeError(f"{type(self).__name__}: _ask must be defined")

    def _answer(self) -> int:
        raise TypeError(f"{type(self).__name__}: _answer must be defined")


class PickLargest(_Rounds):
    """Name the largest of 1 to ``slots`` numbers; the observation is a Sequence of (slot, number).

    A number is a multiple of 1 / ``slots`` up to 1, and no two are equal; their order is random. The action is the slot
    of the largest.
    """

    def __init__(self, slots: int = 5, rounds: int = 10) -> None:
        super().__init__(rounds)
        if slots < 2:
            raise ValueError(f"PickLargest: slots must be at least 2, got {slots}")
        self.slots = slots
        element = spaces.Tuple((spaces.Discrete(slots), spaces.Box(0.0, 1.0, (1,), np.float32)))
        self.observation_space = spaces.Sequence(element)
        self.action_space = spaces.Discrete(slots)
        self._slot = self._level = np.zeros(1, np.int64)

    def get_state(self) -> dict[str, Any]:
        """The elements shown and the round."""
        return {"slot": self._slot.copy(), "level": self._level.copy(), "round": self._round}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._slot, self._level = np.array(state["slot"]), np.array(state["level"])
        self._round = int(state["round"])

    def _ask(self) -> Any:
        count = int(self.np_random.integers(1, self.slots + 1))
        self._slot = self.np_random.permutation(self.slots)[:count]
        self._level = 1 + self.np_random.permutation(self.slots)[:count]
        numbers = (self._level / self.slots).astype(np.float32)
        return tuple((slot, numbers[i : i + 1]) for i, slot in enumerate(self._slot))

    def _answer(self) -> int:
        return int(self._slot[self._level.argmax()])


class FollowLinks(_Rounds):
    """Name the colour of the node to which ``hops`` links lead; the observation is a Graph.

    A node is (whether it is the start, its colour); one of 3 to ``nodes`` nodes is the start. One link with feature 1
    leads from every node to another node. As many links with feature 0 must be ignored.
    """

    def __init__(self, nodes: int = 6, colours: int = 3, hops: int = 1, rounds: int = 10) -> None:
        super().__init__(rounds)
        if nodes < 3 or colours < 2 or hops < 1:
            raise ValueError(
                "FollowLinks: nodes must be at least 3, colours 2 and hops 1, "
                f"got nodes {nodes}, colours {colours}, hops {hops}"
            )
        self.nodes, self.colours, self.hops = nodes, colours, hops
        self.observation_space = spaces.Graph(spaces.MultiDiscrete([2, colours]), spaces.Discrete(2))
        self.action_space = spaces.Discrete(colours)
        self._colour = self._link = np.zeros(3, np.int64)
        self._start = 0

    def get_state(self) -> dict[str, Any]:
        """The variables of `_answer`, and the round."""
        return {
            "colour": self._colour.copy(), "link": self._link.copy(), "start": self._start, "round": self._round
        }  # fmt: skip

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._colour, self._link = np.array(state["colour"]), np.array(state["link"])
        self._start, self._round = int(state["start"]), int(state["round"])

    def _ask(self) -> Any:
        rng = self.np_random
        count = int(rng.integers(3, self.nodes + 1))
        every = np.arange(count)
        self._colour, self._start = rng.integers(0, self.colours, count), int(rng.integers(count))
        self._link, other = ((every + rng.integers(1, count, count)) % count for _ in range(2))
        nodes = np.stack((every == self._start, self._colour), 1).astype(np.int64)
        ends = np.concatenate((np.stack((every, self._link), 1), np.stack((every, other), 1)))
        order = rng.permutation(2 * count)
        return spaces.GraphInstance(nodes, np.repeat([1, 0], count)[order], ends[order])

    def _answer(self) -> int:
        node = self._start
        for _ in range(self.hops):
            node = self._link[node]
        return int(self._colour[node])


class FollowTrail(_Rounds):
    """Name the colour of the node at the end of the trail from the start; the observation is a Graph.

    A node is (whether it is the start, its colour). One link with feature 1 leaves each node: to the next node of its
    trail, or from the end of a trail to itself. There are two trails: that of the start with 1 to ``hops`` links before
    its end, all equally likely, and one that is as long or longer. As many links with feature 0 lead to random nodes
    and must be ignored.
    """

    def __init__(self, colours: int = 4, hops: int = 5, rounds: int = 10) -> None:
        super().__init__(rounds)
        if colours < 2 or hops < 1:
            raise ValueError(f"FollowTrail: colours must be at least 2 and hops 1, got colours {colours}, hops {hops}")
        self.colours, self.hops = colours, hops
        self.observation_space = spaces.Graph(spaces.MultiDiscrete([2, colours]), spaces.Discrete(2))
        self.action_space = spaces.Discrete(colours)
        self._colour = 0

    def get_state(self) -> dict[str, Any]:
        """The right answer and the round."""
        return {"colour": self._colour, "round": self._round}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        self._colour, self._round = int(state["colour"]), int(state["round"])

    def _ask(self) -> Any:
        rng = self.np_random
        hops = int(rng.integers(1, self.hops + 1))
        count = 2 + hops + int(rng.integers(hops, self.hops + 1))
        order, every, link = rng.permutation(count), np.arange(count), np.empty(count, np.int64)
        for trail in (order[: hops + 1], order[hops + 1 :]):
            link[trail[:-1]], link[trail[-1:]] = trail[1:], trail[-1:]
        colour = rng.integers(0, self.colours, count)
        self._colour = int(colour[order[hops]])
        nodes = np.stack((every == order[0], colour), 1).astype(np.int64)
        other = rng.integers(0, count, count)
        ends = np.concatenate((np.stack((every, link), 1), np.stack((every, other), 1)))
        shuffled = rng.permutation(2 * count)
        return spaces.GraphInstance(nodes, np.repeat([1, 0], count)[shuffled], ends[shuffled])

    def _answer(self) -> int:
        return self._colour
