"""PPO on what older versions of the policy did: V-trace in place of GAE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.ppo.vtrace import vtrace
from dynarl.autograd import no_grad
from dynarl.rollout import Fragment

__all__ = ["lagged_advantages", "once_each"]


def lagged_advantages(agent: Any, fragment: Fragment, reward: NDArray[Any]) -> dict[str, float]:
    """Give a fragment that older policies acted V-trace's advantages and returns, and return its metrics.

    `log_prob` and `value` of the fragment become those of the agent's policy now, from which the epochs that follow
    measure their ratio: the clipped surrogate limits how far an update moves, and the importance weight in the
    advantage accounts for the lag (the decoupled objective of arXiv:2110.00641, with V-trace's limited weights).
    Of a policy with a state, V at the ends of episodes and of the fragment stays that of acting.
    """
    cfg = agent.config
    behaviour, next_value = fragment["log_prob"].copy(), fragment["next_value"].copy()
    fragment["advantages"] = fragment["returns"] = np.zeros_like(reward, np.float32)
    log_prob, value = _now(agent, fragment)
    goes_on = ~(fragment["terminated"] | fragment["truncated"])[:-1]
    next_value[:-1][goes_on] = value[1:][goes_on]
    if agent.stateful is None:
        _values_of_ends(agent, fragment, next_value)
    found = vtrace(
        reward, value, next_value, fragment["terminated"], fragment["truncated"], log_prob=log_prob,
        behaviour_log_prob=behaviour, gamma=cfg.gamma, gae_lambda=cfg.gae_lambda, rho_bar=cfg.rho_bar,
        c_bar=cfg.c_bar, valid=fragment["valid"],
    )  # fmt: skip
    fragment["log_prob"], fragment["value"], fragment["next_value"] = log_prob, value, next_value
    fragment["advantages"], fragment["returns"] = found.advantages, found.returns
    weight = found.rho[fragment["valid"]]
    return {"vtrace/rho": float(weight.mean()), "vtrace/limited": float((weight >= cfg.rho_bar * (1 - 1e-6)).mean())}


def _now(agent: Any, fragment: Fragment) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return log_prob and value [T, N] of the policy as it is now; dummy rows keep what they have."""
    log_prob, value = fragment["log_prob"].copy(), fragment["value"].copy()
    with no_grad():
        index, *found = agent.data.evaluate_all(fragment)
    log_prob.reshape(-1)[index], value.reshape(-1)[index] = found
    return log_prob, value


def _values_of_ends(agent: Any, fragment: Fragment, next_value: NDArray[Any]) -> None:
    """Put V of the last observations of truncated episodes and of the cut into next_value [T, N]."""
    t, n = fragment.final_index.T
    open_ = ~fragment["terminated"][t, n]
    obs = np.concatenate((fragment.final_obs[open_], fragment.last_obs))
    value = np.asarray(agent.value(obs))
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
