"""Evaluation of a Q-network and its target network on batches of the replay.

Both evaluators have one interface: called with a batch [B] and the number of gradient steps so far they return the
values that an update needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from dynarl.agents.off_policy.batch_check import stored_shape
from dynarl.agents.off_policy.sequence_runner import SequenceRunner
from dynarl.agents.user_policy.policy import UserPolicy
from dynarl.autograd import Tensor, no_grad
from dynarl.autograd.ops.shape import cat
from dynarl.autograd.tensor import wrap
from dynarl.nn import Module
from dynarl.rollout import Batch

__all__ = ["Evaluator", "QValues", "SequenceEvaluator", "SequenceValues", "TransitionEvaluator", "TransitionValues"]

Array = NDArray[Any]


class QValues(Protocol):
    """Values of a batch: outputs for next_obs without history, outputs for obs with gradient."""

    @property
    def next_q(self) -> Array:
        """Output [B, A, ...] of the target network for next_obs."""
        ...

    @property
    def chooser(self) -> Array:
        """Output [B, A, ...] that selects the next action: of the online network in Double DQN, else `next_q`."""
        ...

    def minibatches(self, batch_size: int) -> Iterator[slice]:
        """Return the rows of each gradient step."""
        ...

    def q(self, rows: slice) -> Tensor:
        """Return the online network's output for obs of some rows, with gradient."""
        ...


Evaluator = Callable[[Batch, int], QValues]


class TransitionEvaluator:
    """Evaluates networks of encoded observations on transitions in any order.

    `encode` makes the networks' input of stored observations [B, ...].
    """

    def __init__(self, online: Module, target: Module, *, double: bool, encode: Callable[[Array], Any] = wrap) -> None:
        self.online, self.target, self.double, self.encode = online, target, double, encode
        self.obs_shape = stored_shape(encode, getattr(online, "obs_shape", None))

    def __call__(self, batch: Batch, grad_steps: int) -> TransitionValues:
        """Return the values of a batch."""
        return TransitionValues(self, batch)


class TransitionValues:
    """Values of transitions. The target network evaluates all at once, the online network one minibatch at a time."""

    def __init__(self, networks: TransitionEvaluator, batch: Batch) -> None:
        self._networks, self._batch = networks, batch
        inputs = networks.encode(batch.next_obs)
        with no_grad():
            self.next_q: Array = networks.target(inputs).array
            self.chooser: Array = networks.online(inputs).array if networks.double else self.next_q

    def minibatches(self, batch_size: int) -> Iterator[slice]:
        """Return the rows of each gradient step."""
        return (slice(first, first + batch_size) for first in range(0, len(self._batch.action), batch_size))

    def q(self, rows: slice) -> Tensor:
        """Return the online network's output for obs of some rows, with gradient."""
        q: Tensor = self._networks.online(self._networks.encode(self._batch.obs[rows]))
        return q


class SequenceEvaluator:
    """Evaluates a user's policies along sequences of the replay; single steps where they have no state."""

    def __init__(self, sequences: SequenceRunner, target: Module, *, double: bool) -> None:
        self._sequences, self._double = sequences, double
        self._online, self._target = sequences.runner.policy, UserPolicy(target, returns="q", agent_masks=True)

    def __call__(self, batch: Batch, grad_steps: int) -> SequenceValues:
        """Return the values of a batch: step k of a sequence is obs of transition k and next_obs of k - 1."""
        run, inputs = self._sequences.run, self._sequences.inputs(batch)
        online = [q for q, _ in run(self._online, inputs, grad_steps, "update")]
        with no_grad():
            target = [q for q, _ in run(self._target, inputs, grad_steps, "target")]
        q, next_online, next_target = (_joined(steps) for steps in (online[:-1], online[1:], target[1:]))
        return SequenceValues(q, next_target.array, next_online.array if self._double else next_target.array)


class SequenceValues(NamedTuple):
    """Values of the rows of whole sequences, which are one minibatch."""

    output: Tensor
    next_q: Array
    chooser: Array

    def minibatches(self, batch_size: int) -> Iterator[slice]:
        """Return the rows of the one gradient step."""
        yield slice(None)

    def q(self, rows: slice) -> Tensor:
        """Return the output for obs, with gradient."""
        return self.output


def _joined(steps: list[Tensor]) -> Tensor:
    """Return outputs of L steps, [n, A] each, as rows [L * n, A]."""
    joined: Tensor = cat(steps) if len(steps) > 1 else steps[0]
    return joined
