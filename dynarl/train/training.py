"""Train an agent: a run directory with curves, checkpoints and a summary, that can be stopped and resumed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynarl.callbacks import CallbackLike, Callbacks
from dynarl.checkpoint.series import latest
from dynarl.config import ConfigError, RunConfig
from dynarl.threads import limit_threads
from dynarl.train.clock import Clock
from dynarl.train.construction import make_agent, one_env_for_each_worker, split, with_workers
from dynarl.train.monitor import RunMonitor
from dynarl.train.output import warn
from dynarl.train.run_directory import RunDirectory, default_run_dir, refuse_under_ray
from dynarl.train.seeds import run_seeds
from dynarl.train.signals import deferred_signals

if TYPE_CHECKING:
    from dynarl.agents.agent import Agent

__all__ = ["run"]


def run(
    agent_cls: type[Agent],
    config: RunConfig | None = None,
    agent_config: Any = None,
    command: Callable[[Path], str] = "run(..., RunConfig(run_dir={!r}, resume=True))".format,
    *,
    callbacks: Iterable[CallbackLike] | CallbackLike = (),
) -> dict[str, Any]:
    """Train `agent_cls` with `config` and `agent_config` and return the summary.

    The run directory gets config.yaml, metrics.jsonl, TensorBoard events, checkpoints and, at the end, summary.json
    with the content that is returned: `env_id, algo, seed, env_steps, wall_time_s, train_time_s, env_steps_per_s,
    eval_mean, eval_std, eval_episodes, stopped_by, run_dir, checkpoint` and further counters. `stopped_by` is
    "total_steps", "stop_at_return", "stop_without_improvement", "callback", or the name of a signal: SIGINT and
    SIGTERM end the current iteration, save a checkpoint and return (no evaluation, no summary.json). `callbacks` are
    the user's (see dynarl.callbacks): they run after the run's evaluation and before it saves; checkpoints include
    their state. `command` turns the run directory into the command that is printed as the way to continue. With
    `config.num_seeds` above 1, the runs of all seeds follow each other and the combined summary is returned.

    Raises, before any work, RunDirectoryError for a directory that cannot be used, ConfigError for an agent or
    environment that cannot be made, CheckpointError if no good checkpoint is there to resume from; later
    FloatingPointError when a metric or a parameter stops being a number. The last good checkpoint is then untouched.
    """
    clock = Clock(time.perf_counter())
    config, agent_config = config or RunConfig(), agent_config or agent_cls.config_class()
    if config.num_seeds > 1:
        if callbacks:
            raise ValueError(f"run: callbacks belong to one run, got num_seeds {config.num_seeds}; run each seed alone")
        return run_seeds(run, agent_cls, config, agent_config, command)
    limit_threads(config.num_threads)
    path = _run_dir(agent_cls, config)
    agent_config = one_env_for_each_worker(agent_cls, config, agent_config)
    plan = split(agent_cls, config, agent_config)
    with RunDirectory(path, resume=config.resume) as directory:
        checkpoint = latest(path, report=warn) if config.resume else None
        if config.resume and checkpoint is None:
            directory.refuse_lost_checkpoints()
        agent = make_agent(agent_cls, config, agent_config, plan)
        agent.num_threads = None  # limited above, for the whole run
        with with_workers(agent, plan, config, warn, directory.path / "failures") as config:
            monitor = RunMonitor(agent, config, directory, clock, Callbacks(callbacks), command)
            try:
                steps_left = monitor.begin(checkpoint)
                with deferred_signals(monitor.stop):
                    if steps_left > 0:
                        with monitor.learning():
                            agent.learn(steps_left, on_iteration=monitor.on_iteration)
                    monitor.save_and_record()
                return monitor.finish()
            finally:
                monitor.close()


def _run_dir(agent_cls: type[Agent], config: RunConfig) -> str | Path:
    if config.resume and config.run_dir is None:
        raise ConfigError("resume: run_dir must name the directory of the run to continue")
    path = config.run_dir or default_run_dir(config, agent_cls.algorithm)
    refuse_under_ray(path, os.environ, os.getcwd())  # noqa: PTH109 - the text of it is what matters
    return path
