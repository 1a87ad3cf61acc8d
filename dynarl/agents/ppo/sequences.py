"""Learning from fragments of a policy with a state: sequences, each from the state that acting had at its start."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.user_policy.auxiliary import Aux, aux_of
from dynarl.agents.user_policy.runner import PolicyRunner, kept
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.ops.shape import cat
from dynarl.autograd.tensor import wrap
from dynarl.rollout import Batch, Feedback, Fragment, Rows, map_state
from dynarl.rollout.stateful_collector import sequence_feedback

__all__ = ["Sequences"]


class Sequences:
    """Cuts fragments [T, N] into T / L x N sequences of L steps and evaluates the policy on some of them.

    Gradients flow through the states inside a sequence. The states at its start are those of acting, as in R2D2
    ("stored states", Kapturowski et al., ICLR 2019): they come from parameters that are some updates old. With
    L = 1 all rows are computed in one call.
    """

    def __init__(self, runner: PolicyRunner) -> None:
        self.runner, self.encoder, self.actions = runner, runner.encoder, runner.actions
        self.device, self.length = runner.device, runner.sequence_length

    def batch(self, fragment: Fragment) -> Batch:
        """Return the arrays that learning reads of a fragment, on the policy's device: [L, T / L * N, ...]."""
        steps, rows = fragment["valid"].shape
        names = ("log_prob", "advantages", "returns", "value", "valid")
        batch = Batch({name: self._cut(fragment[name]) for name in names})
        flat = self.encoder.prepare(fragment.obs.reshape(steps * rows, *fragment.obs.shape[2:]))
        batch["input"] = self._cut(flat.reshape(steps, rows, *flat.shape[1:]))
        batch["action"] = self._cut(self.actions.scored(fragment.action, lead=2))
        batch["feedback"] = sequence_feedback(fragment, self.actions.space).map(self._cut)
        batch["state"] = map_state(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), fragment.states)
        step = np.arange(steps)[:, None] + fragment.first_step
        batch["at"] = Rows(*map(self._cut, np.broadcast_arrays(fragment.env_ids, step)))
        batch["paths"] = None if fragment.paths is None else self._cut(fragment.paths)
        return batch

    def minibatches(self, batch: Batch, rng: np.random.Generator, batch_size: int) -> Iterator[Batch]:
        """Split a batch at random into minibatches of whole sequences with about `batch_size` transitions."""
        steps, sequences = batch.valid.shape
        order, count = rng.permutation(sequences), max(1, steps * sequences // batch_size)
        for which in np.array_split(order, min(count, sequences)):
            yield self.minibatch(batch, which)

    def minibatch(self, batch: Batch, which: NDArray[np.int64]) -> Batch:
        """Return some sequences: rows that count flat [B], the rest [L, n, ...]."""
        valid = batch.valid[:, which]
        found = Batch({name: batch[name][:, which][valid] for name in ("log_prob", "advantages", "returns", "value")})
        found["input"] = batch.input[:, which if batch.input.dtype == object else to_device(which, self.device)]
        found["action"] = batch.action[:, which]
        found["feedback"] = batch.feedback.map(lambda column: np.ascontiguousarray(column[:, which]))
        found["state"] = map_state(lambda leaf: leaf[which], batch.state)
        found["rows"] = None if valid.all() else np.flatnonzero(valid)
        found = Batch({name: self._on_device(part) for name, part in found.items()})
        found["at"] = Rows(*(column[:, which] for column in batch.at))
        found["paths"] = None if batch.paths is None else batch.paths[:, which]
        return found

    def evaluate(self, minibatch: Batch, *, with_entropy: bool) -> tuple[Any, Any, Any, Aux]:
        """Return log_prob [B], value [B], mean entropy and aux of a minibatch's rows, the states computed again."""
        steps, count = minibatch.input.shape[:2]
        feedback = minibatch.feedback.map(wrap)
        state, module = map_state(wrap, minibatch.state), self.runner.policy.module
        aux: Aux = {}
        if not self.runner.policy.per_sample and hasattr(module, "sequence"):
            rows = minibatch.input.dtype == object  # of varying size come as the T * N they are
            inputs = self.encoder.encode(minibatch.input.reshape(-1) if rows else minibatch.input)
            distribution, value = module.sequence(inputs, state, feedback)
            log_prob = distribution.log_prob(wrap(minibatch.action.reshape(steps * count, *minibatch.action.shape[2:])))
            entropy = distribution.entropy() if with_entropy else None
        else:
            log_prob, value, entropy, aux = self._steps(minibatch, state, feedback, with_entropy)
        if minibatch.rows is not None:
            log_prob, value = log_prob[minibatch.rows], value[minibatch.rows]
            entropy = None if entropy is None else entropy[minibatch.rows]
            aux = {name: column[minibatch.rows] for name, column in aux.items()}
        return log_prob, value, None if entropy is None else entropy.mean(), aux

    def evaluate_all(self, fragment: Fragment) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
        """Return the places of the valid rows in [T * N], and log_prob and value of each."""
        batch, valid = self.batch(fragment), fragment["valid"]
        index = self._cut(np.arange(valid.size).reshape(valid.shape))[batch.valid]
        every = self.minibatch(batch, np.arange(batch.valid.shape[1]))
        log_prob, value, *_ = self.evaluate(every, with_entropy=False)
        return index, to_host(log_prob.array), to_host(value.array).reshape(-1)

    def metrics(self) -> dict[str, Any]:
        """Return the measures of batched computation, in acting and learning, since the last call."""
        return self.runner.compute.metrics()

    def end_values(self, obs: NDArray[Any]) -> None:
        """Return None: the states at the ends of episodes are not stored, so V there stays that of acting."""

    def _steps(self, minibatch: Batch, state: Any, feedback: Feedback, with_entropy: bool) -> tuple[Any, Any, Any, Aux]:
        """Call the policy step by step, as it acted."""
        found: list[list[Any]] = [[], [], []]
        auxes: list[Aux] = []
        runner, policy = self.runner, self.runner.policy
        start = minibatch.feedback.episode_start
        for t in range(len(minibatch.input)):
            if to_host(start[t]).any():
                state = runner.begin(feedback.episode_start[t], state)
            draws = runner.draws(Rows(*(column[t] for column in minibatch.at)))
            path = None if minibatch.paths is None else minibatch.paths[t]
            out = policy(
                self.encoder.encode(minibatch.input[t]), state, feedback.map(itemgetter(t)), draws=draws, paths=path
            )
            if policy.per_sample:
                runner.compute.add("learning", policy.last)
            distribution, value, state = out[0], out[1].reshape(-1), map_state(kept, state, out[2])
            found[0].append(distribution.log_prob(wrap(minibatch.action[t])))
            found[1].append(value)
            auxes.append(aux_of(out))
            if with_entropy:
                found[2].append(distribution.entropy())
        columns = [*found, *([aux[name] for aux in auxes] for name in auxes[0])]
        log_prob, value, entropy, *aux = (
            (parts[0] if len(parts) == 1 else cat(parts)) if parts else None for parts in columns
        )
        return log_prob, value, entropy, dict(zip(auxes[0], aux))

    def _cut(self, x: Any) -> Any:
        """Return [T, N, ...] as [L, T / L * N, ...]."""
        steps, rows, *rest = x.shape
        if self.length == steps:
            return x
        cut = x.reshape(steps // self.length, self.length, rows, *rest).swapaxes(0, 1)
        return cut.reshape(self.length, steps // self.length * rows, *rest)

    def _on_device(self, part: Any) -> Any:
        if self.device == "cpu" or part is None:
            return part
        if isinstance(part, Feedback):
            return part.map(lambda column: to_device(column, self.device))
        return map_state(lambda leaf: leaf if leaf.dtype == object else to_device(leaf, self.device), part)
