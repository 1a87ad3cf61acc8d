"""The features network that a user gives, as a Module or as a function that makes one, and its output size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.encoders.ragged_input import example_input
from dynarl.autograd import Tensor, no_grad, zeros
from dynarl.envs.spaces import flat_size, is_ragged

__all__ = ["FeaturesFactory", "features_size", "made_features"]

FeaturesFactory = nn.Module | Callable[[spaces.Space[Any]], nn.Module]
"""A Module from observations [B, ...] to [B, F], or a function that makes one from the observation space."""


def made_features(features: FeaturesFactory | None, space: spaces.Space[Any]) -> tuple[nn.Module | None, int]:
    """Return the features network (None without one) and the number of features per observation."""
    if features is None:
        return None, flat_size(space)
    network = features if isinstance(features, nn.Module) else features(space)
    return network, features_size(network, space)


def features_size(features: nn.Module, observation_space: spaces.Space[Any]) -> int:
    """Return F of a network that maps observations [B, ...] to [B, F]; raises ValueError if it does not."""
    name, inputs = str(observation_space), None
    if is_ragged(observation_space):
        inputs = example_input(observation_space, 2)
    else:
        shape = observation_space.shape if isinstance(observation_space, spaces.Box) else None
        shape = (flat_size(observation_space),) if shape is None else shape
        name, inputs = f"observations [B, {', '.join(map(str, shape))}]", zeros(2, *shape)
    with no_grad():
        out = features(inputs)
    if not isinstance(out, Tensor) or out.ndim != 2 or out.shape[0] != 2:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"features: must map {name} to [B, F], got {got}")
    return int(out.shape[1])
