"""What the numbers of a Q-network say of returns: their means, their distributions (C51), or quantiles of them (QR)."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.agents.dqn.config import DQNConfig
from dynarl.agents.dqn.td import categorical_projection, categorical_td_loss, huber_td_loss, quantile_td_loss
from dynarl.autograd.device import to_device, xp

__all__ = ["CategoricalHead", "MeanHead", "QuantileHead", "head_for"]


class MeanHead:
    """Q [B, A] itself (Mnih et al., Nature 518, 2015). Outputs, targets and errors are arrays of the device."""

    def expected(self, output: Any) -> Any:
        """Return Q [B, A] of an output."""
        return output

    def greedy(self, output: Any, mask: Any = None) -> Any:
        """Return argmax_a Q [B] over the actions that a mask [B, A] allows."""
        return _allowed(self.expected(output), mask).argmax(axis=1)

    def target(self, reward: Any, discount: Any, next_q: Any, chooser: Any, mask: Any) -> Any:
        """Return what to learn of r + discount Z'(s', argmax_a Q(s', a)), Z' as `next_q` and Q as `chooser` say."""
        if chooser is next_q:
            return reward + discount * _allowed(next_q, mask).max(axis=1)
        return reward + discount * _at(next_q, self.greedy(chooser, mask))

    def loss(self, output: Any, *, action: Any, td_target: Any, weight: Any) -> Any:
        """Return the mean loss of a network's output for the actions taken, weighted by weight [B]."""
        return huber_td_loss(output, action=action, td_target=td_target, weight=weight)

    def td_error(self, output: Any, action: Any, td_target: Any) -> Any:
        """Return what priorities are made of, [B]."""
        return _at(output, action) - td_target


class CategoricalHead(MeanHead):
    """Logits [B, A, atoms] of returns on a support (C51, arXiv:1707.06887); priorities are KL divergences (Rainbow)."""

    def __init__(self, v_min: float, v_max: float, num_atoms: int, device: str) -> None:
        self._range: dict[str, Any] = {"v_min": v_min, "v_max": v_max, "num_atoms": num_atoms}
        self._support = to_device(np.linspace(v_min, v_max, num_atoms, dtype=np.float32), device)

    def expected(self, output: Any) -> Any:
        """Return the means of the distributions."""
        return _softmax(output) @ self._support

    def target(self, reward: Any, discount: Any, next_q: Any, chooser: Any, mask: Any) -> Any:
        """Return the projected distributions [B, atoms] (Algorithm 1)."""
        chosen = _softmax(_at(next_q, self.greedy(chooser, mask)))
        return categorical_projection(reward, discount, chosen, **self._range)

    def loss(self, output: Any, *, action: Any, td_target: Any, weight: Any) -> Any:
        """Return the mean cross-entropy."""
        return categorical_td_loss(output, action=action, target=td_target, weight=weight)

    def td_error(self, output: Any, action: Any, td_target: Any) -> Any:
        """Return the KL divergence from the target [B]."""
        np_ = xp(output)
        ratio = np_.log(td_target + 1e-8) - np_.log(_softmax(_at(output, action)) + 1e-8)
        return (td_target * ratio).sum(axis=1)


class QuantileHead(MeanHead):
    """Quantiles [B, A, N] of returns (QR-DQN, arXiv:1710.10044)."""

    def expected(self, output: Any) -> Any:
        """Return the means over the quantiles."""
        return output.mean(axis=2)

    def target(self, reward: Any, discount: Any, next_q: Any, chooser: Any, mask: Any) -> Any:
        """Return the quantiles to learn, [B, N] (eq. 13)."""
        return reward[:, None] + discount[:, None] * _at(next_q, self.greedy(chooser, mask))

    def loss(self, output: Any, *, action: Any, td_target: Any, weight: Any) -> Any:
        """Return the mean quantile Huber loss."""
        return quantile_td_loss(output, action=action, target=td_target, weight=weight)

    def td_error(self, output: Any, action: Any, td_target: Any) -> Any:
        """Return the difference of the means [B]."""
        return _at(output, action).mean(axis=1) - td_target.mean(axis=1)


def head_for(config: DQNConfig, device: str) -> MeanHead:
    """Return what `distributional` asks for."""
    if config.distributional == "c51":
        return CategoricalHead(config.v_min, config.v_max, config.num_atoms, device)
    return QuantileHead() if config.distributional == "qr" else MeanHead()


def _allowed(q: Any, mask: Any) -> Any:
    """Return Q [B, A] with -inf where a mask [B, A] forbids the action."""
    return q if mask is None else xp(q).where(mask, q, -np.inf)


def _at(output: Any, action: Any) -> Any:
    """Return the rows [B, ...] of an output [B, A, ...] that belong to actions [B]."""
    return output[xp(output).arange(len(output)), action]


def _softmax(x: Any) -> Any:
    """Return the softmax over the last axis of a raw array."""
    e = xp(x).exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
