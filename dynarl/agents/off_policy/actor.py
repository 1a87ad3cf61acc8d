"""What the actors of agents with a replay share: exploration that depends on the environment steps so far."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.actor import Actor
from dynarl.agents.off_policy.records import RecordLayout

__all__ = ["Exploration", "OffPolicyActor"]


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
