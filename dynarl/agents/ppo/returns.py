"""Returns and advantages: pure functions of time-major arrays that know no agent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["discounted_returns", "explained_variance", "gae", "td_errors"]


def td_errors(
    reward: NDArray[Any],
    value: NDArray[Any],
    next_value: NDArray[Any],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    *,
    gamma: float,
    gae_lambda: float,
    valid: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Return each step's TD error and the weight of the next step's error in it, [T, N] as for `gae`.

    The weight is gamma lambda, 0 where an episode ended; both are 0 where `valid` is False.
    """
    # delta_t = r_t + gamma (1 - terminated_t) V(s_{t+1}) - V(s_t)
    delta = np.where(terminated, np.float32(0), next_value)
    delta *= np.float32(gamma)
    delta += reward
    delta -= value
    decay = np.where(terminated | truncated, np.float32(0), np.float32(gamma * gae_lambda))
    if valid is not None and not valid.all():
        delta[~valid] = 0.0
        decay[~valid] = 0.0
    return delta, decay


def gae(
    reward: NDArray[Any],
    value: NDArray[Any],
    next_value: NDArray[Any],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    *,
    gamma: float,
    gae_lambda: float,
    valid: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Generalised advantage estimation, arXiv:1506.02438 eq. 16.

    Every array is [T, N]; index t is the transition out of obs[t]; next_value[t] is V of the state it
    reached, before any reset. Termination removes the bootstrap, truncation keeps it, both cut the
    recursion. Rows where `valid` is False (dummies of a vector environment's reset) get advantage 0 and
    pass nothing on. Returns (advantages, returns), each [T, N] float32.
    """
    delta, decay = td_errors(
        reward, value, next_value, terminated, truncated, gamma=gamma, gae_lambda=gae_lambda, valid=valid
    )
    # A_t = delta_t + gamma lambda (1 - ended_t) A_{t+1}, in place from the end
    advantages: NDArray[np.float32] = delta.astype(np.float32, copy=False)
    for t in range(len(advantages) - 2, -1, -1):
        advantages[t] += decay[t] * advantages[t + 1]
    return advantages, advantages + value.astype(np.float32, copy=False)


def discounted_returns(
    reward: NDArray[Any],
    next_value: NDArray[Any],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    *,
    gamma: float,
) -> NDArray[np.float32]:
    """Return the discounted return of every step, [T, N].

    Where the fragment or a truncated episode is cut, V of the state reached replaces the rest; a terminated episode
    ends with 0.
    """
    after = np.where(terminated, np.float32(0), next_value)
    goes_on = ~(terminated | truncated)
    returns = np.empty(reward.shape, np.float32)
    for t in range(len(reward) - 1, -1, -1):
        if t < len(reward) - 1:
            after[t] = np.where(goes_on[t], returns[t + 1], after[t])
        returns[t] = reward[t] + gamma * after[t]
    return returns


def explained_variance(prediction: NDArray[Any], target: NDArray[Any]) -> float:
    """Return 1 - Var(target - prediction) / Var(target).

    1 is perfect, 0 no better than a constant; NaN where the target does not vary.
    """
    target = np.asarray(target, np.float64)
    variance = float(target.var())
    return float("nan") if variance == 0.0 else 1.0 - float((target - prediction).var()) / variance
