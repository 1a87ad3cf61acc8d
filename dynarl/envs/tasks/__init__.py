"""Environments with known answers: diagnostics, puzzles, memory, planning, non-stationary and ragged tasks.

`register_tasks` is the one place that registers them, as ``dynarl/NAME-v0``. Entry points are strings, so gymnasium
imports a task's module when the first environment of it is made.
"""

from __future__ import annotations

from typing import Any

import gymnasium

__all__ = ["TASKS", "register_tasks"]

_HIDDEN = {"show_state": False}
_PUZZLES = ("PointerChase", "SometimesHard", "Dispatch", "HeaviestKind", "Expression")
_IDENTITIES = ("Discrete", "Box", "MultiDiscrete", "MultiBinary", "Mixed", "MixedTuple")

TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "ConstantReward": ("diagnostic:Chain", {"kwargs": {"rewards": (1.0,), "end": "stay"}}),
    "Truncated": ("diagnostic:Chain", {"kwargs": {"rewards": (1.0,) * 5, "end": "truncated", **_HIDDEN}}),
    "Terminated": ("diagnostic:Chain", {"kwargs": {"rewards": (1.0,), "end": "terminated"}}),
    "TwoStateChain": ("diagnostic:Chain", {"kwargs": {"rewards": (1.0, 2.0), "end": "terminated"}}),
    "ObservationValue": ("diagnostic:ObservationValue", {}),
    "MaskedBandit": ("diagnostic:MaskedBandit", {}),
    **{f"Identity{kind}": ("diagnostic:identity_env", {"kwargs": {"kind": kind}}) for kind in _IDENTITIES},
    "CartPoleNoVelocity": ("memory_tasks:cartpole_without_velocity", {"max_episode_steps": 500}),
    "TMaze": ("memory_tasks:TMaze", {}),
    "RepeatPrevious": ("memory_tasks:RepeatPrevious", {}),
    "PickLargest": ("ragged_obs:PickLargest", {}),
    "FollowLinks": ("ragged_obs:FollowLinks", {}),
    "FollowTrail": ("ragged_obs:FollowTrail", {}),
    **{name: ("puzzles:puzzle_env", {"kwargs": {"puzzle": name}}) for name in _PUZZLES},
    "FeedbackSwitch": ("nonstationary:FeedbackSwitch", {}),
    "Runaway": ("nonstationary:Runaway", {}),
    "CommonestSuit": ("nonstationary:CommonestSuit", {}),
    "Corridors": ("corridors:Corridors", {}),
    "Errands": ("errands:Errands", {}),
}
"""Name -> (module:function or class in this package, further arguments of `gymnasium.register`)."""


def register_tasks() -> None:
    """Register all tasks with gymnasium. A second call does nothing."""
    for name, (entry_point, options) in TASKS.items():
        if f"dynarl/{name}-v0" not in gymnasium.registry:
            gymnasium.register(f"dynarl/{name}-v0", entry_point=f"{__name__}.{entry_point}", **options)
