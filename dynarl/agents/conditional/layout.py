"""Checks of observation and action spaces for policies that read parts of an observation."""

from __future__ import annotations

import math
from typing import Any

from gymnasium import spaces

__all__ = ["layout"]


def layout(
    policy: object, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], offset: int = 0, **by: int
) -> tuple[int, int]:
    """Return the size of an observation and the number of actions.

    Raises ValueError for anything but a Box with Discrete actions, and where `by` (one name and number) does not
    divide the numbers after the first `offset`.
    """
    name = type(policy).__name__
    if not isinstance(observation_space, spaces.Box) or not isinstance(action_space, spaces.Discrete):
        raise ValueError(
            f"{name}: is for Box observations and Discrete actions, got {observation_space}, {action_space}"
        )
    size = math.prod(observation_space.shape)
    for field, number in by.items():
        if number < 1 or (size - offset) % number:
            after = f" after the first {offset}" if offset else ""
            raise ValueError(
                f"{name}: {field} must divide the {size - offset} numbers of an observation{after}, got {number}"
            )
    return size, int(action_space.n)
