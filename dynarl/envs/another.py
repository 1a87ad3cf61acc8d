"""Makes another environment of the same kind: for evaluation, videos, and agents loaded from a checkpoint.

Arguments, wrappers and time limits belong to the kind. What cannot be made again is refused with the remedy.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv, VectorWrapper

__all__ = ["another", "description", "from_description"]

_REMEDY = (
    "give the agent a function that makes the environment, such as lambda: Wrapper(gymnasium.make(ID)), or give env="
)
# Arguments of gymnasium.make_vec itself; its spec lists them with those of the environment.
_OF_THE_VECTOR = ("num_envs", "vectorization_mode", "vector_kwargs", "wrappers")


def another(source: Any, *, render_mode: str | None = None) -> Any:
    """Return an env id or a function that makes environments like `source`, which render in `render_mode`.

    None: they open no window; another render_mode of the source stays. `source` is an id, a function, an environment or
    a vector environment. Raises ValueError with the reason and the remedy where no other can be made.
    """
    if reason := _why_not(source):
        raise ValueError(reason)
    if isinstance(source, gymnasium.Env):
        spec = copy.copy(source.spec)
        assert spec is not None
        spec.kwargs = _rendering(spec.kwargs, render_mode)
        return partial(gymnasium.make, spec)
    if isinstance(source, VectorEnv):
        return _another_vector(source, render_mode)
    if isinstance(source, partial) and "render_mode" in source.keywords:
        return partial(source.func, *source.args, **_rendering(source.keywords, render_mode))
    if render_mode is None:
        return source
    if isinstance(source, str):
        return partial(gymnasium.make, source, render_mode=render_mode, disable_env_checker=True)
    return partial(source, render_mode=render_mode)


def _why_not(source: Any) -> str | None:
    """Return why no environment like `source` can be made, with the remedy; None if one can."""
    if not isinstance(source, gymnasium.Env | VectorEnv):
        return None
    layer: Any = source
    while isinstance(layer, gymnasium.Wrapper | VectorWrapper):
        if not isinstance(layer, gymnasium.utils.RecordConstructorArgs):
            return (
                f"env: no other environment can be made like this one, because its wrapper {type(layer).__name__} does "
                f"not record its arguments (gymnasium.utils.RecordConstructorArgs); {_REMEDY}"
            )
        layer = layer.env
    if isinstance(layer, SyncVectorEnv | AsyncVectorEnv):
        return None
    if layer.spec is None:
        return (
            f"env: no other environment can be made like this one, because {type(layer).__name__} was not made by "
            f"gymnasium.make and has no spec; {_REMEDY}"
        )
    return None


def description(source: Any) -> dict[str, Any] | None:
    """Return id, arguments and time limit of a source as JSON, None where those do not say how to make it."""
    if isinstance(source, str):
        return {"id": source}
    if isinstance(source, partial):  # of gymnasium.make, as a run with env_kwargs has
        named = source.func is gymnasium.make and len(source.args) == 1 and isinstance(source.args[0], str)
        return _described(source.args[0], source.keywords, None) if named else None
    spec = getattr(source, "spec", None)
    if spec is None or isinstance(source, VectorWrapper) or spec.additional_wrappers or "wrappers" in spec.kwargs:
        return None
    kwargs = {name: value for name, value in spec.kwargs.items() if name not in _OF_THE_VECTOR}
    limit = kwargs.pop("max_episode_steps", spec.max_episode_steps)
    registered = gymnasium.registry.get(spec.id)
    return _described(spec.id, kwargs, None if registered is None or limit == registered.max_episode_steps else limit)


def from_description(described: Mapping[str, Any]) -> Any:
    """Return the source that `description` described: an id, or a function where there are arguments."""
    arguments = {**described.get("kwargs", {})}
    if "max_episode_steps" in described:
        arguments["max_episode_steps"] = described["max_episode_steps"]
    return partial(gymnasium.make, described["id"], **arguments) if arguments else described["id"]


def _described(env_id: str, kwargs: Mapping[str, Any], limit: int | None) -> dict[str, Any] | None:
    described: dict[str, Any] = {"id": env_id}
    if kwargs := {name: value for name, value in kwargs.items() if name != "render_mode"}:
        described["kwargs"] = kwargs
    if limit is not None:
        described["max_episode_steps"] = limit
    try:
        same = json.loads(json.dumps(described)) == described
    except (TypeError, ValueError):
        return None  # arguments that are objects
    return described if same else None


def _another_vector(source: Any, render_mode: str | None) -> Any:
    wrappers: list[Any] = []
    layer = source
    while isinstance(layer, VectorWrapper):
        wrappers.append(layer)
        layer = layer.env
    if isinstance(layer, SyncVectorEnv | AsyncVectorEnv):
        one: Any = _in_turn(layer.env_fns)
        many = partial(_sync, layer)
    else:
        kwargs = _rendering({k: v for k, v in layer.spec.kwargs.items() if k not in _OF_THE_VECTOR}, render_mode)
        one = partial(gymnasium.make, layer.spec.id, **kwargs)
        many = partial(gymnasium.make_vec, layer.spec.id, layer.num_envs, "vector_entry_point", **kwargs)
        if layer.spec.entry_point is None:
            return many
    return partial(_wrapped, many, wrappers[::-1]) if wrappers else one


def _in_turn(functions: Any) -> Any:
    """Return a function that calls `functions` one after the other, over and over: they may make different ones."""
    turn = itertools.cycle(functions)
    return lambda: next(turn)()


def _sync(source: SyncVectorEnv | AsyncVectorEnv) -> VectorEnv[Any, Any, Any]:
    return SyncVectorEnv(source.env_fns, autoreset_mode=source.metadata["autoreset_mode"])


def _wrapped(make: Any, wrappers: list[Any]) -> VectorEnv[Any, Any, Any]:
    env = make()
    for wrapper in wrappers:
        env = type(wrapper)(env, **wrapper._saved_kwargs)
    return env


def _rendering(kwargs: Mapping[str, Any], render_mode: str | None) -> dict[str, Any]:
    """Return arguments with another render_mode: None takes away "human" alone, which would open a window each."""
    changed = dict(kwargs)
    if render_mode is not None:
        changed["render_mode"] = render_mode
    elif changed.get("render_mode") == "human":
        del changed["render_mode"]
    return changed
