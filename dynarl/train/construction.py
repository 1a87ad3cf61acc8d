"""From a run's configuration to its agent, its environments and its workers."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynarl.config import ConfigError, RunConfig

if TYPE_CHECKING:
    from dynarl.agents.agent import Agent
    from dynarl.distributed.setup import WorkerPlan

__all__ = ["env_source", "make_agent", "one_env_for_each_worker", "split", "with_workers"]


def env_source(env_id: str, env_kwargs: Mapping[str, Any] | None) -> str | functools.partial[Any]:
    """Return what an agent makes its environments of: the id, or a function where there are arguments."""
    if not env_kwargs:
        return env_id
    import gymnasium

    return functools.partial(gymnasium.make, env_id, **env_kwargs)


def one_env_for_each_worker(agent_cls: type[Agent], config: RunConfig, agent_config: Any) -> Any:
    """Return the agent's config, with num_envs raised to num_workers where the workers fill a replay."""
    if not getattr(agent_cls, "learns_from_replay", False) or agent_config.num_envs >= config.num_workers:
        return agent_config
    print(f"num_envs {agent_config.num_envs} -> {config.num_workers}: one environment for each worker", flush=True)
    return dataclasses.replace(agent_config, num_envs=config.num_workers)


def split(agent_cls: type[Agent], config: RunConfig, agent_config: Any) -> WorkerPlan | None:
    """Return how the environments are split among workers, None where the agent steps them itself."""
    if not config.num_workers and config.envs_per_group is None:
        return None
    from dynarl import distributed

    return distributed.plan_workers(config, agent_cls, int(agent_config.num_envs))


def make_agent(agent_cls: Any, config: RunConfig, agent_config: Any, plan: WorkerPlan | None) -> Agent:
    """Make the agent and its environments; raises ConfigError with the reason where that is not possible."""
    import gymnasium

    source = env_source(config.env_id, config.env_kwargs)
    try:
        agent: Agent = agent_cls(
            source if plan is None else plan.env_group(source),
            seed=config.seed,
            device=config.device,
            config=agent_config,
        )
        if hasattr(agent, "check_length"):  # refuses a run that would end before learning starts
            agent.check_length(config.total_steps)
    except (ValueError, TypeError, RuntimeError, ImportError, gymnasium.error.Error) as error:
        raise ConfigError(f"{agent_cls.algorithm} on {config.env_id}: {error}") from error
    return agent


@contextlib.contextmanager
def with_workers(
    agent: Agent, plan: WorkerPlan | None, config: RunConfig, report: Callable[[str], None], failures: Path
) -> Iterator[RunConfig]:
    """Inside, workers collect for `agent`; the config comes back with the split spelled out.

    `report` gets a line for each replaced worker or environment, `failures` the files that replay their episodes.
    """
    if plan is None:
        yield config
        return
    from dynarl import distributed

    with distributed.attach_workers(agent, plan, config, report, failures):
        yield distributed.with_envs_per_group(config, plan)
