"""Sequences of the replay, along which policies with a state are evaluated again."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.off_policy.records import RecordLayout
from dynarl.agents.user_policy.policy import UserPolicy
from dynarl.agents.user_policy.runner import PolicyRunner, kept
from dynarl.autograd import no_grad
from dynarl.batching import Draws
from dynarl.rollout import Batch, Feedback, ReplayBuffer, map_state

__all__ = ["SequenceRunner", "StepInputs"]


class StepInputs(NamedTuple):
    """Inputs of a policy at one step of B / L sequences, as tensors; the state is that of acting."""

    obs: Any
    state: Any
    feedback: Feedback


class SequenceRunner:
    """Runs policies along sequences of L steps, from the state that acting had at their start (R2D2, Kapturowski et
    al., ICLR 2019).

    The first `burn_in` steps of a sequence only recompute the state: no gradient flows through them. Policies without
    a state learn from single steps.
    """

    def __init__(self, runner: PolicyRunner, records: RecordLayout, *, burn_in: int) -> None:
        self.runner, self.records = runner, records
        self.burn_in = burn_in if runner.sequence_length > 1 else 0
        self.length = runner.sequence_length + self.burn_in

    def draw(self, replay: ReplayBuffer, batch_size: int, rng: np.random.Generator) -> Batch:
        """Draw sequences for `batch_size` steps besides those of burn-in, [L * count] in time-major order.

        `kept` is False behind the end of an episode and behind the newest transition. `weight` is 0 where a step is
        not to be learned from, with mean 1.
        """
        index, following = replay.following(
            replay.draw(batch_size // self.runner.sequence_length, rng), self.length
        )  # [L, count]
        batch = replay.gather(index.reshape(-1), np.ones(index.size, np.float32))
        batch["kept"] = following.reshape(-1)
        counted = self.counted(batch)
        batch["weight"] = counted.astype(np.float32) * (len(counted) / max(1, int(counted.sum())))
        return batch

    def counted(self, batch: Batch) -> NDArray[np.bool_]:
        """Return which rows [B] of drawn sequences to learn from: neither burn-in nor behind an end."""
        counted: NDArray[np.bool_] = batch.kept.copy()
        counted[: self.burn_in * (len(counted) // self.length)] = False
        return counted

    def inputs(self, batch: Batch) -> list[StepInputs]:
        """Return the inputs at the steps 0 ... L of a batch [B] of B / L sequences in time-major order."""
        count = len(batch.action) // self.length
        mask, next_mask = batch.get("action_mask"), batch.get("next_action_mask")
        series = [(batch.obs[:count], None if mask is None else mask[:count])]
        for k in range(self.length):
            part = slice(k * count, (k + 1) * count)
            series.append((batch.next_obs[part], None if next_mask is None else next_mask[part]))
        inputs, tensor = [], self.runner.tensor
        for packed, allowed in series:
            obs, state, feedback = self.records.unpack(packed, allowed)
            inputs.append(StepInputs(self.runner.encoder(obs), map_state(tensor, state), feedback.map(tensor)))
        return inputs

    def run(self, policy: UserPolicy, inputs: list[StepInputs], grad_steps: int, purpose: str) -> list[tuple[Any, Any]]:
        """Return (the policy's output besides its state, the state before) at each step.

        The random numbers of per-sample policies are new for every `grad_steps` and `purpose`.
        """
        runner, state, last = self.runner, inputs[0].state, len(inputs) - 1
        outputs = []
        for k, (obs, _, feedback) in enumerate(inputs):
            if k == 0 and feedback.episode_start.any():
                state = runner.begin(feedback.episode_start, state)
            draws = None
            if policy.per_sample:
                key = np.full(len(obs), (grad_steps * len(inputs) + k) % (1 << 32))
                draws = Draws(runner.seed, np.arange(len(obs)), key, purpose=purpose)
            if k == last or k < self.burn_in:  # the last step is a bootstrap value
                with no_grad():
                    out, after = policy(obs, state, feedback, draws=draws)
            else:
                out, after = policy(obs, state, feedback, draws=draws)
            if policy.per_sample and policy is runner.policy:
                runner.compute.add("learning", policy.last)
            outputs.append((out, state))
            state = map_state(kept, state, after)
        return outputs
