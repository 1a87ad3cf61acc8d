"""The actors of agents with a replay: exploration depends on the environment steps so far."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.actor import Actor
from dynarl.agents.off_policy.records import RecordLayout
from dynarl.agents.user_policy.runner import PolicyRunner
from dynarl.rollout.feedback import state_leaves

__all__ = ["Exploration", "OffPolicyActor", "check_replay"]


def check_replay(runner: PolicyRunner, *, batch_size: int, n_step: int, prioritized: bool = False) -> None:
    """Raise ValueError for settings of the replay that a policy with a state cannot have."""
    if not state_leaves(runner.initial_state()):
        return
    if prioritized or n_step > 1:
        name = "prioritized" if prioritized else f"n_step {n_step}"
        raise ValueError(f"{name}: not with a policy that has a state, which learns from sequences drawn uniformly")
    if batch_size < runner.sequence_length:
        raise ValueError(f"batch_size: must be at least sequence_length {runner.sequence_length}, got {batch_size}")


class Exploration(Protocol):
    """The random numbers of exploring in some environments, keyed by environment and step."""

    def random_actions(self, step: int, mask: NDArray[np.bool_] | None) -> NDArray[Any] | None:
        """Return uniformly random actions [N, ...] among the allowed ones; None once the policy acts itself."""
        ...

    def noise(self, step: int) -> NDArray[np.float32]:
        """Return the noise of a step, as the actor's `act` takes it."""
        ...


class OffPolicyActor(Actor):
    """An actor whose exploration depends on the environment steps so far. A subclass defines `exploration`."""

    env_steps = 0
    """Environment steps of the run so far, by all workers together."""
    records: RecordLayout | None = None
    """Layout of stored observations, for policies that `runner` runs."""

    def exploration(self, env_ids: NDArray[np.int64]) -> Exploration:
        """Return how to explore in the environments [N] with these ids."""
        raise TypeError(f"{type(self).__name__}: exploration must be defined")

    def stored_layout(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Return (shape, dtype) of an observation, or of its record, and of an action in fragments."""
        layout = super().stored_layout()
        return layout if self.records is None else {**layout, "obs": self.records.layout}
