"""A binary tree of sums over priorities: draws and changes many leaves at once, in O(log size) array operations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SumTree"]

# Up to this many leaves are changed one by one: a Python loop up the tree is faster than array operations for them.
_FEW = 8


class SumTree:
    """`size` priorities, initially zero, float64; inner nodes are always the exact sum of their children.

    Node 1 is the root, node k has the children 2k and 2k + 1, leaf i is node `first + i`. Sums are recomputed from the
    children instead of corrected by differences, so no error accumulates.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"SumTree: size must be at least 1, got {size}")
        self.size = size
        self.depth = (size - 1).bit_length()
        self.first = 1 << self.depth
        self.nodes = np.zeros(2 * self.first, np.float64)

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self.nodes[1])

    @property
    def priorities(self) -> NDArray[np.float64]:
        """The leaves, [size]: a read-only view by convention."""
        return self.nodes[self.first : self.first + self.size]

    def set(self, index: NDArray[np.int64], priority: Any) -> None:
        """Set the priorities (a number or [K]) of leaves `index` [K]; of a repeated index the last value counts."""
        nodes = self.nodes
        node = index + self.first
        nodes[node] = priority
        if len(index) <= _FEW:
            for k in node.tolist():
                while k > 1:
                    k >>= 1
                    nodes[k] = nodes.item(2 * k) + nodes.item(2 * k + 1)
            return
        for _ in range(self.depth):
            node = node >> 1
            child = node << 1
            nodes[node] = nodes.take(child) + nodes.take(child + 1)

    def find(self, value: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the leaves [K] in which cumulative sums `value` [K] in [0, total) fall, never one of priority 0."""
        nodes = self.nodes
        node = np.ones(len(value), np.int64)
        left_over = value
        for _ in range(self.depth):
            node = node << 1
            left = nodes.take(node)
            right = left_over >= left
            left_over = left_over - left * right
            node += right
        index = node - self.first
        # Rounding can carry a value past the last leaf with a priority: those are searched one by one.
        if not nodes.take(node).all():
            lost = np.flatnonzero(nodes.take(node) == 0.0)
            index[lost] = [self._find_one(v) for v in value[lost].tolist()]
        return index

    def _find_one(self, value: float) -> int:
        """Descend for one value, never into a subtree whose sum is 0."""
        node = 1
        for _ in range(self.depth):
            node *= 2
            left = self.nodes[node]
            if value >= left and self.nodes[node + 1] > 0.0:
                value -= left
                node += 1
        return node - self.first
