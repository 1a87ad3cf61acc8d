"""Fragments that PPO can learn from: collected ones, and arrays that a user made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dynarl.agents.encoders.observation_encoder import ObservationEncoder
from dynarl.agents.encoders.stored_actions import StoredActions
from dynarl.rollout import Fragment

__all__ = ["as_fragment"]

_NUMBERS = ("reward", "log_prob", "value", "next_value")
_REQUIRED = ("obs", "action", "terminated", *_NUMBERS)
_OPTIONAL = {"valid": True, "truncated": False, "episode_start": False}
_KNOWN = {*_REQUIRED, *_OPTIONAL, "action_mask"}


def as_fragment(arrays: Mapping[str, Any], encoder: ObservationEncoder, actions: StoredActions) -> Fragment:
    """Return arrays [T, N, ...] by name as a `Fragment`; raises ValueError for a missing array or a wrong shape."""
    if missing := [name for name in _REQUIRED if name not in arrays]:
        raise ValueError(
            f"PPOLearner.update: the batch must have {', '.join(_REQUIRED)}, each [T, N, ...]; "
            f"got no {', '.join(missing)}"
        )
    if isinstance(arrays, Fragment):
        fragment = arrays
    else:
        fragment = _made(arrays)
        if encoder.layout.dtype != object:
            fragment["obs"] = fragment["obs"].astype(encoder.layout.dtype, copy=False)
    lead = fragment["valid"].shape
    for name, trailing in (("obs", encoder.layout.shape), ("action", actions.shape)):
        if fragment[name].shape != (*lead, *trailing):
            raise ValueError(
                f"PPOLearner.update: {name} must be [T, N] = {list(lead)} and then {list(trailing)}, "
                f"got {list(fragment[name].shape)}"
            )
    return fragment


def _made(arrays: Mapping[str, Any]) -> Fragment:
    """Return a fragment of a user's arrays; numbers become float32, flags bool."""
    lead = np.shape(arrays["reward"])
    if len(lead) != 2:
        raise ValueError(f"PPOLearner.update: reward must be [T, N], steps and environments, got {list(lead)}")
    if unknown := sorted(arrays.keys() - _KNOWN):
        hint = "; give terminated and truncated in place of done" if "done" in unknown else ""
        raise ValueError(f"PPOLearner.update: unknown arrays {', '.join(unknown)}{hint}")
    fragment = Fragment(valid=np.asarray(arrays.get("valid", np.ones(lead, np.bool_)), np.bool_))
    flags = {name: np.full(lead, default) for name, default in _OPTIONAL.items() if name != "valid"}
    for name, value in {**flags, **arrays}.items():
        dtype = np.float32 if name in _NUMBERS else np.bool_ if name in (*_OPTIONAL, "terminated") else None
        array = np.asarray(value, dtype)
        if array.shape != lead if dtype is not None else array.shape[:2] != lead:
            raise ValueError(
                f"PPOLearner.update: {name} must be [T, N] = {list(lead)} as reward is, got {list(array.shape)}"
            )
        fragment[name] = array
    return fragment
