"""Q-functions that are programs: one environment's q [A] from its observation, state and feedback."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.off_policy.sequences import SequenceRunner
from dynarl.agents.user_policy.policy import UserPolicy
from dynarl.autograd import no_grad
from dynarl.autograd.ops.shape import cat
from dynarl.nn import Module
from dynarl.rollout import Batch

__all__ = ["UserQNetwork", "check_q"]


class UserQNetwork:
    """Evaluates a program and its target on batches of the replay."""

    def __init__(self, along: SequenceRunner, target: Module) -> None:
        self.along, self.online = along, along.stateful.program
        self.target = UserPolicy(target, returns="q", agent_masks=True)

    def values(self, batch: Batch, grad_steps: int) -> tuple[Any, Any, Any]:
        """Return Q(obs) [B, A] with history, and arrays Q'(next_obs) and Q(next_obs) [B, A]."""
        met = self.along.met(batch)
        online = [q for q, _ in self.along.run(self.online, met, grad_steps, "update")]
        with no_grad():
            target = [q for q, _ in self.along.run(self.target, met, grad_steps, "target")]
        output, chooser, next_q = (cat(q) if len(q) > 1 else q[0] for q in (online[:-1], online[1:], target[1:]))
        return output, next_q.array, chooser.array

    def weights(self, batch: Batch) -> NDArray[np.float32]:
        """Return weights [B] whose mean over the rows that count is 1."""
        counted = self.along.counted(batch)
        return counted.astype(np.float32) * (len(counted) / max(1, int(counted.sum())))


def check_q(program: UserPolicy, outputs: tuple[Any, ...], num_actions: int) -> tuple[str, int]:
    """Refuse what is no q [A] of 2 rows; return the noise of epsilon-greedy actions."""
    (q,) = outputs
    shape = tuple(getattr(q, "shape", ()))
    if shape != (2, num_actions):
        raise program.wrong(f"shape {shape[1:]} where there are {num_actions} actions")
    return "uniform", 2
