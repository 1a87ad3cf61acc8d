"""Running statistics of Gymnasium's normalising wrappers: they are learned, so they are saved, restored and frozen.

The functions take the members of an `Environments`: its single environments, or the one vector environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorWrapper
from gymnasium.wrappers import vector

__all__ = ["freeze_statistics", "load_statistics", "members_of", "normalizing_wrappers", "statistics_of"]

_NORMALIZING = (
    gymnasium.wrappers.NormalizeObservation,
    gymnasium.wrappers.NormalizeReward,
    vector.NormalizeObservation,
    vector.NormalizeReward,
)
# Statistics and discounted returns that the wrappers hold, by their names in Gymnasium.
_MOMENTS = ("obs_rms", "return_rms")
_RETURNS = ("discounted_reward", "accumulated_reward")


def members_of(env: Any) -> list[Any]:
    """Return the single environments of a plain `SyncVectorEnv`, else a list of the vector environment itself."""
    return list(env.envs) if type(env) is SyncVectorEnv else [env]


def statistics_of(members: Sequence[Any]) -> dict[str, Any]:
    """Return the statistics of the normalising wrappers by member, as nested dicts of arrays; empty without any."""
    found = {
        str(i): {key: _state(wrapper) for key, wrapper in _normalizing_wrappers(env)} for i, env in enumerate(members)
    }
    return {i: state for i, state in found.items() if state}


def load_statistics(members: Sequence[Any], state: Mapping[str, Any]) -> None:
    """Restore what `statistics_of` returned, whose members are repeated where there are more of them here."""
    for i, env in enumerate(members) if state else ():
        saved = state.get(str(i % len(state)), {})
        for key, wrapper in _normalizing_wrappers(env):
            _load(wrapper, saved.get(key, {}))


def freeze_statistics(members: Sequence[Any]) -> None:
    """Let the normalising wrappers scale by their statistics without changing them."""
    for env in members:
        for _, wrapper in _normalizing_wrappers(env):
            wrapper.update_running_mean = False


def normalizing_wrappers(members: Sequence[Any]) -> list[str]:
    """Return the class names of the normalising wrappers, each once."""
    return list(dict.fromkeys(type(wrapper).__name__ for env in members for _, wrapper in _normalizing_wrappers(env)))


def _normalizing_wrappers(env: Any) -> Iterator[tuple[str, Any]]:
    """Yield (key, wrapper); the key names the depth and the class."""
    depth = 0
    while isinstance(env, gymnasium.Wrapper | VectorWrapper):
        if isinstance(env, _NORMALIZING):
            yield f"{depth} {type(env).__name__}", env
        env, depth = env.env, depth + 1


def _state(wrapper: Any) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name in _MOMENTS:
        if (moments := getattr(wrapper, name, None)) is not None:
            state[name] = {"mean": np.array(moments.mean), "var": np.array(moments.var), "count": float(moments.count)}
    for name in _RETURNS:
        if (returns := getattr(wrapper, name, None)) is not None:
            state[name] = np.array(returns)
    return state


def _load(wrapper: Any, saved: Mapping[str, Any]) -> None:
    for name, value in saved.items():
        if name in _MOMENTS:
            moments = getattr(wrapper, name)
            moments.mean, moments.var = np.array(value["mean"]), np.array(value["var"])
            moments.count = float(value["count"])
        elif np.shape(getattr(wrapper, name)) == np.shape(value):  # another number of environments starts new returns
            setattr(wrapper, name, np.array(value))
