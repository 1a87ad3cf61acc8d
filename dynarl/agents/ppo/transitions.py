"""Learning from fragments of a policy without a state: transitions one by one, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.encoders.observation_encoder import ObservationEncoder
from dynarl.agents.encoders.stored_actions import StoredActions
from dynarl.agents.ppo.actor import value_of
from dynarl.agents.user_policy.auxiliary import Aux
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.tensor import wrap
from dynarl.nn import Module
from dynarl.rollout import Batch, Fragment

__all__ = ["TransitionRows"]

# Rows of one forward pass without gradients: bounds its memory.
_ROWS_AT_A_TIME = 8192


class TransitionRows:
    """The valid transitions of fragments [T, N], as batches [B, ...]: the same methods as `Sequences`."""

    def __init__(self, policy: Module, encoder: ObservationEncoder, actions: StoredActions) -> None:
        self.policy, self.encoder, self.actions = policy, encoder, actions
        self.device = encoder.device

    @classmethod
    def of(cls, policy: Module) -> TransitionRows:
        """Return the rows of a policy that brings its spaces, as `ActorCritic` does."""
        if not hasattr(policy, "observation_space") or not hasattr(policy, "action_space"):
            raise TypeError(
                f"PPOLearner: rows must be given for {type(policy).__name__}, which has no observation_space and "
                "action_space; PPO.make_learner(PPO.make_actor(...), config) takes every kind of policy"
            )
        encoder = ObservationEncoder(policy.observation_space, flatten=getattr(policy, "features", None) is None)
        return cls(policy, encoder, StoredActions(policy.action_space))

    def batch(self, fragment: Fragment) -> Batch:
        """Return the arrays that learning reads of a fragment, [B, ...] on the policy's device."""
        rows = fragment.flatten()
        names = ["action", "log_prob", "advantages", "returns", "value"]
        names += ["action_mask"] if "action_mask" in rows else []
        batch = Batch({name: to_device(rows[name], self.device) for name in names})
        batch["input"] = self.encoder.prepare(rows.obs)
        batch["action"] = self.actions.scored(batch.action)
        return batch

    def minibatches(self, batch: Batch, rng: np.random.Generator, batch_size: int) -> Iterator[Batch]:
        """Split a batch at random into minibatches of about `batch_size` transitions."""
        rows = len(batch.log_prob)
        count = max(1, rows // batch_size)
        if count == 1:
            yield batch
            return
        for index in np.array_split(rng.permutation(rows), count):
            at = to_device(index, self.device)
            yield Batch({n: a.take(index if a.dtype == object else at, axis=0) for n, a in batch.items()})

    def evaluate(self, minibatch: Batch, *, with_entropy: bool) -> tuple[Any, Any, Any, Aux]:
        """Return log_prob [B], value [B], mean entropy (None without) and aux of a minibatch."""
        mask = minibatch.get("action_mask")
        masks = () if mask is None else (wrap(mask),)
        distribution, value = self.policy(self.encoder.encode(minibatch.input), *masks)
        log_prob = distribution.log_prob(wrap(minibatch.action))
        return log_prob, value, distribution.entropy().mean() if with_entropy else None, {}

    def evaluate_all(self, fragment: Fragment) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
        """Return the places of the valid rows in [T * N], and log_prob and value of each."""
        batch, index = self.batch(fragment), np.flatnonzero(fragment["valid"])
        parts = [batch.take(slice(i, i + _ROWS_AT_A_TIME)) for i in range(0, len(index), _ROWS_AT_A_TIME)]
        found = [self.evaluate(part, with_entropy=False)[:2] for part in parts]
        log_prob, value = (np.concatenate([to_host(x.array) for x in column]) for column in zip(*found))
        return index, log_prob, value

    def metrics(self) -> dict[str, Any]:
        """Return no measures of batched computation."""
        return {}

    def end_values(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Return V [B] of stored observations [B, ...] at the ends of episodes and fragments."""
        return value_of(self.policy, self.encoder(obs))
