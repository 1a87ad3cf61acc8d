"""Running statistics of observations and rewards.

Statistics are updated once per fragment, after its collection, so the policy acts on and learns from every row of a
fragment under the same statistics. They count the valid observations that were acted on: the first one of an episode
is included, the last one (reached, never acted on) is not. Both are normalised in the same way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ObservationNormalizer", "RewardNormalizer", "RunningMeanStd"]


class RunningMeanStd:
    """Mean and variance (divided by n) of all rows, float64 (Chan et al., 1979, eq. 2.1).

    ``mean`` and ``var`` have the given shape, 0 and 1 before the first update; ``count`` is the number of rows.
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.mean: NDArray[np.float64] = np.zeros(shape, np.float64)
        self.var: NDArray[np.float64] = np.ones(shape, np.float64)
        self.count = 0.0

    def update(self, rows: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> None:
        """Add ``rows``, [..., *shape], where ``valid`` [...] (default: all)."""
        lead = rows.ndim - self.mean.ndim
        if lead < 1 or rows.shape[lead:] != self.mean.shape:
            raise ValueError(f"RunningMeanStd: rows must be [..., {self.mean.shape}], got {rows.shape}")
        rows = rows.reshape(-1, *self.mean.shape) if valid is None or valid.all() else rows[valid]
        if len(rows):
            rows = rows.astype(np.float64, copy=False)
            self._merge(rows.mean(axis=0), rows.var(axis=0), float(len(rows)))

    def merge(self, other: RunningMeanStd) -> None:
        """Add the statistics of ``other``; for reproducible bytes merge workers in the order of their ids."""
        if other.count:
            self._merge(other.mean, other.var, other.count)

    def state_dict(self) -> dict[str, Any]:
        """Copies of ``mean``, ``var`` and ``count``."""
        return {"mean": self.mean.copy(), "var": self.var.copy(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; raises ValueError for statistics of another shape."""
        if np.shape(state["mean"]) != self.mean.shape:
            raise ValueError(
                f"RunningMeanStd: the state must have shape {self.mean.shape}, got {np.shape(state['mean'])}"
            )
        self.mean = np.array(state["mean"], np.float64)
        self.var = np.array(state["var"], np.float64)
        self.count = float(state["count"])

    def _merge(self, mean: Any, var: Any, count: float) -> None:
        total = self.count + count
        delta = mean - self.mean
        m2 = (self.var * self.count if self.count else 0.0) + var * count
        self.mean = np.asarray(self.mean + delta * (count / total))
        self.var = np.asarray((m2 + delta * delta * (self.count * count / total)) / total)
        self.count = total


class ObservationNormalizer:
    """Observations minus their mean, divided by their standard deviation, clipped to ±``clip``.

    ``frozen`` (evaluation) disables `update`.
    """

    def __init__(self, shape: tuple[int, ...], *, clip: float = 10.0, epsilon: float = 1e-8) -> None:
        self.stats = RunningMeanStd(shape)
        self.clip, self.epsilon, self.frozen = clip, epsilon, False
        self._refresh()

    def __call__(self, obs: NDArray[Any]) -> NDArray[np.float32]:
        """Normalise ``obs`` [..., *shape] to float32."""
        # float64 until the difference is taken: with a large mean, float32 loses its digits.
        scaled = (obs - self.stats.mean) * self._scale
        return np.minimum(np.maximum(scaled, -self.clip), self.clip).astype(np.float32)

    def update(self, obs: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> None:
        """Add the observations of a fragment, [T, N, *shape], where ``valid`` [T, N]."""
        if not self.frozen:
            self.stats.update(obs, valid)
            self._refresh()

    def state_dict(self) -> dict[str, Any]:
        """The statistics."""
        return self.stats.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.stats.load_state_dict(state)
        self._refresh()

    def _refresh(self) -> None:
        self._scale = 1.0 / np.sqrt(self.stats.var + self.epsilon)


class RewardNormalizer:
    """Rewards divided by the standard deviation of the discounted return so far, clipped to ±``clip``.

    R <- gamma R + r in each environment; R is reset to 0 after an episode ended, terminated or truncated. No mean is
    subtracted, since that would change the optimal policy. ``frozen`` disables `update`.
    """

    def __init__(self, num_envs: int, *, gamma: float, clip: float = 10.0, epsilon: float = 1e-8) -> None:
        self.stats = RunningMeanStd()
        self.running_return = np.zeros(num_envs, np.float64)
        self.gamma, self.clip, self.epsilon, self.frozen = gamma, clip, epsilon, False

    def __call__(self, reward: NDArray[Any]) -> NDArray[np.float32]:
        """Scale rewards of any shape to float32."""
        scaled = np.asarray(reward, np.float64) / np.sqrt(self.stats.var + self.epsilon)
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    def update(
        self,
        reward: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        valid: NDArray[np.bool_] | None = None,
        first_start: NDArray[np.bool_] | None = None,
        envs: NDArray[np.int64] | None = None,
    ) -> None:
        """Add a fragment's raw rewards; all arrays [T, N]. Dummy rows do not change R.

        ``first_start`` [N] marks where an episode starts at t = 0, including after an episode that was never finished.
        ``envs`` [N] are the environments, each at most once, if these are not all of them in order.
        """
        if self.frozen:
            return
        running = self.running_return.copy() if envs is None else self.running_return[envs]
        if reward.shape[1:] != running.shape:
            raise ValueError(f"RewardNormalizer: rewards must be [T, {len(running)}], got {list(reward.shape)}")
        if first_start is not None:
            running[first_start] = 0.0
        returns = np.empty(reward.shape, np.float64)
        go_on = ~(terminated | truncated)
        for t in range(len(reward)):
            if valid is None:
                running = self.gamma * running + reward[t]
            else:
                running = np.where(valid[t], self.gamma * running + reward[t], running)
            returns[t] = running
            running = running * go_on[t]
        self.running_return[slice(None) if envs is None else envs] = running
        self.stats.update(returns, valid)

    def state_dict(self) -> dict[str, Any]:
        """The statistics and each environment's running return."""
        return {"stats": self.stats.state_dict(), "running_return": self.running_return.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; raises ValueError for another number of environments."""
        if np.shape(state["running_return"]) != self.running_return.shape:
            raise ValueError(
                f"RewardNormalizer: the state must be of {len(self.running_return)} environments, "
                f"got {len(state['running_return'])}"
            )
        self.stats.load_state_dict(state["stats"])
        self.running_return = np.array(state["running_return"], np.float64)
