"""Temporal-difference targets (functions of arrays) and losses (operations with their gradients)."""

from __future__ import annotations

from typing import Any

from dynarl.autograd import primitive, xp

__all__ = [
    "categorical_projection",
    "categorical_td_loss",
    "huber_td_loss",
    "quantile_midpoints",
    "quantile_td_loss",
]


@primitive
def huber_td_loss(q: Any, *, action: Any, td_target: Any, weight: Any) -> Any:
    """Return mean(w h(Q(s, a) - y)), h the Huber function with delta 1 (PyTorch's smooth_l1_loss).

    q is [B, A], action, td_target and weight are [B]. Bounding the slope of h is the error clipping of
    Mnih et al., Nature 518 (2015), whose loss is the sum instead of the mean.
    """
    np_ = xp(q)
    chosen = action[:, None] == xp(action).arange(q.shape[1])
    delta = (q * chosen).sum(axis=1) - td_target
    clipped = np_.clip(delta, -1.0, 1.0)
    # h(d) = d^2/2 inside, |d| - 1/2 outside: clip(d) (d - clip(d)/2) in both cases
    weighted = clipped * weight
    scale = 1.0 / q.shape[0]
    loss = (weighted * (delta - 0.5 * clipped)).sum() * scale
    return loss, (lambda g: chosen * (weighted * (g * scale))[:, None],)


def categorical_projection(
    reward: Any, discount: Any, probabilities: Any, *, v_min: float, v_max: float, num_atoms: int
) -> Any:
    """Project r + discount Z onto the support of Z, arXiv:1707.06887 eq. 7: [B, atoms] to [B, atoms].

    The support is `num_atoms` equally spaced values from v_min to v_max. Each shifted atom's probability
    is shared between its two neighbours; the lower one is at most the last but one, so that two always exist.
    """
    np_ = xp(probabilities)
    rows, dtype = len(reward), probabilities.dtype
    spacing = (v_max - v_min) / (num_atoms - 1)
    support = np_.linspace(v_min, v_max, num_atoms, dtype=dtype)
    shifted = np_.clip(reward[:, None] + discount[:, None] * support, v_min, v_max)
    position = (shifted - v_min) * (1.0 / spacing)  # in [0, atoms - 1]
    lower = np_.minimum(np_.floor(position), num_atoms - 2).astype(np_.int64)
    upper_share = probabilities * np_.clip(position - lower, 0.0, 1.0)
    flat = (lower + np_.arange(rows)[:, None] * num_atoms).ravel()
    size = rows * num_atoms
    out = np_.bincount(flat, weights=(probabilities - upper_share).ravel(), minlength=size)
    out += np_.bincount(flat + 1, weights=upper_share.ravel(), minlength=size)
    return out.reshape(rows, num_atoms).astype(dtype)


@primitive
def categorical_td_loss(logits: Any, *, action: Any, target: Any, weight: Any) -> Any:
    """Return mean(w KL(m || p(s, a))) up to a constant: the cross-entropy of arXiv:1707.06887, Algorithm 1.

    logits is [B, A, atoms], target the projected distribution m [B, atoms], action and weight are [B].
    """
    np_ = xp(logits)
    chosen = (action[:, None] == xp(action).arange(logits.shape[1]))[:, :, None]
    z = (logits * chosen).sum(axis=1)
    z = z - z.max(axis=1, keepdims=True)
    log_p = z - np_.log(np_.exp(z).sum(axis=1, keepdims=True))
    scale = 1.0 / logits.shape[0]
    loss = ((log_p * target).sum(axis=1) * weight).sum() * (-scale)

    def vjp(g: Any) -> Any:
        # d/dz of -sum_i m_i log p_i is p sum_i m_i - m, and the m_i add up to 1
        return chosen * ((np_.exp(log_p) - target) * (weight * (g * scale))[:, None])[:, None, :]

    return loss, (vjp,)


def quantile_midpoints(num_quantiles: int, np_: Any) -> Any:
    """Return tau_i = (2 i + 1) / 2N, the middles of N equal parts of [0, 1], arXiv:1710.10044 lemma 2."""
    return ((np_.arange(num_quantiles) + 0.5) / num_quantiles).astype(np_.float32)


@primitive
def quantile_td_loss(theta: Any, *, action: Any, target: Any, weight: Any) -> Any:
    """Return mean over B of w sum_i mean_j |tau_i - 1{d_ij < 0}| h(d_ij), arXiv:1710.10044 eq. 10, kappa 1.

    d_ij = target_j - theta_i(s, a). theta is [B, A, N], target [B, N], action and weight are [B].
    """
    np_ = xp(theta)
    batch, _, count = theta.shape
    chosen = (action[:, None] == xp(action).arange(theta.shape[1]))[:, :, None]
    estimate = (theta * chosen).sum(axis=1)
    delta = target[:, None, :] - estimate[:, :, None]  # [B, i, j]
    clipped = np_.clip(delta, -1.0, 1.0)
    tau = quantile_midpoints(count, xp(action))[None, :, None]
    asymmetric = abs(tau - (delta < 0.0)) * clipped
    scale = 1.0 / (batch * count)
    loss = ((asymmetric * (delta - 0.5 * clipped)).sum(axis=(1, 2)) * weight).sum() * scale

    def vjp(g: Any) -> Any:
        return chosen * (asymmetric.sum(axis=2) * (weight * (g * -scale))[:, None])[:, None, :]

    return loss, (vjp,)
