"""From a checkpoint to an agent of the algorithm that wrote it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dynarl import agents, checkpoint
from dynarl.agents.agent import Agent
from dynarl.checkpoint import CheckpointError, series
from dynarl.config import yaml
from dynarl.train import run_directory
from dynarl.train.construction import env_source

__all__ = ["agent_class", "load", "load_run"]


def agent_class(algorithm: str) -> type[Agent]:
    """Return the agent class of `dynarl.agents` for `algorithm`; raises CheckpointError with the known ones."""
    found = [getattr(agents, name) for name in agents.__all__]
    classes = {cls.algorithm: cls for cls in found if isinstance(cls, type) and hasattr(cls, "algorithm")}
    if algorithm not in classes:
        raise CheckpointError(
            f"checkpoint: written by the algorithm {algorithm!r}, dynarl.agents has {', '.join(sorted(classes))}"
        )
    return classes[algorithm]


def load(path: str | os.PathLike[str], env: Any = None, **overrides: Any) -> Agent:
    """Make the agent that wrote the checkpoint directory `path`; arguments as for `Agent.load`."""
    manifest = checkpoint.read_manifest(Path(path).absolute())
    return agent_class(str(manifest["meta"].get("algorithm"))).load(path, env, **overrides)


def load_run(run_dir: str | os.PathLike[str], which: str = "best", **overrides: Any) -> tuple[Agent, Path]:
    """Return the agent of a run's checkpoint and that checkpoint's path.

    `which` is "best" (the checkpoint with the highest periodic evaluation; the latest if there was none), "latest", or
    the path of a checkpoint. The environment is the run's, with its arguments. Raises CheckpointError if there is no
    such checkpoint.
    """
    run = Path(run_dir)
    if not (run / run_directory.CONFIG).is_file():
        raise CheckpointError(f"checkpoint: {run} holds no run ({run_directory.CONFIG} is missing)")
    if seeds := run_directory.seed_runs(run):
        listed = ", ".join(map(str, seeds))
        raise CheckpointError(f"checkpoint: {run} holds the runs of {len(seeds)} seeds; name one of them: {listed}")
    path = _checkpoint(run, which)
    config = yaml.read(run / run_directory.CONFIG)
    # Nothing is imported for the environment: of MODULE:ID, the caller imports MODULE before.
    env_id = str(config["env_id"]).rpartition(":")[2]
    return load(path, env_source(env_id, config.get("env_kwargs")), **overrides), path


def _checkpoint(run: Path, which: str) -> Path:
    if which not in ("best", "latest"):
        inside = run / series.CHECKPOINTS / which
        return inside if inside.is_dir() else Path(which)
    best = series.best(run) if which == "best" else None
    if best is not None:
        return best
    newest = series.latest(run)
    if newest is None:
        raise CheckpointError(f"checkpoint: {run / series.CHECKPOINTS} has none yet")
    return newest.path
