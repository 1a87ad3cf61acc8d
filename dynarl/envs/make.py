"""Makes `Environments` from an env id, a callable or an existing environment."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import VectorEnv

from dynarl.envs.another import another
from dynarl.envs.cartpole import ResettableCartPole
from dynarl.envs.env_group import EnvGroup, RemoteEnvironments
from dynarl.envs.protocol import Environments
from dynarl.envs.statistics import freeze_statistics, load_statistics, normalizing_wrappers, statistics_of
from dynarl.envs.sync import SyncEnvironments
from dynarl.envs.vector import VectorEnvironments
from dynarl.extras import how_to_install

__all__ = ["EnvLike", "id_of", "make", "make_another", "number_of"]

EnvLike = str | Callable[[], Any] | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | EnvGroup

_VECTORIZATIONS = ("auto", "sync", "vector")


def make(
    env: EnvLike,
    num_envs: int | None = None,
    *,
    seed: int = 0,
    purpose: str = "reset",
    env_ids: Any = None,
    vectorization: str = "auto",
    env_kwargs: Mapping[str, Any] | None = None,
    rebuild: bool = False,
) -> Environments:
    """Make ``num_envs`` environments (default 1) from an env id, a callable or an existing environment.

    ``env`` is a gymnasium id, a callable that returns a new `gymnasium.Env` (or one `VectorEnv`), an `Env` (then
    ``num_envs`` is 1) or a `VectorEnv` (then ``num_envs`` is its own). Episodes are seeded by (seed, purpose, env id,
    episode); ``env_ids`` [N] number the environments, default 0 to N - 1, so that workers with a part of them have the
    episodes of one process. ``vectorization`` "sync" steps single environments, "vector" requires the id's registered
    vector form, "auto" uses it if there is one. ``env_kwargs`` are passed to the environment. With ``rebuild`` a single
    environment that raises is replaced alone (see `dynarl.envs.guard`). Raises ValueError for impossible combinations.
    """
    if vectorization not in _VECTORIZATIONS:
        raise ValueError(f"vectorization: must be one of {_VECTORIZATIONS}, got {vectorization!r}")
    if num_envs is not None and num_envs < 1:
        raise ValueError(f"num_envs: must be at least 1, got {num_envs}")
    if isinstance(env, EnvGroup):
        return _from_group(env, num_envs, seed, vectorization, env_kwargs)
    keys: dict[str, Any] = {"seed": seed, "purpose": purpose, "env_ids": env_ids}
    kwargs = dict(env_kwargs or {})
    if isinstance(env, str):
        return _from_id(env, num_envs or 1, vectorization, kwargs, keys, rebuild)
    if isinstance(env, VectorEnv | gymnasium.Env):
        if kwargs:
            raise ValueError(f"env_kwargs: must be empty for an existing environment, got {sorted(kwargs)}")
        return _from_ready(env, num_envs, vectorization, keys)
    if callable(env):
        return _from_callable(env, num_envs, vectorization, kwargs, keys, rebuild)
    raise TypeError(
        f"env: must be an env id, a callable, a gymnasium.Env or a gymnasium.vector.VectorEnv, got {type(env).__name__}"
    )


def _from_group(group: EnvGroup, num_envs: int | None, seed: int, vectorization: str, env_kwargs: Any) -> Environments:
    if isinstance(group.env, gymnasium.Env | VectorEnv):
        raise ValueError(
            f"env: workers require an env id or a function that makes the environment, got an existing "
            f"{type(group.env).__name__}"
        )
    if num_envs not in (None, len(group.env_ids)):
        raise ValueError(f"num_envs: the group has {len(group.env_ids)} environments, got num_envs={num_envs}")
    keys: dict[str, Any] = {"seed": seed, "vectorization": vectorization, "env_kwargs": env_kwargs}
    if group.here:
        return make(group.env, len(group.env_ids), purpose=group.purpose, env_ids=group.env_ids, rebuild=True, **keys)
    probe = make(group.env, **keys)
    probe.close()
    return RemoteEnvironments(probe, group.env_ids)


def _from_id(env_id: str, num_envs: int, vectorization: str, kwargs: Any, keys: Any, rebuild: bool) -> Environments:
    if ":" in env_id:
        raise ValueError(
            f"env: must be an id without ':', got {env_id!r}: gymnasium imports the module before the colon, "
            "so a configuration file could run code. Import the module yourself and use the id after the colon"
        )
    spec = gymnasium.spec(env_id)
    if vectorization == "vector" and spec.vector_entry_point is None:
        raise ValueError(f"vectorization: {env_id} has no registered vector form; use 'auto' or 'sync'")
    try:
        if _uses_vector_form(spec, vectorization):
            return VectorEnvironments(_vector_form(spec, num_envs, kwargs), **keys)
        # dynarl's checks replace gymnasium's passive checker, which warns once instead of raising.
        one = partial(gymnasium.make, env_id, disable_env_checker=True, **kwargs)
        envs = [one() for _ in range(num_envs)]
    except gymnasium.error.DependencyNotInstalled as error:
        error.add_note(f"box2d, mujoco and classic-control rendering come with: {how_to_install('envs')}")
        raise
    return SyncEnvironments(envs, rebuild=one if rebuild else None, **keys)


def _uses_vector_form(spec: EnvSpec, vectorization: str) -> bool:
    if vectorization == "vector":
        return True
    # A vector form does not apply the wrappers of the single environment.
    return vectorization == "auto" and spec.vector_entry_point is not None and not spec.additional_wrappers


def _vector_form(spec: EnvSpec, num_envs: int, kwargs: dict[str, Any]) -> VectorEnv[Any, Any, Any]:
    entry: Any = spec.vector_entry_point
    if (load_env_creator(entry) if isinstance(entry, str) else entry) is not CartPoleVectorEnv:
        return gymnasium.make_vec(spec.id, num_envs, vectorization_mode="vector_entry_point", **kwargs)
    settings = {**spec.kwargs, **kwargs}
    if spec.max_episode_steps is not None:
        settings.setdefault("max_episode_steps", spec.max_episode_steps)
    env = ResettableCartPole(num_envs, **settings)
    env.spec = spec
    return env


def _from_ready(env: Any, num_envs: int | None, vectorization: str, keys: Any) -> Environments:
    if isinstance(env, VectorEnv):
        if vectorization == "sync":
            raise ValueError("vectorization: 'sync' steps single environments, got a VectorEnv")
        if num_envs not in (None, env.num_envs):
            raise ValueError(f"num_envs: the VectorEnv has {env.num_envs} environments, got num_envs={num_envs}")
        return VectorEnvironments(env, **keys)
    if vectorization == "vector":
        raise ValueError("vectorization: 'vector' needs an env id or a VectorEnv, got a single environment")
    if num_envs not in (None, 1):
        raise ValueError(
            f"num_envs: must be 1 for one existing environment, got {num_envs}; pass a callable that makes a new one"
        )
    return SyncEnvironments([env], **keys)


def _from_callable(
    function: Callable[..., Any], num_envs: int | None, vectorization: str, kwargs: Any, keys: Any, rebuild: bool
) -> Environments:
    first = function(**kwargs)
    if not isinstance(first, VectorEnv | gymnasium.Env):
        raise TypeError(f"env: the callable must return a gymnasium.Env or VectorEnv, got {type(first).__name__}")
    if isinstance(first, VectorEnv) or vectorization == "vector":
        return _from_ready(first, num_envs, vectorization, keys)
    envs = [first, *(function(**kwargs) for _ in range((num_envs or 1) - 1))]
    return SyncEnvironments(envs, rebuild=partial(function, **kwargs) if rebuild else None, **keys)


def number_of(env: Any, num_envs: int) -> int | None:
    """Return the number of environments to make: `num_envs`, or None for an existing environment, which has its own."""
    return None if isinstance(env, (gymnasium.Env, VectorEnv)) else num_envs


def id_of(env: Any) -> str | None:
    """Return the id of an environment, None if it has none."""
    if isinstance(env, str):
        return env
    spec = getattr(env, "spec", None)
    return None if spec is None else str(spec.id)


def _several(first: Any, make_one: Callable[[], Any], count: int) -> list[Any]:
    """Return `first` and up to `count` - 1 more environments, fewer with a warning where no more can exist."""
    envs = [first]
    while len(envs) < count:
        try:
            envs.append(make_one())
        except Exception as error:
            warnings.warn(
                f"evaluate: {len(envs)} of {count} environments were made, the next one raised {error!r}; all episodes "
                f"are played in these. num_envs={len(envs)} asks for no more",
                stacklevel=4,
            )
            break
    return envs


def make_another(source: Any, num_envs: int, like: Environments, *, seed: int) -> Environments:
    """Make `num_envs` environments of the kind of `source` to evaluate in, or as many as a vector environment has.

    Their normalising wrappers scale by the statistics of `like` and leave them as they are. Raises ValueError where
    none can be made, or where the statistics are in other processes.
    """
    keys: dict[str, Any] = {"seed": seed, "purpose": "evaluate"}
    made = another(source)
    first = made() if callable(made) else None
    if isinstance(first, VectorEnv):
        envs: Environments = VectorEnvironments(first, **keys)
    elif first is None:
        envs = make(made, num_envs, **keys)
    else:
        envs = SyncEnvironments(_several(first, made, num_envs), **keys)
    names = normalizing_wrappers(envs.members)
    if names and not like.members:
        envs.close()
        raise ValueError(
            f"evaluate: the statistics of {', '.join(names)} are in the workers, and new ones would scale otherwise; "
            "use normalize_obs=True and normalize_reward=True of the agent in place of the wrappers"
        )
    load_statistics(envs.members, statistics_of(like.members))
    freeze_statistics(envs.members)
    return envs
