"""Q-distributions: the returns of actions as their means (DQN), categorical distributions (C51) or quantiles (QR-DQN).

A network's output is [B, A] for means and [B, A, atoms] for distributions. Outputs, targets and TD errors are arrays
on the device of the network.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.dqn.config import DQNConfig
from dynarl.agents.dqn.td import categorical_projection, categorical_td_loss, huber_td_loss, quantile_td_loss
from dynarl.autograd import Tensor
from dynarl.autograd.device import to_device, xp

__all__ = ["CategoricalQ", "MeanQ", "QuantileQ", "make_q_distribution"]

Array = NDArray[Any]

# The support of C51 is compared with every so many targets, and warned of at the N-th that lies outside.
_LOOK_EVERY, _LOOKS_UNTIL_WARNING = 10, 10


class MeanQ:
    """Q [B, A] itself (Mnih et al., Nature 518, 2015)."""

    num_atoms = 0
    """Numbers per action in the network's output; 0 for one number without an axis of its own."""
    loss_formula = "mean(w h(Q(s, a) - y)), h the Huber function with delta 1"
    td_error_formula = "|Q - y|"

    def expected(self, output: Array) -> Array:
        """Return Q [B, A] of an output."""
        return output

    def greedy(self, output: Array, mask: Array | None = None) -> Array:
        """Return argmax_a Q [B] over the actions that a mask [B, A] allows."""
        actions: Array = _allowed(self.expected(output), mask).argmax(axis=1)
        return actions

    def target(self, reward: Array, discount: Array, next_q: Array, chooser: Array, mask: Array | None) -> Array:
        """Return the TD target r + discount Z'(s', argmax_a Q(s', a)), with Z' from `next_q` and Q from `chooser`.

        Double Q-learning (arXiv:1509.06461, eq. 4) passes the online network's output as `chooser`.
        """
        if chooser is next_q:  # the value of the argmax is the maximum: no indexing needed
            return reward + discount * _allowed(next_q, mask).max(axis=1)
        return reward + discount * _at(next_q, self.greedy(chooser, mask))

    def loss(self, output: Tensor, *, action: Array, td_target: Array, weight: Array) -> Tensor:
        """Return the mean loss of the output for the actions [B] taken, with importance weights [B]."""
        loss: Tensor = huber_td_loss(output, action=action, td_target=td_target, weight=weight)
        return loss

    def td_error(self, output: Array, action: Array, td_target: Array) -> Array:
        """Return the TD errors [B] that define priorities."""
        return _at(output, action) - td_target


class CategoricalQ(MeanQ):
    """Logits [B, A, atoms] of returns on a fixed support (C51, arXiv:1707.06887). Priorities are KL divergences."""

    loss_formula = "mean(w cross-entropy of y projected onto the support and p(s, a))"
    td_error_formula = "KL(y, p(s, a))"

    def __init__(self, v_min: float, v_max: float, num_atoms: int, device: str = "cpu") -> None:
        self.v_min, self.v_max, self.num_atoms = v_min, v_max, num_atoms
        self._support = to_device(np.linspace(v_min, v_max, num_atoms, dtype=np.float32), device)
        self._targets = self._outside = 0  # targets so far; looks at which half of the batch lay outside the support

    def expected(self, output: Array) -> Array:
        """Return the means [B, A] of the distributions."""
        q: Array = _softmax(output) @ self._support
        return q

    def target(self, reward: Array, discount: Array, next_q: Array, chooser: Array, mask: Array | None) -> Array:
        """Return the projected distributions [B, atoms] (arXiv:1707.06887, Algorithm 1)."""
        chosen = _softmax(_at(next_q, self.greedy(chooser, mask)))
        if self._targets % _LOOK_EVERY == 0 and self._outside < _LOOKS_UNTIL_WARNING:
            self._look_at_support(reward + discount * (chosen @ self._support))
        self._targets += 1
        support = {"v_min": self.v_min, "v_max": self.v_max}
        projected: Array = categorical_projection(reward, discount, chosen, **support, num_atoms=self.num_atoms)
        return projected

    def _look_at_support(self, mean_target: Array) -> None:
        """Warn once where returns [B] leave the support for good: the projection would silently cut them off."""
        outside = (mean_target < self.v_min) | (mean_target > self.v_max)
        if float(outside.mean()) <= 0.5:
            return
        self._outside += 1
        if self._outside == _LOOKS_UNTIL_WARNING:
            warnings.warn(
                f"v_min, v_max: the support of C51 is [{self.v_min}, {self.v_max}], most targets lie outside, from "
                f"{float(mean_target.min()):.4g} to {float(mean_target.max()):.4g}, and are cut off; set v_min and "
                "v_max to the returns of the task, or use distributional='qr'",
                stacklevel=2,
            )

    def loss(self, output: Tensor, *, action: Array, td_target: Array, weight: Array) -> Tensor:
        """Return the mean cross-entropy."""
        loss: Tensor = categorical_td_loss(output, action=action, target=td_target, weight=weight)
        return loss

    def td_error(self, output: Array, action: Array, td_target: Array) -> Array:
        """Return the KL divergence [B] from the target (Rainbow, arXiv:1710.02298)."""
        np_ = xp(output)
        # 1e-8 keeps log finite at atoms of probability 0
        ratio = np_.log(td_target + 1e-8) - np_.log(_softmax(_at(output, action)) + 1e-8)
        error: Array = (td_target * ratio).sum(axis=1)
        return error


class QuantileQ(MeanQ):
    """Quantiles [B, A, N] of returns (QR-DQN, arXiv:1710.10044)."""

    loss_formula = "mean(w sum_i mean_j |tau_i - 1{d_ij < 0}| h(d_ij)), h the Huber function with delta 1"
    td_error_formula = "|mean of Q - mean of y|"

    def __init__(self, num_quantiles: int) -> None:
        self.num_atoms = num_quantiles

    def expected(self, output: Array) -> Array:
        """Return the means [B, A] over the quantiles."""
        q: Array = output.mean(axis=2)
        return q

    def target(self, reward: Array, discount: Array, next_q: Array, chooser: Array, mask: Array | None) -> Array:
        """Return the target quantiles [B, N] (arXiv:1710.10044, eq. 13)."""
        return reward[:, None] + discount[:, None] * _at(next_q, self.greedy(chooser, mask))

    def loss(self, output: Tensor, *, action: Array, td_target: Array, weight: Array) -> Tensor:
        """Return the mean quantile Huber loss."""
        loss: Tensor = quantile_td_loss(output, action=action, target=td_target, weight=weight)
        return loss

    def td_error(self, output: Array, action: Array, td_target: Array) -> Array:
        """Return the difference of the means [B]."""
        error: Array = _at(output, action).mean(axis=1) - td_target.mean(axis=1)
        return error


def make_q_distribution(config: DQNConfig, device: str = "cpu") -> MeanQ:
    """Return the Q-distribution that `distributional` names."""
    if config.distributional == "c51":
        return CategoricalQ(config.v_min, config.v_max, config.num_atoms, device)
    return QuantileQ(config.num_quantiles) if config.distributional == "qr" else MeanQ()


def _allowed(q: Array, mask: Array | None) -> Array:
    """Return Q [B, A] with -inf where a mask [B, A] forbids the action."""
    return q if mask is None else xp(q).where(mask, q, -np.inf)


def _at(output: Array, action: Array) -> Array:
    """Return the rows [B, ...] of an output [B, A, ...] that belong to actions [B]."""
    rows: Array = output[xp(output).arange(len(output)), action]
    return rows


def _softmax(x: Array) -> Array:
    """Return the softmax over the last axis."""
    e = xp(x).exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
