"""Learning from fragments of a policy without a state: transitions one by one, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.user_policy.auxiliary import Extra
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.tape import wrap
from dynarl.rollout import Batch, Fragment

__all__ = ["TransitionRows"]

# Rows that go through the policy at a time where nothing is learned.
_TOGETHER = 8192


class TransitionRows:
    """The valid transitions of fragments [T, N], as batches [B, ...]: the same verbs as `Sequences`."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    def batch(self, fragment: Fragment) -> Batch:
        """Return what learning reads of a fragment, [B, ...] on the policy's device."""
        agent, rows = self.agent, fragment.flatten()
        names = ["action", "log_prob", "advantages", "returns", "value"]
        names += ["action_mask"] if "action_mask" in rows else []
        batch = Batch({name: to_device(rows[name], agent.device) for name in names})
        batch["input"] = agent.kept_input(rows.obs)
        if agent.action_shape:  # as the distribution samples them: one row of numbers each
            batch["action"] = batch.action.reshape(len(batch.action), -1)
        batch["action"] = agent.learned_action(batch.action)
        return batch

    def minibatches(self, batch: Batch, rng: np.random.Generator, batch_size: int) -> Iterator[Batch]:
        """Split a batch at random into minibatches of about `batch_size` transitions."""
        rows = len(batch.log_prob)
        count = max(1, rows // batch_size)
        if count == 1:
            yield batch
            return
        for index in np.array_split(rng.permutation(rows), count):
            at = to_device(index, self.agent.device)
            yield Batch({n: a.take(index if a.dtype == object else at, axis=0) for n, a in batch.items()})

    def evaluate(self, minibatch: Batch, *, with_entropy: bool) -> tuple[Any, Any, Any, Extra]:
        """Return log_prob [B], value [B], mean entropy (None without) and extra of a minibatch."""
        agent = self.agent
        distribution, value = agent.policy(
            agent.learning_input(minibatch.input), *agent.mask_input(minibatch.get("action_mask"))
        )
        log_prob = distribution.log_prob(wrap(minibatch.action))
        return log_prob, value, distribution.entropy().mean() if with_entropy else None, {}

    def evaluate_all(self, fragment: Fragment) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
        """Return where the valid rows lie in [T * N], and log_prob and value of each."""
        batch, index = self.batch(fragment), np.flatnonzero(fragment["valid"])
        parts = [batch.take(slice(i, i + _TOGETHER)) for i in range(0, len(index), _TOGETHER)]
        found = [self.evaluate(part, with_entropy=False)[:2] for part in parts]
        log_prob, value = (np.concatenate([to_host(x.array) for x in column]) for column in zip(*found))
        return index, log_prob, value
