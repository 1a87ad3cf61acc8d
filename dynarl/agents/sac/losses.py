"""The losses and targets of SAC (arXiv:1812.05905): pure functions of arrays and tensors."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from dynarl.autograd import primitive, xp
from dynarl.autograd.tensor import wrap

__all__ = ["critic_loss", "discrete_policy_loss", "policy_loss", "soft_td_target"]


def soft_td_target(reward: NDArray[Any], discount: NDArray[Any], next_soft_value: NDArray[Any]) -> NDArray[Any]:
    """Return y = r + discount V(s'), arXiv:1812.05905 eq. 2 and 3; all arrays are [B].

    `discount` is gamma^k for the k steps that `reward` sums, 0 where the episode terminated; `next_soft_value` is
    min_i Q'_i(s', a') - alpha log pi(a'|s'), a' drawn from the current policy.
    """
    return reward + discount * next_soft_value


@primitive
def critic_loss(q: Any, *, td_target: Any) -> Any:
    """Return sum_i 1/2 mean((Q_i - y)^2), arXiv:1812.05905 eq. 5: q [C, B], td_target [B]."""
    error = q - td_target
    scale = 1.0 / q.shape[-1]
    return (error * error).sum() * (0.5 * scale), (lambda g: error * (g * scale),)


def _policy_vjps(chosen: Any, log_prob: Any, alpha: float) -> Any:
    count = log_prob.shape[0]
    return (
        lambda g: chosen * (g * (-1.0 / count)),
        lambda g: xp(g).broadcast_to(g * (alpha / count), log_prob.shape),
    )


def _policy_lifted(q: Any, log_prob: Any, *, alpha: float) -> Any:
    return _policy_vjps(wrap(_first_smallest(q.array)), log_prob, alpha)


@primitive(lifted=_policy_lifted)
def policy_loss(q: Any, log_prob: Any, *, alpha: float) -> Any:
    """Return mean(alpha log pi(a|s) - min_i Q_i(s, a)), arXiv:1812.05905 eq. 7: q [C, B], log_prob [B].

    The gradient of the minimum goes to the first of the smallest Q.
    """
    loss = (log_prob * alpha - q.min(axis=0)).sum() * (1.0 / log_prob.shape[0])
    return loss, _policy_vjps(_first_smallest(q), log_prob, alpha)


def _first_smallest(q: Any) -> Any:
    """Return 1 where Q [C, B] is the first smallest of its column, 0 elsewhere."""
    return (xp(q).arange(q.shape[0])[:, None] == q.argmin(axis=0)).astype(q.dtype)


def discrete_policy_loss(log_prob: Any, q: Any, *, alpha: float) -> Any:
    """Return mean(sum_a pi(a|s) (alpha log pi(a|s) - min_i Q_i(s, a))), arXiv:1910.07207 eq. 12.

    log_prob [B, K] of all actions, q [C, B, K] without history: an expectation, no sample.
    """
    return (log_prob.exp() * (log_prob * alpha - q.amin(0))).sum(-1).mean()
