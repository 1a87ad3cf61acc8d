"""Whether the nodes of a cluster can run the workers, found before any is started."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from dynarl.config import ConfigError
from dynarl.distributed.connect import one_line
from dynarl.distributed.worker import Recipe

__all__ = ["require_packages"]


def require_packages(recipe: Recipe, cpus_per_worker: float, *, deadline: float = 60.0) -> None:
    """Raise ConfigError unless every other node that may get a worker has dynarl and can make the environment.

    The node that this process is on has what this process has. `deadline` is in seconds, for all nodes together.
    """
    ray: Any = importlib.import_module("ray")
    cloudpickle: Any = ray.cloudpickle
    here = None if ray.util.client.ray.is_connected() else ray.get_runtime_context().get_node_id()
    scheduling = importlib.import_module("ray.util.scheduling_strategies")
    packed = cloudpickle.dumps(recipe)
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)  # a node without dynarl could not import it
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
                f"num_workers: node {asked[ref]} cannot run workers: {wrong}; install there what this machine "
                "has, dynarl and the environment's packages, for the Python that runs Ray there"
            )


def _nodes(cpus_per_worker: float) -> list[dict[str, Any]]:
    import ray

    list_nodes: Any = ray.nodes
    return [n for n in list_nodes() if n["Alive"] and n["Resources"].get("CPU", 0.0) >= cpus_per_worker]


def _answer(ref: Any) -> str:
    import ray

    try:
        return str(ray.get(ref))
    except Exception as error:  # the node died, or no process of it starts
        return one_line(error)


def _tried(packed: bytes) -> str:
    """Make an environment as a worker would and return what is wrong with that, "" for nothing."""
    try:
        from ray import cloudpickle

        from dynarl import envs
        from dynarl.envs.group import EnvGroup

        recipe = cloudpickle.loads(packed)
        recipe.register()
        envs.make(EnvGroup(env=recipe.source, env_ids=(0,))).close()
    except Exception as error:  # whatever a package or an environment does
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""
