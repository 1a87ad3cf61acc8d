"""Programs along sequences of the replay."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.off_policy.old_runner import OldRunner
from dynarl.agents.off_policy.records import ReplayWriter
from dynarl.agents.user_policy.policy import UserPolicy
from dynarl.agents.user_policy.runner import kept
from dynarl.autograd import no_grad
from dynarl.batching import Draws
from dynarl.rollout import Batch, Feedback, ReplayBuffer, map_state

__all__ = ["SequenceRunner", "StepInputs"]


class StepInputs(NamedTuple):
    """What a program is called with at one step of B / L sequences, as tensors; the state is that of acting."""

    obs: Any
    state: Any
    feedback: Feedback


class SequenceRunner:
    """Runs programs along sequences of L steps, from the state that acting had at their start (R2D2, Kapturowski et
    al., ICLR 2019).

    Gradients flow through the states of the first `burn_in` steps in no case, and through the others to the last.
    Programs without a state learn from single steps.
    """

    def __init__(self, stateful: OldRunner, experience: ReplayWriter, *, burn_in: int) -> None:
        self.stateful, self.experience = stateful, experience
        self.burn_in = burn_in if stateful.sequence_length > 1 else 0
        self.length = stateful.sequence_length + self.burn_in

    def draw(self, replay: ReplayBuffer, batch_size: int, rng: np.random.Generator) -> Batch:
        """Draw sequences that make up a batch of `batch_size` steps beside those burnt in, in time-major order."""
        return self.experience.sequences(replay, batch_size // self.stateful.sequence_length, self.length, rng)

    def counted(self, batch: Batch) -> NDArray[np.bool_]:
        """Return which rows [B] of drawn sequences to learn from: neither burnt in nor behind an end."""
        counted: NDArray[np.bool_] = batch.kept.copy()
        counted[: self.burn_in * (len(counted) // self.length)] = False
        return counted

    def met(self, batch: Batch) -> list[StepInputs]:
        """Return what was met at the steps 0 ... L of a batch [B], that is of B / L sequences in time-major order."""
        count = len(batch.action) // self.length
        mask, next_mask = batch.get("action_mask"), batch.get("next_action_mask")
        series = [(batch.obs[:count], None if mask is None else mask[:count])]
        for k in range(self.length):
            part = slice(k * count, (k + 1) * count)
            series.append((batch.next_obs[part], None if next_mask is None else next_mask[part]))
        found = []
        for packed, allowed in series:
            obs, state, feedback = self.experience.records.unpack(packed, allowed)
            tensor = self.stateful.tensor
            found.append(
                StepInputs(self.stateful.agent.network_input(obs), map_state(tensor, state), feedback.map(tensor))
            )
        return found

    def run(self, program: UserPolicy, met: list[StepInputs], grad_steps: int, purpose: str) -> list[tuple[Any, Any]]:
        """Return (what the program returns beside its state, the state before) at each step.

        The random numbers of per-sample programs are new for every `grad_steps` and `purpose`.
        """
        stateful, state, last = self.stateful, met[0].state, len(met) - 1
        found = []
        for k, (obs, _, feedback) in enumerate(met):
            if k == 0 and feedback.episode_start.any():
                state = stateful.begin(feedback.episode_start, state)
            draws = None
            if program.per_sample:
                key = np.full(len(obs), (grad_steps * len(met) + k) % (1 << 32))
                draws = Draws(stateful.agent.seed, np.arange(len(obs)), key, purpose=purpose)
            if k == last or k < self.burn_in:
                with no_grad():
                    out, after = program(obs, state, feedback, draws=draws)
            else:
                out, after = program(obs, state, feedback, draws=draws)
            if program.per_sample and program is stateful.program:
                stateful.compute.add("learning", program.last)
            found.append((out, state))
            state = map_state(kept, state, after)
        return found
