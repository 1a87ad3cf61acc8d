"""Evaluation of SAC's actor on batches of the replay, and what the critics see of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from dynarl.agents.off_policy.batch_check import stored_shape
from dynarl.autograd import Tensor
from dynarl.autograd.tensor import wrap
from dynarl.nn import Module
from dynarl.rollout import Batch

__all__ = ["CriticInputs", "NetworkPolicy", "PolicyEvaluator"]


class CriticInputs(NamedTuple):
    """Inputs of the critics for obs and next_obs, and the rows of the batch they belong to.

    `grad_steps` keys the random numbers of per-sample policies. `policies` are the policies at next_obs and obs where
    they were computed along whole sequences, else None.
    """

    obs: Tensor
    next_obs: Tensor
    batch: Batch
    grad_steps: int = 0
    policies: tuple[Any, Any] | None = None


class PolicyEvaluator(Protocol):
    """The actor as `SACLearner.update` calls it.

    A policy is a `Gaussian` over [B, A], or a Tensor of log-probabilities [B, K].
    """

    def inputs(self, batch: Batch, grad_steps: int) -> CriticInputs:
        """Return the critics' inputs of a batch."""
        ...

    def at_next_obs(self, inputs: CriticInputs) -> Any:
        """Return the policy at next_obs."""
        ...

    def at_obs(self, inputs: CriticInputs) -> Any:
        """Return the policy at obs."""
        ...


class NetworkPolicy:
    """An actor network of encoded observations.

    `encode` makes the networks' input of stored observations [B, ...]; `features` is an encoder that actor and critics
    share, through which no gradient flows.
    """

    def __init__(
        self,
        actor: Module,
        *,
        encode: Callable[[NDArray[Any]], Any] = wrap,
        features: Callable[[Tensor], Tensor] = lambda obs: obs,
    ) -> None:
        self._actor, self._encode, self._features = actor, encode, features
        self.obs_shape = stored_shape(encode, None)

    def inputs(self, batch: Batch, grad_steps: int) -> CriticInputs:
        """Return the encoded observations of a batch."""
        return CriticInputs(self._encode(batch.obs), self._encode(batch.next_obs), batch)

    def at_next_obs(self, inputs: CriticInputs) -> Any:
        """Return the policy at next_obs."""
        return self._actor(self._features(inputs.next_obs), inputs.batch.get("next_action_mask"))

    def at_obs(self, inputs: CriticInputs) -> Any:
        """Return the policy at obs."""
        return self._actor(self._features(inputs.obs), inputs.batch.get("action_mask"))
