"""Sets up the workers of a run from its options."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynarl.agents.agent import Agent
from dynarl.config import ConfigError, RunConfig
from dynarl.distributed.asynchronous import AsyncCollector
from dynarl.distributed.cluster import connected, require, require_resources
from dynarl.distributed.collector import PooledCollector, WeightSource
from dynarl.distributed.failures import FailureLog
from dynarl.distributed.fragment_validator import FragmentValidator
from dynarl.distributed.nodes import require_packages
from dynarl.distributed.pipelined import PipelinedCollector
from dynarl.distributed.pool import WorkerPool
from dynarl.distributed.round_robin import RoundRobinCollector
from dynarl.distributed.supervision import Supervision
from dynarl.distributed.transport import LocalTransport, Transport
from dynarl.distributed.worker import Recipe
from dynarl.envs.env_group import EnvGroup

__all__ = ["WorkerPlan", "attach_workers", "plan_workers"]

AHEAD = 2
"""Fragments requested of each group at a time, where workers do not wait for the learner."""
MAX_LAG = 4


_ROOM_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """How the environments of a run are split into groups, and how many processes step them (0: the learner's own)."""

    groups: int
    envs_per_group: int
    num_workers: int

    def env_group(self, source: Any) -> EnvGroup:
        """Return the environment spec of an agent whose environments run in workers."""
        return EnvGroup(env=source, env_ids=tuple(range(self.groups * self.envs_per_group)), here=False)


def plan_workers(config: RunConfig, agent_cls: Any, num_envs: int) -> WorkerPlan | None:
    """Return the split of `num_envs` environments, None if the agent steps them itself as one group.

    Raises ConfigError if the split is not possible, or if Ray is required and not installed.
    """
    workers = config.num_workers
    each = config.envs_per_group or num_envs // max(1, workers)
    if each < 1 or num_envs % each or (not config.envs_per_group and each * workers not in (0, num_envs)):
        what = f"envs_per_group {config.envs_per_group}" if config.envs_per_group else f"num_workers {workers}"
        raise ConfigError(
            f"{what.split()[0]}: num_envs {num_envs} must be a multiple of {what}, since all groups have one size; "
            f"set num_envs to {_next_multiple(num_envs, config.envs_per_group or workers)}"
        )
    groups = num_envs // each
    if workers > groups:
        raise ConfigError(
            f"num_workers: must be at most the number of groups, got {workers} workers for {groups} groups of {each} "
            f"environments; set num_workers to at most {groups}"
        )
    if not workers and groups == 1:
        return None
    if not hasattr(agent_cls, "make_worker"):
        raise ConfigError(f"num_workers: {agent_cls.algorithm} does not support workers; set it to 0")
    if agent_cls.learns_from_replay and (config.pipeline or config.asynchronous):
        name = "pipeline" if config.pipeline else "asynchronous"
        raise ConfigError(
            f"{name}: the workers of {agent_cls.algorithm} always collect while it learns; set it to false"
        )
    if workers:
        require()
    return WorkerPlan(groups=groups, envs_per_group=each, num_workers=workers)


def _next_multiple(number: int, of: int) -> int:
    return -(-number // of) * of


@contextlib.contextmanager
def attach_workers(
    agent: Agent,
    plan: WorkerPlan,
    config: RunConfig,
    report: Callable[[str], None] = lambda message: None,
    directory: Path | None = None,
) -> Iterator[PooledCollector]:
    """Run `agent` with workers within the block; Ray is started or connected before and released after.

    `report` receives a message for every worker and every environment that was replaced. The records for replaying
    failed episodes are written to `directory`.
    """
    actor: Any = agent.actor
    with contextlib.ExitStack() as stack:
        transport: Transport = LocalTransport()
        if plan.num_workers:
            cpus = plan.num_workers * config.cpus_per_worker
            ray = connected(config.ray_address, cpus=cpus, allow_open=config.ray_allow_open)
            stack.enter_context(ray)
            require_resources(plan.num_workers, config.cpus_per_worker)
            require_packages(Recipe.of(agent, plan.envs_per_group), config.cpus_per_worker)
            transport = _ray_transport(plan, config, stack)
        pool = WorkerPool(
            Recipe.of(agent, plan.envs_per_group),
            transport,
            groups=plan.groups,
            num_workers=max(1, plan.num_workers),
            supervision=_supervision(agent.learns_from_replay, plan, config),
            validator=FragmentValidator(actor, plan.envs_per_group),
            report=report,
        )
        stack.callback(pool.close)
        failures = FailureLog(agent.source, config, report, directory)
        own = agent.collector
        common: dict[str, Any] = {"groups": plan.groups, "num_steps": int(own.num_steps), "on_failure": failures}
        if agent.learns_from_replay:
            agent.collector = RoundRobinCollector(actor, pool, agent.learner, ahead=AHEAD, **common)
        else:
            agent.collector = _collector(actor, pool, config, **common)
        try:
            yield agent.collector
        finally:
            agent.collector = own


def _supervision(replay: bool, plan: WorkerPlan, config: RunConfig) -> Supervision:
    usual = Supervision(fragment_deadline=config.worker_timeout)
    if not (config.pipeline or config.asynchronous or replay):
        return usual
    # All requests of an update are sent before it, so that workers collect while this process learns.
    groups_per_worker = -(-plan.groups // max(1, plan.num_workers))
    return dataclasses.replace(usual, calls_ahead=AHEAD * groups_per_worker)


def _collector(actor: WeightSource, pool: WorkerPool, config: RunConfig, **common: Any) -> PooledCollector:
    """Return the collector of whole batches that a run's options ask for."""
    if config.pipeline:
        return PipelinedCollector(actor, pool, **common)
    if config.asynchronous:
        limit = MAX_LAG if config.max_lag is None else config.max_lag
        return AsyncCollector(actor, pool, max_lag=limit, ahead=AHEAD, **common)
    return PooledCollector(actor, pool, **common)


def _ray_transport(plan: WorkerPlan, config: RunConfig, stack: contextlib.ExitStack) -> Transport:
    from dynarl.distributed.ray_transport import RayTransport

    options: dict[str, Any] = {"scheduling_strategy": "SPREAD"}
    if config.placement == "pack":
        options = {"scheduling_strategy": stack.enter_context(_packed(plan.num_workers, config.cpus_per_worker))}
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
                f"placement: {workers} workers of {cpus:g} CPUs found no free CPUs within {_ROOM_SECONDS:g} s, other "
                "jobs use the cluster; wait for them, or lower num_workers"
            )
        yield PlacementGroupSchedulingStrategy(placement_group=group)
    finally:
        remove_placement_group(group)


def with_envs_per_group(config: RunConfig, plan: WorkerPlan | None) -> RunConfig:
    """Return the config with the size of the groups filled in, so that any number of workers can resume the run."""
    return config if plan is None else dataclasses.replace(config, envs_per_group=plan.envs_per_group)
