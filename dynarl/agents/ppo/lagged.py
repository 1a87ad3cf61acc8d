"""PPO on fragments of older versions of the policy: V-trace in place of GAE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.ppo.config import PPOConfig
from dynarl.agents.ppo.vtrace import vtrace
from dynarl.autograd import no_grad
from dynarl.rollout import Fragment

__all__ = ["Evaluator", "lagged_advantages", "once_each"]


class Evaluator(Protocol):
    """Evaluates the current policy on fragments: `TransitionRows` and `Sequences`."""

    def evaluate_all(self, fragment: Fragment) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
        """Return the places of the valid rows in [T * N], and log_prob and value of each."""
        ...

    def end_values(self, obs: NDArray[Any]) -> NDArray[Any] | None:
        """Return V [B] of stored observations [B, ...], None where that needs a state which is not stored."""
        ...


def lagged_advantages(
    evaluator: Evaluator, fragment: Fragment, reward: NDArray[Any], config: PPOConfig
) -> dict[str, float]:
    """Add V-trace's advantages and returns to a fragment that older policies acted; return its metrics.

    `log_prob` and `value` of the fragment become those of the current policy, from which the epochs that follow
    measure their ratio: the clipped surrogate limits how far an update moves, and the importance weight in the
    advantage accounts for the lag (the decoupled objective of arXiv:2110.00641, with V-trace's limited weights).
    With a policy that has a state, V at the ends of episodes and of the fragment stays that of acting.
    """
    behaviour, next_value = fragment["log_prob"].copy(), fragment["next_value"].copy()
    fragment["advantages"] = fragment["returns"] = np.zeros_like(reward, np.float32)
    log_prob, value = _current(evaluator, fragment)
    goes_on = ~(fragment["terminated"] | fragment["truncated"])[:-1]
    next_value[:-1][goes_on] = value[1:][goes_on]
    _replace_end_values(evaluator, fragment, next_value)
    found = vtrace(
        reward, value, next_value, fragment["terminated"], fragment["truncated"], log_prob=log_prob,
        behaviour_log_prob=behaviour, gamma=config.gamma, gae_lambda=config.gae_lambda, rho_bar=config.rho_bar,
        c_bar=config.c_bar, valid=fragment["valid"],
    )  # fmt: skip
    fragment["log_prob"], fragment["value"], fragment["next_value"] = log_prob, value, next_value
    fragment["advantages"], fragment["returns"] = found.advantages, found.returns
    weight = found.rho[fragment["valid"]]
    limited = float((weight >= config.rho_bar * (1 - 1e-6)).mean())
    return {"vtrace/rho": float(weight.mean()), "vtrace/limited": limited}


def _current(evaluator: Evaluator, fragment: Fragment) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return log_prob and value [T, N] of the current policy; dummy rows keep the values they have."""
    log_prob, value = fragment["log_prob"].copy(), fragment["value"].copy()
    with no_grad():
        index, *found = evaluator.evaluate_all(fragment)
    log_prob.reshape(-1)[index], value.reshape(-1)[index] = found
    return log_prob, value


def _replace_end_values(evaluator: Evaluator, fragment: Fragment, next_value: NDArray[Any]) -> None:
    """Put V of the last observations of truncated episodes and of the cut into next_value [T, N]."""
    t, n = fragment.final_index.T
    open_ = ~fragment["terminated"][t, n]
    value = evaluator.end_values(np.concatenate((fragment.final_obs[open_], fragment.last_obs)))
    if value is None:
        return
    count, last = np.count_nonzero(open_), ~(fragment["terminated"] | fragment["truncated"])[-1]
    next_value[-1][last] = value[count:][last]
    next_value[t[open_], n[open_]] = value[:count]


def once_each(env_ids: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Split columns [N] so that no environment is twice in a part, keeping the order of each one's columns."""
    seen: dict[int, int] = {}
    turns = np.zeros(len(env_ids), np.int64)
    for column, env in enumerate(env_ids.tolist()):
        turns[column] = seen[env] = seen.get(env, -1) + 1
    for turn in range(int(turns.max()) + 1):
        yield np.flatnonzero(turns == turn)
