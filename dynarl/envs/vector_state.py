"""State of gymnasium vector environments: both forms of CartPole and a plain `SyncVectorEnv`."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from dynarl.envs.cartpole import ResettableCartPole
from dynarl.envs.state import env_state, has_exact_state, load_env_state, load_rng_state, rng_state

__all__ = ["has_exact_vector_state", "load_vector_state", "vector_state"]


def has_exact_vector_state(env: VectorEnv[Any, Any, Any]) -> bool:
    """Whether `load_vector_state` brings ``env`` back to the bit; wrapped ones never do."""
    if type(env) is SyncVectorEnv:
        # Observations are rebuilt as rows of a batch, which a Dict or Tuple space has not.
        return all(has_exact_state(one) and one.observation_space.shape is not None for one in env.envs)
    return type(env) in (CartPoleVectorEnv, ResettableCartPole)


def vector_state(env: Any) -> dict[str, Any]:
    """The state of a vector environment for which `has_exact_vector_state` holds."""
    if type(env) is SyncVectorEnv:
        return {
            "autoreset": env._autoreset_envs.copy(),
            "envs": {str(i): env_state(one) for i, one in enumerate(env.envs)},
        }
    state = {"state": env.state.copy(), "steps": env.steps.copy(), "prev_done": env.prev_done.copy()}
    # The resettable form draws from seeds given to it and keeps no stream of its own.
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
