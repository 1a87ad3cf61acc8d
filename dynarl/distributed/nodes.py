"""Checks that the nodes of a cluster can run workers, before any worker is started."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from dynarl.config import ConfigError
from dynarl.distributed.connect import one_line
from dynarl.distributed.worker import Recipe

__all__ = ["require_packages"]


def require_packages(recipe: Recipe, cpus_per_worker: float, *, deadline: float = 60.0) -> None:
    """Raise ConfigError if a node that may get a worker lacks dynarl or cannot make the environment.

    The node of this process is not checked. `deadline` is in seconds, for all nodes together.
    """
    ray: Any = importlib.import_module("ray")
    cloudpickle: Any = ray.cloudpickle
    here = None if ray.util.client.ray.is_connected() else ray.get_runtime_context().get_node_id()
    scheduling = importlib.import_module("ray.util.scheduling_strategies")
    packed = cloudpickle.dumps(recipe)
    module = sys.modules[__name__]
    # By value: a node without dynarl could not import this module, and must report exactly that.
    cloudpickle.register_pickle_by_value(module)
    try:
        asked = {}
        for node in _nodes(cpus_per_worker):
            if node["NodeID"] != here:
                where = scheduling.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                task = ray.remote(_tried).options(num_cpus=0, max_retries=0, scheduling_strategy=where)
                asked[task.remote(packed)] = node["NodeManagerAddress"]
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=deadline) if asked else ([], [])
    for ref in [*ready, *late]:
        if wrong := f"no answer within {deadline:g} s" if ref in late else _answer(ref):
            raise ConfigError(
                f"num_workers: node {asked[ref]} cannot run workers: {wrong}; install dynarl and the environment's "
                "packages there, for the Python that runs Ray"
            )


def _nodes(cpus_per_worker: float) -> list[dict[str, Any]]:
    import ray

    list_nodes: Any = ray.nodes
    return [n for n in list_nodes() if n["Alive"] and n["Resources"].get("CPU", 0.0) >= cpus_per_worker]


def _answer(ref: Any) -> str:
    import ray

    try:
        return str(ray.get(ref))
    except Exception as error:  # the node died, or cannot start a process
        return one_line(error)


def _tried(packed: bytes) -> str:
    """Make an environment as a worker does; return the error, or "" for none.

    The imports stand inside, because the function is pickled by value: a global would be imported while Ray unpickles
    it, outside the `try`.
    """
    try:
        from ray import cloudpickle

        from dynarl import envs
        from dynarl.envs.env_group import EnvGroup

        recipe = cloudpickle.loads(packed)
        recipe.register()
        envs.make(EnvGroup(env=recipe.source, env_ids=(0,))).close()
    except Exception as error:  # packages and environments may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""
