"""Q-functions that are programs: one environment's q [A] from its observation, state and feedback."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.experience import Experience
from dynarl.agents.programs import Program
from dynarl.agents.stateful import Stateful, kept
from dynarl.autograd import no_grad
from dynarl.autograd.ops.shape import cat
from dynarl.batching import Draws
from dynarl.nn import Module
from dynarl.rollout import Batch, map_state

__all__ = ["QPrograms", "check_q"]


class QPrograms:
    """Evaluates a program and its target on batches of the replay.

    With a state, both run along sequences of L + 1 observations from the state that acting had (R2D2, Kapturowski et
    al., ICLR 2019): gradients flow through the states of the first `burn_in` steps in no case, and through the
    others to the last.
    """

    def __init__(self, stateful: Stateful, experience: Experience, target: Module, *, burn_in: int) -> None:
        self.stateful, self.experience, self.burn_in = stateful, experience, burn_in
        self.programs = stateful.program, Program(target, returns="q", agent_masks=True)
        self.length = stateful.sequence_length + (burn_in if stateful.sequence_length > 1 else 0)

    def values(self, batch: Batch, grad_steps: int) -> tuple[Any, Any, Any]:
        """Return Q(obs) [B, A] with history, and arrays Q'(next_obs) and Q(next_obs) [B, A].

        `batch` [B] holds L steps of B / L sequences in time-major order.
        """
        count = len(batch.action) // self.length
        mask, next_mask = batch.get("action_mask"), batch.get("next_action_mask")
        series = [(batch.obs[:count], None if mask is None else mask[:count])]
        for k in range(self.length):
            part = slice(k * count, (k + 1) * count)
            series.append((batch.next_obs[part], None if next_mask is None else next_mask[part]))
        steps = [self.experience.records.unpack(*one) for one in series]
        inputs = [self.stateful.agent.network_input(obs) for obs, _, _ in steps]
        online = self._along(0, inputs, steps, grad_steps)
        with no_grad():
            target = self._along(1, inputs, steps, grad_steps)
        output, chooser, next_q = (cat(q) if len(q) > 1 else q[0] for q in (online[:-1], online[1:], target[1:]))
        return output, next_q.array, chooser.array

    def _along(self, which: int, inputs: list[Any], steps: list[Any], grad_steps: int) -> list[Any]:
        """Return q of each observation of a sequence, computed along it."""
        stateful, program = self.stateful, self.programs[which]
        state, last, found = map_state(stateful.tensor, steps[0][1]), len(steps) - 1, []
        for k, (x, (_, _, feedback)) in enumerate(zip(inputs, steps)):
            said = feedback.map(stateful.tensor)
            if k == 0 and feedback.episode_start.any():
                state = stateful.begin(said.episode_start, state)
            draws = None
            if program.per_sample:  # fresh numbers for every update, step and network
                key = np.full(len(x), (grad_steps * len(steps) + k) % (1 << 32))
                draws = Draws(stateful.agent.seed, np.arange(len(x)), key, purpose=("update", "target")[which])
            if k == last or k < self.burn_in:
                with no_grad():
                    q, after = program(x, state, said, draws=draws)
            else:
                q, after = program(x, state, said, draws=draws)
            if program.per_sample and not which:
                stateful.compute.add("learning", program.last)
            state = map_state(kept, state, after)
            found.append(q)
        return found

    def weights(self, batch: Batch) -> NDArray[np.float32]:
        """Return weights [B] whose mean over the rows that count is 1: neither burnt in nor behind an end."""
        counted = batch.kept.copy()
        counted[: self.burn_in * (len(counted) // self.length) if self.length > 1 else 0] = False
        return counted.astype(np.float32) * (len(counted) / max(1, int(counted.sum())))


def check_q(program: Program, outputs: tuple[Any, ...], num_actions: int) -> tuple[str, int]:
    """Refuse what is no q [A] of 2 rows; return the noise of epsilon-greedy actions."""
    (q,) = outputs
    shape = tuple(getattr(q, "shape", ()))
    if shape != (2, num_actions):
        raise program.wrong(f"shape {shape[1:]} where there are {num_actions} actions")
    return "uniform", 2
