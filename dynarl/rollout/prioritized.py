"""Prioritised experience replay (arXiv:1511.05952): transitions are drawn in proportion to their TD error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.rollout.fragment import Batch
from dynarl.rollout.packed import PackedRows
from dynarl.rollout.replay import Layout, ReplayBuffer
from dynarl.rollout.sum_tree import SumTree

__all__ = ["PrioritizedReplay"]


class PrioritizedReplay(ReplayBuffer):
    """A replay that draws transition i with probability p_i^alpha / sum_j p_j^alpha, p_i = |delta_i| + eps.

    New transitions get the largest priority seen so far, so that each is likely to be drawn once. Rows that are no
    transitions (dummy rows, the rows at the write heads) have priority 0 and are never drawn. Arguments as for
    `ReplayBuffer`; `alpha` 0 is uniform.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation: Layout,
        action: Layout,
        *,
        n_step: int = 1,
        gamma: float = 0.99,
        alpha: float = 0.6,
        eps: float = 1e-6,
        packing: PackedRows | None = None,
    ) -> None:
        super().__init__(capacity, num_envs, observation, action, n_step=n_step, gamma=gamma, packing=packing)
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"PrioritizedReplay: alpha must lie in [0, 1], got {alpha}")
        if not eps > 0.0:
            raise ValueError(
                f"PrioritizedReplay: eps must be positive, got {eps}: a transition of priority 0 is never drawn again"
            )
        self.alpha, self.eps = alpha, eps
        self._tree = SumTree(self.size)
        self._largest = 1.0  # largest priority seen, p^alpha
        self._new: list[Any] = []  # indices written since the last `_refresh`

    def sample(self, batch_size: int, rng: np.random.Generator, beta: float = 1.0) -> Batch:
        """Draw transitions by priority, one from each of `batch_size` equal strata of the total.

        `weight` is (N P(i))^-beta, divided by the largest of the batch (section 3.4). The other fields are those of
        `ReplayBuffer.sample`.
        """
        total = len(self)
        if total == 0:
            raise RuntimeError("sample: the replay must hold a transition, got 0")
        self._refresh()
        tree = self._tree
        part = tree.total / batch_size
        value = (rng.random(batch_size) + np.arange(batch_size)) * part
        index = tree.find(value)
        # (N p / total)^-beta / max: N and total cancel
        priority = tree.priorities.take(index)
        weight = (priority / priority.min()) ** -beta
        return self.gather(index, weight.astype(np.float32))

    def update_priorities(self, index: NDArray[np.int64], td_error: NDArray[Any]) -> None:
        """Set the priorities of transitions `index` [B], of the batch just drawn, to (|td_error| + eps)^alpha.

        Raises FloatingPointError for an error that is not finite, which would corrupt every sum above it in the tree.
        """
        priority = (np.abs(td_error, dtype=np.float64) + self.eps) ** self.alpha
        largest = float(priority.max())
        if not np.isfinite(largest):
            raise FloatingPointError("update_priorities: TD errors must be finite")
        self._refresh()
        # Steps stored since the draw may have overwritten a transition: its slot is a head now, at priority 0.
        held = self._tree.priorities.take(index) > 0.0
        if not held.all():
            index, priority = index[held], priority[held]
        self._tree.set(index, priority)
        self._largest = max(self._largest, largest)

    def _wrote(self, index: Any) -> None:
        self._new.append(index)

    def _refresh(self) -> None:
        """Update the tree: new rows get the largest priority, heads 0."""
        if self._new:
            parts = [np.arange(i.start, i.stop) if isinstance(i, slice) else i for i in self._new]
            self._new = []
            self._tree.set(parts[0] if len(parts) == 1 else np.concatenate(parts), self._largest)
            self._tree.set(self._ring.heads(), 0.0)

    def state_dict(self) -> dict[str, Any]:
        """The transitions and their priorities."""
        self._refresh()
        return {**super().state_dict(), "priorities": self._tree.priorities.copy(), "largest": self._largest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        super().load_state_dict(state)
        self._new = []
        self._tree.set(np.arange(self.size), np.asarray(state["priorities"]))
        self._largest = float(state["largest"])
