"""Values of the agent that a run logs in addition to the metrics of the updates."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dynarl.config import RunConfig

if TYPE_CHECKING:
    from dynarl.agents.agent import Agent

__all__ = ["counters", "hyperparameters", "note", "parameters", "seconds"]


def counters(agent: Agent) -> dict[str, float]:
    """Return the counters of the agent's collector, if it has one."""
    collector = getattr(agent, "collector", None)
    return {} if collector is None else dict(collector.counters())


def note(agent: Agent) -> str:
    """Return the line that the agent's collector adds to the progress bar."""
    collector = getattr(agent, "collector", None)
    return "" if collector is None else str(collector.note())


def seconds(agent: Agent) -> dict[str, float]:
    """Return the seconds by phase of the agent and its collector."""
    collector = getattr(agent, "collector", None)
    return {**getattr(agent, "seconds", {}), **({} if collector is None else collector.seconds())}


def hyperparameters(config: RunConfig, agent: Agent) -> dict[str, Any]:
    """Return the values by which TensorBoard's HPARAMS tab compares runs."""
    own = {"algo": agent.algorithm, "env_id": config.env_id, "seed": config.seed, "total_steps": config.total_steps}
    return own | dataclasses.asdict(agent.config)


def parameters(agent: Agent) -> dict[str, Any]:
    """Return {network/parameter: values} of the agent's networks, for histograms."""
    found = {}
    for network, module in getattr(agent, "networks", dict)().items():
        for name, parameter in module.named_parameters():
            found[f"{network}/{name.replace('.', '/')}"] = parameter.detach().numpy()
    return found
