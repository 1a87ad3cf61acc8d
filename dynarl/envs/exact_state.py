"""Saves and restores the state of environments, exactly or not at all.

The state of a single environment is exact if the state of every wrapper is known, and the environment itself is a
classic-control one or has ``get_state() -> dict`` and ``set_state(dict)`` (nested dicts of arrays and JSON scalars).
Its ``np_random`` is saved here and need not be in that dict. Box2D and MuJoCo are excluded: their solvers keep
contacts and derived quantities that gymnasium's environments read and that no setter restores to the bit.
Of vector environments, both forms of CartPole and a plain `SyncVectorEnv` are supported.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import (
    AcrobotEnv,
    CartPoleEnv,
    Continuous_MountainCarEnv,
    MountainCarEnv,
    PendulumEnv,
)
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from dynarl.envs.cartpole import ResettableCartPole

__all__ = [
    "env_state",
    "has_exact_state",
    "has_exact_vector_state",
    "load_env_state",
    "load_rng_state",
    "load_vector_state",
    "rng_state",
    "vector_state",
]

_CLASSIC: dict[type, tuple[str, ...]] = {
    CartPoleEnv: ("state", "steps_beyond_terminated"),
    AcrobotEnv: ("state",),
    MountainCarEnv: ("state",),
    Continuous_MountainCarEnv: ("state",),
    PendulumEnv: ("state", "last_u"),
}
# The attributes of each wrapper that change; a wrapper that is not listed may have hidden state.
_WRAPPERS: dict[str, tuple[str, ...]] = {
    "ClipAction": (),
    "NormalizeObservation": (),  # their statistics are saved apart (dynarl.envs.statistics)
    "NormalizeReward": (),
    "FlattenObservation": (),
    "OrderEnforcing": ("_has_reset",),
    "PositionsOnly": (),
    "PassiveEnvChecker": (),  # its state changes no result
    "RecordEpisodeStatistics": ("episode_count", "episode_returns", "episode_lengths"),
    "RescaleAction": (),
    "TimeLimit": ("_elapsed_steps",),
}


def has_exact_state(env: gymnasium.Env[Any, Any]) -> bool:
    """Return whether `load_env_state` restores ``env`` to the bit."""
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        if _wrapper_fields(layer) is None:
            return False
        layer = layer.env
    return type(layer) in _CLASSIC or _offers_state(layer)


def env_state(env: gymnasium.Env[Any, Any]) -> dict[str, Any]:
    """Return the state of an environment for which `has_exact_state` holds.

    Nested dicts of arrays and JSON scalars: ``core``, ``rng`` and one entry per wrapper.
    """
    wrappers: dict[str, Any] = {}
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        wrappers[str(len(wrappers))] = {name: getattr(layer, name) for name in _wrapper_fields(layer) or ()}
        layer = layer.env
    if type(layer) in _CLASSIC:
        core = {name: _plain(getattr(layer, name)) for name in _CLASSIC[type(layer)]}
    else:
        core = layer.get_state()
    return {"core": core, "rng": rng_state(layer), "wrappers": wrappers}


def load_env_state(env: gymnasium.Env[Any, Any], state: dict[str, Any]) -> None:
    """Restore the state that `env_state` returned."""
    layer: Any = env
    depth = 0
    while isinstance(layer, gymnasium.Wrapper):
        for name, value in state["wrappers"][str(depth)].items():
            setattr(layer, name, value)
        layer, depth = layer.env, depth + 1
    if type(layer) in _CLASSIC:
        for name in _CLASSIC[type(layer)]:
            value = state["core"][name]
            setattr(layer, name, value.copy() if isinstance(value, np.ndarray) else value)
    else:
        layer.set_state(state["core"])
    load_rng_state(layer, state["rng"])


def has_exact_vector_state(env: VectorEnv[Any, Any, Any]) -> bool:
    """Return whether `load_vector_state` restores ``env`` to the bit; never for wrapped ones."""
    if type(env) is SyncVectorEnv:
        # Observations are restored as rows of a batch, which Dict and Tuple spaces do not have.
        return all(has_exact_state(one) and one.observation_space.shape is not None for one in env.envs)
    return type(env) in (CartPoleVectorEnv, ResettableCartPole)


def vector_state(env: Any) -> dict[str, Any]:
    """Return the state of a vector environment for which `has_exact_vector_state` holds."""
    if type(env) is SyncVectorEnv:
        return {
            "autoreset": env._autoreset_envs.copy(),
            "envs": {str(i): env_state(one) for i, one in enumerate(env.envs)},
        }
    state = {"state": env.state.copy(), "steps": env.steps.copy(), "prev_done": env.prev_done.copy()}
    # ResettableCartPole draws from the seeds of its resets and has no generator of its own.
    return state if type(env) is ResettableCartPole else {**state, "rng": rng_state(env)}


def load_vector_state(env: Any, state: dict[str, Any], obs: NDArray[Any]) -> None:
    """Restore `vector_state`; ``obs`` [N, ...] are the observations the environment last returned."""
    if type(env) is SyncVectorEnv:
        env._autoreset_envs = np.array(state["autoreset"])
        env._env_obs = list(np.array(obs))
        for i, one in enumerate(env.envs):
            load_env_state(one, state["envs"][str(i)])
        return
    env.state = np.array(state["state"])
    env.steps = np.array(state["steps"])
    env.prev_done = np.array(state["prev_done"])
    if "rng" in state:
        load_rng_state(env, state["rng"])


def rng_state(env: Any) -> dict[str, Any]:
    """Return the state of ``env.np_random``'s bit generator (JSON, 128-bit integers as text)."""
    return {"seed": str(env.np_random_seed), "state": _texts(env.np_random.bit_generator.state)}


def load_rng_state(env: Any, state: dict[str, Any]) -> None:
    """Restore ``env.np_random`` from `rng_state`."""
    text = dict(state["state"])
    bit_generator = getattr(np.random, text["bit_generator"])()
    bit_generator.state = _numbers(text)
    env._np_random = np.random.Generator(bit_generator)
    env._np_random_seed = int(state["seed"])


def _offers_state(env: Any) -> bool:
    # MuJoCo environments have a set_state(qpos, qvel) but no get_state.
    return callable(getattr(env, "get_state", None)) and callable(getattr(env, "set_state", None))


def _wrapper_fields(wrapper: Any) -> tuple[str, ...] | None:
    if not type(wrapper).__module__.startswith(("gymnasium.wrappers", "dynarl.envs.")):
        return None
    return _WRAPPERS.get(type(wrapper).__name__)


def _plain(value: Any) -> Any:
    """Return arrays as copies, tuples of numbers as arrays, NumPy scalars as 0-d arrays."""
    if value is None or type(value) in (bool, int, float):
        return value
    return np.array(value)


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _texts(item) for key, item in value.items()}
    return str(value) if isinstance(value, int) else value


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    return int(value) if isinstance(value, str) and value.isdecimal() else value
