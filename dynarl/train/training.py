"""Train an agent: a run directory with curves, checkpoints and a summary, that can be stopped and resumed."""

import contextlib
import dataclasses
import functools
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dynarl.callbacks import (
    SCORE,
    Callback,
    CallbackLike,
    Callbacks,
    Evaluate,
    Every,
    StopAtReturn,
    StopOnNoImprovement,
)
from dynarl.checkpoint import Checkpoint, CheckpointError, compatibility
from dynarl.checkpoint.series import latest
from dynarl.config import ConfigError, RunConfig, to_yaml
from dynarl.seeding import derive_seed
from dynarl.threads import limit_threads
from dynarl.train.metrics import Clock, MetricLog, Window
from dynarl.train.phases import Phases
from dynarl.train.progress import ProgressBar
from dynarl.train.run_directory import RunDirectory, refuse_under_ray
from dynarl.train.signals import deferred_signals

__all__ = ["run"]


def run(
    agent_cls: Any,
    config: RunConfig | None = None,
    agent_config: Any = None,
    *,
    callbacks: Iterable[CallbackLike] | CallbackLike = (),
    command: Callable[[Path], str] = "run(..., RunConfig(run_dir={!r}, resume=True))".format,
) -> dict[str, Any]:
    """Train `agent_cls` as `config` and `agent_config` say and return the summary.

    The run directory gets config.yaml, metrics.jsonl, TensorBoard events, checkpoints and, at the end,
    summary.json, which holds what is returned: `env_id, algo, seed, env_steps, wall_time_s, train_time_s,
    env_steps_per_s, eval_mean, eval_std, eval_episodes, stopped_by, run_dir, checkpoint` and the other
    counters. `stopped_by` is "total_steps", "stop_at_return", "stop_without_improvement", "callback", or the
    name of a signal: SIGINT and SIGTERM end the iteration at hand, save a checkpoint and return (no
    evaluation, no summary.json). `callbacks` are your own (see dynarl.callbacks): they run after the run's
    evaluation and before it saves, which includes their state. `command` turns the run directory into what
    is printed as the way to continue.

    Raises, before any work, RunDirectoryError for a directory that cannot be used, ConfigError for an
    agent or environment that cannot be made, CheckpointError if there is nothing good to resume from;
    later FloatingPointError when a metric or a parameter stops being a number. The last good checkpoint
    is then untouched.
    """
    config = config or RunConfig()
    started = time.perf_counter()
    limit_threads(config.num_threads)
    if config.resume and config.run_dir is None:
        raise ConfigError("resume: run_dir must name the directory of the run to continue")
    path = config.run_dir or default_run_dir(config, agent_cls.algorithm)
    refuse_under_ray(path, os.environ, os.getcwd())  # noqa: PTH109 - the text of it is what matters
    agent_config = _one_for_each_worker(agent_cls, config, agent_config)
    split = _split(agent_cls, config, agent_config)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(RunDirectory(path, resume=config.resume))
        checkpoint = latest(path, report=_warn) if config.resume else None
        agent = _make_agent(agent_cls, config, agent_config, split)
        agent.num_threads = None  # limited above, for the whole run
        if split is not None:
            from dynarl import distributed

            stack.enter_context(distributed.attached(agent, split, config, _warn, directory.path / "failures"))
            config = distributed.resolved(config, split)
        training = Training(agent, config, directory, command, started, Callbacks(callbacks))
        try:
            training.begin(checkpoint)
            return training.run()
        finally:
            training.close()


class Training:
    """One run from begin to end. `on_iteration` is what the agent calls after each iteration."""

    def __init__(
        self,
        agent: Any,
        config: RunConfig,
        directory: RunDirectory,
        command: Callable[[Path], str],
        started: float,
        callbacks: Callbacks,
    ) -> None:
        self.agent, self.config, self.directory = agent, config, directory
        self.command = command
        self.window = Window()
        self.phases = Phases()
        self.clock = Clock(started)
        self.stopped_by: str | None = None
        self.evaluation: Any = None  # the final one
        self.saved: tuple[int, Path] | None = None
        # Evaluations that decide play other episodes than the final one: a run that ends because its result
        # was good must not report that very result.
        deciding = derive_seed(config.seed, "evaluations that decide")
        self.evaluator = Evaluate(config.eval_every, episodes=config.periodic_eval_episodes, seed=deciding)
        self.ends: dict[str, Callback] = {}
        if config.stop_at_return is not None:
            confirm = config.eval_episodes
            self.ends["stop_at_return"] = StopAtReturn(config.stop_at_return, confirm_episodes=confirm, seed=deciding)
        if config.stop_without_improvement is not None:
            self.ends["stop_without_improvement"] = StopOnNoImprovement(config.stop_without_improvement)
        self.kept: dict[str, Callback] = {"evaluate": self.evaluator, **self.ends, "callbacks": callbacks}
        self.callbacks = callbacks
        if config.video_every:
            from dynarl.train.video import VideoRecorder

            videos = VideoRecorder(config.video_every, directory.path / "videos", on_video=self._log_video)
            self.callbacks = Callbacks([callbacks, videos])
        self.log_due, self.save_due = Every(config.log_every or 1), Every(config.checkpoint_every)
        self.histogram_due = Every(config.histogram_every)
        self._log: MetricLog | None = None
        self._bar: ProgressBar | None = None

    def begin(self, checkpoint: Checkpoint | None) -> None:
        """Put agent and log where the checkpoint left them, or at step 0."""
        config, agent = self.config, self.agent
        resume_at = None
        if checkpoint is not None:
            compatibility.check(checkpoint.meta, agent)
            try:
                resume_at = self._restore(checkpoint)
            except (KeyError, TypeError, ValueError) as error:
                raise CheckpointError(f"checkpoint: {checkpoint.path} does not fit: {error!r}") from error
        (self.directory.path / "summary.json").unlink(missing_ok=True)
        self.directory.set_aside_after(int(agent.env_steps))
        self.directory.write_config(resolved(config, agent.config))
        steps = int(agent.env_steps)
        self.phases = Phases(steps)
        for counter in (self.log_due, self.save_due, self.histogram_due):
            counter.begin(steps)
        self.evaluator.begin(agent)
        self._log = MetricLog(self.directory.path, tensorboard=config.tensorboard, resume_at=resume_at)
        self._log.hyperparameters(_hyperparameters(config, agent))
        self._bar = ProgressBar(config.total_steps, steps, enabled=config.progress)
        resumed = f" from env step {agent.env_steps:,}" if config.resume else ""
        self.say(
            f"{agent.algorithm} on {config.env_id}, seed {config.seed}{resumed}: up to "
            f"{config.total_steps:,} env steps, in {self.directory.path}"
        )

    def _restore(self, checkpoint: Checkpoint) -> dict[str, int]:
        """Take over the state of agent and run; return where the log stood."""
        kept = checkpoint.meta["run"]
        self.agent.load_state_dict(checkpoint.state)
        self.window.load_state_dict(kept["window"])
        self.clock.load_state_dict(kept["time"])
        for name, state in kept["callbacks"].items():
            if name in self.kept:
                self.kept[name].load_state_dict(state)
        self.saved = (int(self.agent.env_steps), checkpoint.path)
        return dict(kept["log"])

    def run(self) -> dict[str, Any]:
        """Learn until an end is reached, save, evaluate, and return the summary."""
        left = self.config.total_steps - int(self.agent.env_steps)
        if left <= 0:
            self.say(f"all {self.config.total_steps:,} env steps are done; --total-steps N continues to N")
        with deferred_signals(self.stop):
            if left > 0:
                with self.clock.phase("train"):
                    self._learn(left)
            self.save()
            if self.window:
                self.record()
        if self.stopped_by in ("SIGINT", "SIGTERM"):
            self._say_how_to_continue(self.stopped_by)
            return self.summary()
        try:
            return self.finish()
        except KeyboardInterrupt:
            self._say_how_to_continue("SIGINT")
            raise

    def _say_how_to_continue(self, why: str) -> None:
        assert self.saved is not None
        self.say(f"{why}: saved {self.saved[1]}")
        self.say(f"continue with: {self.command(self.directory.path)}")

    def _learn(self, steps: int) -> None:
        self.callbacks.begin(self.agent)
        try:
            self.agent.learn(steps, on_iteration=self.on_iteration)
        finally:
            self.callbacks.end(self.agent)

    def on_iteration(self, metrics: Mapping[str, Any]) -> bool:
        """Log, evaluate and save where due; return False where the run is to end."""
        assert self._bar is not None
        steps, metrics = int(self.agent.env_steps), dict(metrics)
        try:
            self.window.add(metrics)
        except FloatingPointError as error:
            raise self._broken(str(error)) from error
        if self.log_due.due(steps):
            self.record()
        self.evaluate(metrics)
        with self.clock.phase("callbacks"):
            if self.callbacks.on_iteration(self.agent, metrics) is False:
                self.stopped_by = self.stopped_by or "callback"
        due = self.save_due.due(steps)
        if due or self.evaluator.improved:
            self.save(metrics.get(SCORE))
        self._bar.update(steps, self.window.recent_return, note=_note(self.agent))
        return self.stopped_by is None

    def stop(self, why: str) -> None:
        """End the run after the iteration at hand."""
        self.stopped_by = why

    def record(self) -> None:
        """Write one record of the window's means and of the counters."""
        assert self._log is not None
        means, histograms = self.window.take()
        if self.histogram_due.due(int(self.agent.env_steps)):
            histograms |= _parameters(self.agent)
        counters = {
            "iteration": int(self.agent.iteration),
            "grad_steps": int(self.agent.grad_steps),
            "rollout/episodes": self.window.episodes,
            **_counters(self.agent),
            **self.phases.metrics(int(self.agent.env_steps), _seconds(self.agent)),
        }
        with self.clock.phase("log"):
            self._log.record(
                int(self.agent.env_steps),
                {**counters, **means, **self.clock.metrics(int(self.agent.env_steps))},
                histograms,
            )

    def evaluate(self, metrics: dict[str, Any]) -> None:
        """Evaluate where due, log what was found, and see whether the run ends there."""
        assert self._log is not None
        with self.clock.phase("eval"):
            self.evaluator.on_iteration(self.agent, metrics)
            for why, end in self.ends.items():
                if end.on_iteration(self.agent, metrics) is False:
                    self.stopped_by = self.stopped_by or why
        if SCORE in metrics:
            found = {name: value for name, value in metrics.items() if name.startswith("eval/")}
            self._log.record(int(self.agent.env_steps), found)

    def _log_video(self, agent: Any, path: Path) -> None:
        assert self._log is not None
        self._log.video(int(agent.env_steps), path)

    def save(self, score: float | None = None) -> None:
        """Save a checkpoint of this step, unless there is one or the state is broken."""
        steps = int(self.agent.env_steps)
        if self.saved is not None and self.saved[0] == steps:
            return
        assert self._log is not None
        with self.clock.phase("checkpoint"):
            state = self.agent.state_dict()
            if name := _first_nan(state):
                raise self._broken(f"{name} holds NaN")
            meta = {
                **compatibility.describe(self.agent),
                # what PPO.load makes an environment of; with arguments the id alone would make another one
                "env_id": None if self.config.env_kwargs else self.config.env_id,
                "seed": self.config.seed,
                "score": score,
                "run": {
                    "window": self.window.state_dict(),
                    "time": self.clock.state_dict(),
                    "callbacks": {name: one.state_dict() for name, one in self.kept.items()},
                    "log": self._log.position(),
                },
            }
            path = self.directory.save(state, meta=meta, keep=self.config.keep_checkpoints)
        self.saved = (steps, path)

    def _broken(self, what: str) -> FloatingPointError:
        last = f"the last good checkpoint is {self.saved[1]}" if self.saved else "no checkpoint was saved yet"
        return FloatingPointError(
            f"train: {what} at env step {int(self.agent.env_steps)}, iteration {int(self.agent.iteration)}; "
            f"the run is stopped and {last}. A lower learning rate or max_grad_norm is the usual cure"
        )

    def finish(self) -> dict[str, Any]:
        """Evaluate over eval_episodes, say the result, and write summary.json."""
        config = self.config
        if config.eval_episodes:
            with self.clock.phase("eval"):
                self.evaluation = self.agent.evaluate(config.eval_episodes)
        assert self._log is not None
        self._log.finished()
        summary = self.summary()
        path = self.directory.write_summary(summary)
        self.say(_in_words(summary, config, path))
        return summary

    def summary(self) -> dict[str, Any]:
        """Return what summary.json holds."""
        found, steps = self.evaluation, int(self.agent.env_steps)
        train_time = self.clock.seconds("train")
        return {
            "env_id": self.config.env_id,
            "algo": self.agent.algorithm,
            "seed": self.config.seed,
            "env_steps": steps,
            "grad_steps": int(self.agent.grad_steps),
            "iteration": int(self.agent.iteration),
            "episodes": self.window.episodes,
            "wall_time_s": self.clock.wall_seconds(),
            "train_time_s": train_time,
            "env_steps_per_s": steps / train_time if train_time > 0 else None,
            "eval_mean": None if found is None else float(found.mean),
            "eval_std": None if found is None else float(found.std),
            "eval_episodes": 0 if found is None else len(found.returns),
            "stopped_by": self.stopped_by or "total_steps",
            "run_dir": str(self.directory.path),
            "checkpoint": str(self.saved[1]) if self.saved else None,
        }

    def say(self, message: str) -> None:
        """Print a line, above the progress bar where there is one."""
        print(message, flush=True) if self._bar is None else self._bar.say(message)

    def close(self) -> None:
        """Close files and the bar."""
        for part in (self._bar, self._log, getattr(self.agent, "env", None)):
            if part is not None:
                part.close()


# ------------------------------------------------------------------------------------------------ small parts


def default_run_dir(config: RunConfig, algorithm: str) -> Path:
    """Return runs/<env>-<algo>-<seed>-<time>, a directory that does not exist yet."""
    stem = Path("runs") / f"{run_name(config, algorithm)}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = stem, 1
    while path.exists():
        number += 1
        path = stem.with_name(f"{stem.name}-{number}")
    return path


def run_name(config: RunConfig, algorithm: str) -> str:
    """Return <env>-<algo>-<seed>, with nothing in it that a file name may not have."""
    return f"{re.sub(r'[^A-Za-z0-9_.]+', '_', config.env_id)}-{algorithm}-{config.seed}"


def _one_for_each_worker(agent_cls: Any, config: RunConfig, agent_config: Any) -> Any:
    """Return the agent's config, with an environment for every worker where workers fill a replay from fewer."""
    agent_config = agent_config or agent_cls.config_class()
    if not getattr(agent_cls, "learns_from_replay", False) or agent_config.num_envs >= config.num_workers:
        return agent_config
    print(f"num_envs {agent_config.num_envs} -> {config.num_workers}: one environment for each worker", flush=True)
    return dataclasses.replace(agent_config, num_envs=config.num_workers)


def _split(agent_cls: Any, config: RunConfig, agent_config: Any) -> Any:
    """Return how the environments are shared out among workers, None where the agent steps them itself."""
    if not config.num_workers and config.envs_per_group is None:
        return None
    from dynarl import distributed

    return distributed.plan(config, agent_cls, int(agent_config.num_envs))


def _make_agent(agent_cls: Any, config: RunConfig, agent_config: Any, split: Any) -> Any:
    import gymnasium

    source = _environment(config)
    try:
        agent = agent_cls(
            source if split is None else split.part(source), seed=config.seed, device=config.device, config=agent_config
        )
        if hasattr(agent, "check_length"):  # a run that would end before learning starts
            agent.check_length(config.total_steps)
        return agent
    except (ValueError, TypeError, RuntimeError, ImportError, gymnasium.error.Error) as error:
        raise ConfigError(f"{agent_cls.algorithm} on {config.env_id}: {error}") from error


def _environment(config: RunConfig) -> Any:
    """Return what the agent makes its environments of: the id, or a function where there are arguments."""
    if not config.env_kwargs:
        return config.env_id
    import gymnasium

    return functools.partial(gymnasium.make, config.env_id, **config.env_kwargs)


def resolved(config: RunConfig, agent_config: Any) -> str:
    """Return the YAML that starts the same run again."""
    return to_yaml(config) + to_yaml(agent_config)


def _counters(agent: Any) -> dict[str, float]:
    """Return what an agent's collector counts, where it has one."""
    collector = getattr(agent, "collector", None)
    return {} if collector is None else dict(collector.counters())


def _note(agent: Any) -> str:
    """Return what an agent's collector shows beside the progress."""
    collector = getattr(agent, "collector", None)
    return "" if collector is None else str(collector.note())


def _seconds(agent: Any) -> dict[str, float]:
    """Return the seconds by phase that an agent and its collector spent."""
    collector = getattr(agent, "collector", None)
    return {**getattr(agent, "seconds", {}), **({} if collector is None else collector.seconds())}


def _hyperparameters(config: RunConfig, agent: Any) -> dict[str, Any]:
    """Return what TensorBoard's HPARAMS tab compares runs by."""
    own = {"algo": agent.algorithm, "env_id": config.env_id, "seed": config.seed, "total_steps": config.total_steps}
    return own | dataclasses.asdict(agent.config)


def _parameters(agent: Any) -> dict[str, Any]:
    """Return {network/parameter: values} of the agent's networks."""
    found = {}
    for network, module in getattr(agent, "networks", dict)().items():
        for name, parameter in module.named_parameters():
            found[f"{network}/{name.replace('.', '/')}"] = parameter.detach().numpy()
    return found


def _first_nan(state: Any, path: str = "") -> str | None:
    """Return the path of the first array in a nested state that holds NaN."""
    if isinstance(state, np.ndarray):
        return path if state.dtype.kind == "f" and np.isnan(state).any() else None
    items: Any = state.items() if isinstance(state, Mapping) else ()
    items = enumerate(state) if isinstance(state, (list, tuple)) else items
    for key, value in items:
        if found := _first_nan(value, f"{path}/{key}" if path else str(key)):
            return found
    return None


def _in_words(summary: Mapping[str, Any], config: RunConfig, path: Path) -> str:
    training = f"after {summary['env_steps']:,} env steps and {summary['train_time_s']:.1f} s of training"
    if summary["eval_mean"] is None:
        return f"{config.env_id}: done {training} (no evaluation was asked for); {path}"
    goal = config.stop_at_return
    reached = (
        "" if goal is None else f"; the goal of {goal:g} is {'' if summary['eval_mean'] >= goal else 'not '}reached"
    )
    return (
        f"{config.env_id}: mean return {summary['eval_mean']:.1f} ± {summary['eval_std']:.1f} over "
        f"{summary['eval_episodes']} deterministic episodes {training}{reached}; {path}"
    )


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)
