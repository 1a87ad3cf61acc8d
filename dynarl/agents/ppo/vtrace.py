"""V-trace: values and advantages of one policy from what another, a little older, has done."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.ppo.returns import td_errors

__all__ = ["VTrace", "vtrace"]


class VTrace(NamedTuple):
    """Advantages, returns (the targets of the value function) and the clipped importance weights, [T, N] float32."""

    advantages: NDArray[np.float32]
    returns: NDArray[np.float32]
    rho: NDArray[np.float32]


def vtrace(
    reward: NDArray[Any],
    value: NDArray[Any],
    next_value: NDArray[Any],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    *,
    log_prob: NDArray[Any],
    behaviour_log_prob: NDArray[Any],
    gamma: float,
    gae_lambda: float = 1.0,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
    valid: NDArray[np.bool_] | None = None,
) -> VTrace:
    """V-trace targets, arXiv:1802.01561 eq. 1, and the advantages of its policy gradient.

    Every array is [T, N], the first five as `gae` takes them: termination removes the bootstrap, truncation keeps
    it, both cut the recursion, rows where `valid` is False get advantage 0 and pass nothing on. `value` and
    `next_value` are those of the policy that learns, `log_prob` its log-probabilities of the actions that a policy
    with `behaviour_log_prob` chose. `rho_bar` limits the weight of a step's own error (inf: the target is the value
    of the policy that learns), `c_bar` how much later errors count; remark 2 multiplies the latter by lambda.

    The advantage is rho_t (r_t + gamma (lambda v_{t+1} + (1 - lambda) V(s_{t+1})) - V(s_t)): with lambda 1 that of
    section 4.2, and with equal policies that of `gae` for every lambda. Raises ValueError for limits not positive.
    """
    if not (rho_bar > 0 and c_bar > 0):
        raise ValueError(f"vtrace: rho_bar and c_bar must be positive, got {rho_bar} and {c_bar}")
    log_rho = np.asarray(log_prob, np.float32) - behaviour_log_prob
    # limited before exp, which overflows
    rho = np.exp(np.minimum(log_rho, np.float32(math.log(rho_bar)) if rho_bar < math.inf else np.float32(80.0)))
    c = np.exp(np.minimum(log_rho, np.float32(math.log(c_bar)) if c_bar < math.inf else np.float32(80.0)))
    delta, decay = td_errors(
        reward, value, next_value, terminated, truncated, gamma=gamma, gae_lambda=gae_lambda, valid=valid
    )
    # v_t - V(s_t) = rho_t delta_t + gamma lambda c_t (1 - ended_t) (v_{t+1} - V(s_{t+1})), from the end
    correction = rho * delta
    advantages = np.array(delta, np.float32)
    for t in range(len(correction) - 2, -1, -1):
        later = decay[t] * correction[t + 1]
        correction[t] += c[t] * later
        advantages[t] += later
    advantages *= rho
    return VTrace(advantages, correction + np.asarray(value, np.float32), rho)
