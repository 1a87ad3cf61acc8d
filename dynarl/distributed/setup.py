"""From the options of a run to workers that collect for its agent."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynarl.agents.agent import Agent
from dynarl.config import ConfigError, RunConfig
from dynarl.distributed import cluster
from dynarl.distributed.asynchronous import AsyncCollector
from dynarl.distributed.collector import PooledCollector, WeightSource
from dynarl.distributed.failures import FailureLog
from dynarl.distributed.nodes import require_packages
from dynarl.distributed.pipelined import PipelinedCollector
from dynarl.distributed.pool import WorkerPool
from dynarl.distributed.round_robin import RoundRobinCollector
from dynarl.distributed.supervision import Supervision
from dynarl.distributed.transport import LocalTransport, Transport
from dynarl.distributed.validate import Validator
from dynarl.distributed.worker import Recipe
from dynarl.envs.group import EnvGroup

__all__ = ["Plan", "attached", "plan"]

AHEAD = 2
"""Fragments that each group has to make at a time, where workers do not wait for the learner."""
MAX_LAG = 4


_ROOM_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the environments of a run are split, and how many processes step them (0: the learner's own)."""

    groups: int
    envs_per_group: int
    num_workers: int

    def part(self, source: Any) -> EnvGroup:
        """Return what an agent that leaves its environments to workers is made of."""
        return EnvGroup(env=source, env_ids=tuple(range(self.groups * self.envs_per_group)), here=False)


def plan(config: RunConfig, agent_cls: Any, num_envs: int) -> Plan | None:
    """Return how `num_envs` environments are split, None where the agent steps them itself as one group.

    Raises ConfigError for a split that is not possible, and where Ray is needed and missing.
    """
    workers = config.num_workers
    each = config.envs_per_group or num_envs // max(1, workers)
    if each < 1 or num_envs % each or (not config.envs_per_group and each * workers not in (0, num_envs)):
        what = f"envs_per_group {config.envs_per_group}" if config.envs_per_group else f"num_workers {workers}"
        raise ConfigError(
            f"{what.split()[0]}: num_envs {num_envs} must be a multiple of {what}, as every group has as many; "
            f"set num_envs to {_next_multiple(num_envs, config.envs_per_group or workers)}"
        )
    groups = num_envs // each
    if workers > groups:
        raise ConfigError(
            f"num_workers: {workers} workers for {groups} groups of {each} environments; at most {groups}"
        )
    if not workers and groups == 1:
        return None
    if not hasattr(agent_cls, "make_worker"):
        raise ConfigError(f"num_workers: {agent_cls.algorithm} has no workers yet; leave it 0")
    if agent_cls.learns_from_replay and (config.pipeline or config.asynchronous):
        name = "pipeline" if config.pipeline else "asynchronous"
        raise ConfigError(f"{name}: the workers of {agent_cls.algorithm} always collect while it learns; leave it off")
    if workers:
        cluster.require()
    return Plan(groups=groups, envs_per_group=each, num_workers=workers)


def _next_multiple(number: int, of: int) -> int:
    return -(-number // of) * of


@contextlib.contextmanager
def attached(
    agent: Agent,
    how: Plan,
    config: RunConfig,
    report: Callable[[str], None] = lambda message: None,
    directory: Path | None = None,
) -> Iterator[PooledCollector]:
    """Inside, workers collect for `agent`; Ray is started or joined before and left after.

    `report` is told of every worker and every environment that was replaced. What it takes to replay the episodes
    of the latter is written to `directory`.
    """
    both: Any = agent  # agents that are actor and learner in one object
    actor, learner = (agent.actor, agent.learner) if hasattr(agent, "learner") else (both, both)
    with contextlib.ExitStack() as stack:
        transport: Transport = LocalTransport()
        if how.num_workers:
            cpus = how.num_workers * config.cpus_per_worker
            ray = cluster.connected(config.ray_address, cpus=cpus, allow_open=config.ray_allow_open)
            stack.enter_context(ray)
            cluster.require_resources(how.num_workers, config.cpus_per_worker)
            require_packages(Recipe.of(agent, how.envs_per_group), config.cpus_per_worker)
            transport = _ray_transport(how, config, stack)
        pool = WorkerPool(
            Recipe.of(agent, how.envs_per_group),
            transport,
            groups=how.groups,
            num_workers=max(1, how.num_workers),
            supervision=_supervision(agent.learns_from_replay, how, config),
            validator=Validator(actor, how.envs_per_group),
            report=report,
        )
        stack.callback(pool.close)
        failures = FailureLog(agent.source, config, report, directory)
        own = agent.collector
        common: dict[str, Any] = {"groups": how.groups, "num_steps": int(own.num_steps), "on_failure": failures}
        if agent.learns_from_replay:
            agent.collector = RoundRobinCollector(actor, pool, learner, ahead=AHEAD, **common)
        else:
            agent.collector = _collector(actor, pool, config, **common)
        try:
            yield agent.collector
        finally:
            agent.collector = own


def _supervision(replay: bool, how: Plan, config: RunConfig) -> Supervision:
    usual = Supervision(fragment_deadline=config.worker_timeout)
    if not (config.pipeline or config.asynchronous or replay):
        return usual
    # what workers do while this process learns is sent before: all of it
    together = -(-how.groups // max(1, how.num_workers))
    return dataclasses.replace(usual, calls_ahead=AHEAD * together)


def _collector(actor: WeightSource, pool: WorkerPool, config: RunConfig, **common: Any) -> PooledCollector:
    """Return the collector of whole batches that a run's options ask for."""
    if config.pipeline:
        return PipelinedCollector(actor, pool, **common)
    if config.asynchronous:
        limit = MAX_LAG if config.max_lag is None else config.max_lag
        return AsyncCollector(actor, pool, max_lag=limit, ahead=AHEAD, **common)
    return PooledCollector(actor, pool, **common)


def _ray_transport(how: Plan, config: RunConfig, stack: contextlib.ExitStack) -> Transport:
    from dynarl.distributed.ray_transport import RayTransport

    options: dict[str, Any] = {"scheduling_strategy": "SPREAD"}
    if config.placement == "pack":
        options = {"scheduling_strategy": stack.enter_context(_packed(how.num_workers, config.cpus_per_worker))}
    return RayTransport(cpus_per_worker=config.cpus_per_worker, options=options)


@contextlib.contextmanager
def _packed(workers: int, cpus: float) -> Iterator[Any]:
    """Reserve the workers' CPUs on as few nodes as possible."""
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([{"CPU": cpus}] * workers, strategy="PACK")
    try:
        if not group.wait(timeout_seconds=_ROOM_SECONDS):
            raise ConfigError(
                f"placement: no room for {workers} workers of {cpus:g} CPUs within {_ROOM_SECONDS:g} s, others use "
                "the cluster; "
                "wait for them, or lower num_workers"
            )
        yield PlacementGroupSchedulingStrategy(placement_group=group)
    finally:
        remove_placement_group(group)


def resolved(config: RunConfig, how: Plan | None) -> RunConfig:
    """Return the config with the split spelled out, so that another number of workers continues the same run."""
    return config if how is None else dataclasses.replace(config, envs_per_group=how.envs_per_group)
