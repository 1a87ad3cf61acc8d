"""What environments were made of, and what others like them can be made of."""

from __future__ import annotations

from typing import Any

import gymnasium

__all__ = ["evaluation_source", "id_of", "number_of"]

_OF_THE_VECTOR = ("num_envs", "vectorization_mode", "vector_kwargs", "wrappers", "max_episode_steps")


def number_of(env: Any, num_envs: int) -> int | None:
    """Ready-made environments come in the number they are."""
    return None if isinstance(env, (gymnasium.Env, gymnasium.vector.VectorEnv)) else num_envs


def id_of(env: Any) -> str | None:
    if isinstance(env, str):
        return env
    spec = getattr(env, "spec", None)
    return None if spec is None else str(spec.id)


def evaluation_source(env: Any) -> Any:
    """Return what new environments can be made of, so that evaluation never disturbs training."""
    if isinstance(env, (gymnasium.Env, gymnasium.vector.VectorEnv)):
        if env.spec is None:
            raise ValueError(
                f"evaluate: {type(env).__name__} has no spec to make another from; "
                "give the agent an env id or a function that makes the environment"
            )
        spec = env.spec
        if isinstance(env, gymnasium.Env):
            return lambda: gymnasium.make(spec)
        kwargs = {name: value for name, value in spec.kwargs.items() if name not in _OF_THE_VECTOR}
        return lambda: gymnasium.make(spec.id, **kwargs)
    return env
