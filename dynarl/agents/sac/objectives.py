"""The terms of SAC's losses that depend on the kind of action: one sample for Box, the expectation for Discrete."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.agents.sac.config import SACConfig
from dynarl.agents.sac.critics import Critics
from dynarl.agents.sac.losses import discrete_policy_loss, policy_loss
from dynarl.agents.sac.squashed import Gaussian
from dynarl.autograd import Tensor
from dynarl.autograd.device import xp
from dynarl.autograd.ops.indexing import gather
from dynarl.autograd.tensor import wrap
from dynarl.rollout import Batch

__all__ = ["ContinuousObjective", "DiscreteObjective", "Objective", "PolicySample", "make_objective"]

Array = NDArray[Any]


class PolicySample(NamedTuple):
    """Actions [B, A] and their log-probabilities [B]; for Discrete actions log-probabilities [B, K] of all."""

    action: Tensor | None
    log_prob: Tensor


class Objective(Protocol):
    """What `SACLearner.update` computes differently for the two kinds of action."""

    def sample(self, policy: Any, noise: Array | None) -> PolicySample:
        """Return what stands for the expectation over a ~ pi(.|s)."""
        ...

    def soft_value(self, target_critics: Critics, obs: Tensor, sample: PolicySample, alpha: float) -> Array:
        """Return V(s) = E[min_i Q'_i(s, a) - alpha log pi(a|s)] [B] (arXiv:1812.05905, eq. 3)."""
        ...

    def q(self, critics: Critics, obs: Tensor, action: Array) -> Tensor:
        """Return Q_i(s, a) [C, B] of stored actions."""
        ...

    def policy_loss(self, critics: Critics, obs: Tensor, sample: PolicySample, alpha: float) -> Tensor:
        """Return E[alpha log pi(a|s) - min_i Q_i(s, a)] with no gradient to the critics (eq. 7)."""
        ...

    def entropy(self, sample: PolicySample) -> float:
        """Return an estimate of the policy's entropy in nats."""
        ...

    def target_entropy(self, batch: Batch | None = None) -> float:
        """Return the entropy in nats that the temperature keeps, on a batch with action masks that of its masks."""
        ...


class ContinuousObjective:
    """Box actions in [-1, 1]: one reparametrised sample stands for the expectation (arXiv:1812.05905)."""

    def __init__(self, num_dimensions: int, config: SACConfig) -> None:
        self._target = -float(num_dimensions) if config.target_entropy is None else config.target_entropy

    def sample(self, policy: Gaussian, noise: Array | None) -> PolicySample:
        """Return the actions and log-probabilities of standard normal noise [B, A]."""
        return PolicySample(*policy.sample(noise))

    def soft_value(self, target_critics: Critics, obs: Tensor, sample: PolicySample, alpha: float) -> Array:
        """Return min_i Q'_i(s, a) - alpha log pi(a|s) [B]."""
        smallest: Array = target_critics(obs, sample.action).array[..., 0].min(axis=0)
        return smallest - alpha * sample.log_prob.array

    def q(self, critics: Critics, obs: Tensor, action: Array) -> Tensor:
        """Return Q_i(s, a) [C, B]."""
        q: Tensor = critics(obs, action).squeeze(-1)
        return q

    def policy_loss(self, critics: Critics, obs: Tensor, sample: PolicySample, alpha: float) -> Tensor:
        """Return mean(alpha log pi(a|s) - min_i Q_i(s, a)); the gradient passes through the action."""
        loss: Tensor = policy_loss(critics(obs, sample.action, frozen=True).squeeze(-1), sample.log_prob, alpha=alpha)
        return loss

    def entropy(self, sample: PolicySample) -> float:
        """Return -mean(log pi(a|s))."""
        return -float(sample.log_prob.array.mean())

    def target_entropy(self, batch: Batch | None = None) -> float:
        """Return -dim(A), or the configured number."""
        return self._target


class DiscreteObjective:
    """Discrete actions: expectations are sums over the actions (arXiv:1910.07207)."""

    def __init__(self, num_actions: int, config: SACConfig) -> None:
        self._given, self._scale = config.target_entropy, config.target_entropy_scale
        self._num_actions = num_actions

    def sample(self, policy: Tensor, noise: Array | None) -> PolicySample:
        """Return the log-probabilities [B, K] of all actions."""
        return PolicySample(None, policy)

    def soft_value(self, target_critics: Critics, obs: Tensor, sample: PolicySample, alpha: float) -> Array:
        """Return sum_a pi(a|s) (min_i Q'_i(s, a) - alpha log pi(a|s)) [B] (arXiv:1910.07207, eq. 10)."""
        log_prob = sample.log_prob.array
        smallest: Array = target_critics(obs).array.min(axis=0)
        value: Array = (np.exp(log_prob) * (smallest - alpha * log_prob)).sum(axis=-1)
        return value

    def q(self, critics: Critics, obs: Tensor, action: Array) -> Tensor:
        """Return Q_i(s, a) [C, B]: the outputs [C, B, K] at the actions [B]."""
        index = np.broadcast_to(action[None, :, None], (critics.num_critics, len(action), 1))
        q: Tensor = gather(critics(obs), -1, wrap(index)).squeeze(-1)
        return q

    def policy_loss(self, critics: Critics, obs: Tensor, sample: PolicySample, alpha: float) -> Tensor:
        """Return mean(sum_a pi(a|s) (alpha log pi(a|s) - min_i Q_i(s, a))) (arXiv:1910.07207, eq. 12)."""
        loss: Tensor = discrete_policy_loss(sample.log_prob, critics(obs, frozen=True), alpha=alpha)
        return loss

    def entropy(self, sample: PolicySample) -> float:
        """Return mean(-sum_a pi(a|s) log pi(a|s))."""
        log_prob = sample.log_prob.array
        return -float((np.exp(log_prob) * log_prob).sum(axis=-1).mean())

    def target_entropy(self, batch: Batch | None = None) -> float:
        """Return a share of the largest entropy: log K, with action masks the mean of log(number allowed)."""
        if self._given is not None:
            return self._given
        if batch is None or "action_mask" not in batch:
            return self._scale * math.log(self._num_actions)
        allowed = batch.action_mask.sum(axis=-1)
        return self._scale * float(xp(allowed).log(allowed).mean())


def make_objective(action_space: spaces.Space[Any], config: SACConfig) -> Objective:
    """Return the objective of a bounded Box or a Discrete space."""
    if isinstance(action_space, spaces.Discrete):
        return DiscreteObjective(int(action_space.n), config)
    return ContinuousObjective(math.prod(action_space.shape or ()), config)
