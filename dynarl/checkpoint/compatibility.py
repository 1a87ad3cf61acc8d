"""The description of an agent in its checkpoint, and the check that another agent may load it."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dynarl.checkpoint import CheckpointError

__all__ = ["check", "check_spaces", "describe", "describe_space"]

_MOST_LISTED_BOUNDS = 64


def describe(
    algorithm: str,
    config: Any,
    observation_space: Any,
    action_space: Any,
    counters: Mapping[str, int],
    policy: str | None = None,
) -> dict[str, Any]:
    """Return the `meta` of an agent's checkpoint as JSON.

    `config` is the agent's config dataclass, `counters` its env_steps, grad_steps and iteration, `policy` the class
    name of a policy that was passed as an object.
    """
    return {
        "algorithm": algorithm,
        "config": _plain(dataclasses.asdict(config)),
        **_spaces(observation_space, action_space),
        **counters,
        "policy": policy,
    }


def check(meta: Mapping[str, Any], algorithm: str, observation_space: Any, action_space: Any) -> None:
    """Raise CheckpointError unless a checkpoint with `meta` fits an agent of this algorithm and these spaces."""
    if meta.get("algorithm") != algorithm:
        raise CheckpointError(
            f"checkpoint: written by {meta.get('algorithm')!r}, it cannot be loaded into {algorithm!r}"
        )
    for field, own in _spaces(observation_space, action_space).items():
        if (stored := meta.get(field)) != own:
            raise CheckpointError(
                f"checkpoint: {field} differs, the checkpoint has {stored}, the environment has {own}"
            )


def check_spaces(what: str, observation_space: Any, action_space: Any, envs: Any) -> None:
    """Raise ValueError unless environments have these spaces, an agent's; `what` begins the message."""
    others = _spaces(envs.observation_space, envs.action_space)
    for field, own in _spaces(observation_space, action_space).items():
        if own != others[field]:
            raise ValueError(f"{what}: env must have the agent's {field} {own}, got {others[field]}")


def _spaces(observation_space: Any, action_space: Any) -> dict[str, Any]:
    return {"observation_space": describe_space(observation_space), "action_space": describe_space(action_space)}


def describe_space(space: Any) -> dict[str, Any]:
    """Return a Gymnasium space as JSON, exact enough that equal descriptions mean equal spaces."""
    kind = type(space).__name__
    if kind == "Dict":
        return {"space": kind, "spaces": {str(key): describe_space(item) for key, item in space.items()}}
    if kind == "Tuple":
        return {"space": kind, "spaces": [describe_space(item) for item in space]}
    described: dict[str, Any] = {"space": kind}
    for field in ("feature_space", "node_space", "edge_space"):  # of a Sequence, of a Graph
        if (inner := getattr(space, field, None)) is not None:
            described[field] = describe_space(inner)
    for field in ("n", "nvec", "start", "low", "high"):
        if (value := getattr(space, field, None)) is not None:
            described[field] = _bounds(np.asarray(value))
    if getattr(space, "shape", None) is not None:
        described |= {"shape": list(space.shape), "dtype": str(space.dtype)}
    return described if len(described) > 1 else {"space": kind, "repr": repr(space)}


def _bounds(values: np.ndarray[Any, Any]) -> Any:
    """Return one number if all are equal, all numbers if they are few, otherwise their digest."""
    flat = [_plain(value) for value in values.ravel().tolist()]
    if flat and all(value == flat[0] for value in flat):
        return flat[0]
    if len(flat) <= _MOST_LISTED_BOUNDS:
        return flat
    return "sha256:" + hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _plain(value: Any) -> Any:
    """Return `value` as JSON: tuples become lists, keys become strings, other objects become their name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__qualname__", None) or repr(value)
