"""Implementation details that agents with a replay share."""

from __future__ import annotations

from dynarl.agents.explain import Fact

__all__ = ["REPLAY"]

REPLAY = Fact(
    "replay of observations",
    lambda agent: f"{agent.replay.nbytes / 2**20:.1f} MiB, each observation once, {agent.replay.stored_as}",
    "The next row is the successor; only last observations of episodes are kept apart.",
    "",
)
