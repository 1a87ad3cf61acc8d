"""Between the iterations of a run: log, evaluate, save, and decide when the run ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dynarl.callbacks import SCORE, Callback, Callbacks, Evaluate, Every, StopAtReturn, StopOnNoImprovement
from dynarl.checkpoint import Checkpoint, CheckpointError
from dynarl.config import ConfigError, RunConfig
from dynarl.seeding import derive_seed
from dynarl.train import logged
from dynarl.train.clock import Clock, Phases
from dynarl.train.metrics import MetricLog, Window
from dynarl.train.progress import ProgressBar
from dynarl.train.run_directory import RunDirectory, resolved
from dynarl.train.signals import STOPPING
from dynarl.train.summary import in_words

if TYPE_CHECKING:
    from dynarl.agents.agent import Agent

__all__ = ["RunMonitor"]


class _Stopped(FloatingPointError):
    """The error of a run whose numbers are no numbers any more; it names the last good checkpoint."""


class RunMonitor:
    """Watches one run from its first iteration to its summary; the agent calls `on_iteration`."""

    def __init__(
        self,
        agent: Agent,
        config: RunConfig,
        directory: RunDirectory,
        clock: Clock,
        callbacks: Callbacks,
        command: Callable[[Path], str],
    ) -> None:
        """`callbacks` are the user's; `command` turns the run directory into the command that continues the run."""
        self.agent, self.config, self.directory, self.clock, self.command = agent, config, directory, clock, command
        self.window, self.phases = Window(), Phases()
        self.stopped_by: str | None = None
        self.evaluation: Any = None  # the final one
        self.saved: tuple[int, Path] | None = None
        # Evaluations that decide when the run ends play other episodes than the final one: a run that ended because
        # of a good result must not report that same result.
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

    # -------------------------------------------------------------------------------------------- the beginning

    def begin(self, checkpoint: Checkpoint | None) -> int:
        """Restore agent and log from the checkpoint, if any; return the environment steps that are left."""
        config, agent = self.config, self.agent
        resume_at = None
        if checkpoint is not None:
            try:
                resume_at = self._restore(checkpoint)
            except ConfigError:
                raise
            except (KeyError, TypeError, ValueError) as error:
                raise CheckpointError(f"checkpoint: {checkpoint.path} does not fit: {error!r}") from error
        steps = int(agent.env_steps)
        self.directory.begin(resolved(config, agent.config), steps)
        self.phases = Phases(steps)
        for counter in (self.log_due, self.save_due, self.histogram_due):
            counter.begin(steps)
        self.evaluator.begin(agent)
        self._log = MetricLog(self.directory.path, tensorboard=config.tensorboard, resume_at=resume_at)
        self._log.hyperparameters(logged.hyperparameters(config, agent))
        self._bar = ProgressBar(config.total_steps, steps, enabled=config.progress)
        resumed = f" from env step {agent.env_steps:,}" if config.resume else ""
        self.say(
            f"{agent.algorithm} on {config.env_id}, seed {config.seed}{resumed}: up to "
            f"{config.total_steps:,} env steps, in {self.directory.path}"
        )
        iteration = 0 if config.asynchronous else getattr(agent, "iteration_steps", 0)
        if iteration and (rest := (config.total_steps - steps) % iteration) and steps < config.total_steps:
            end = config.total_steps + iteration - rest
            self.say(
                f"total_steps {config.total_steps:,} is rounded up to {end:,}: an iteration has {iteration:,} steps"
            )
        if steps >= config.total_steps:
            self.say(f"all {config.total_steps:,} env steps are done; --total-steps N continues to N")
        return config.total_steps - steps

    def _restore(self, checkpoint: Checkpoint) -> dict[str, int]:
        """Load the state of agent and run; return the position of the log."""
        kept = checkpoint.meta["run"]
        for note in self.agent.restore(checkpoint.meta, checkpoint.state, where="resume"):
            self.say(note)
        self.window.load_state_dict(kept["window"])
        self.clock.load_state_dict(kept["time"])
        for name, state in kept["callbacks"].items():
            if name in self.kept:
                self.kept[name].load_state_dict(state)
        self.saved = (int(self.agent.env_steps), checkpoint.path)
        return dict(kept["log"])

    # ------------------------------------------------------------------------------------------- while learning

    @contextlib.contextmanager
    def learning(self) -> Iterator[None]:
        """Inside, time counts as training, and the callbacks are begun and ended."""
        with self.clock.phase("train"):
            self.callbacks.begin(self.agent)
            try:
                yield
            except _Stopped:
                raise
            except FloatingPointError as error:  # found by the agent itself
                raise self._broken(str(error)) from error
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
        found = self.evaluate(metrics)
        known = set(metrics)
        with self.clock.phase("callbacks"):
            if self.callbacks.on_iteration(self.agent, metrics) is False:
                self.stopped_by = self.stopped_by or "callback"
        self.window.add(_numbers_of_callbacks(metrics, known))
        if self.log_due.due(steps):
            self.record()
        if found:
            assert self._log is not None
            self._log.record(steps, found)
        due = self.save_due.due(steps)
        if due or self.evaluator.improved:
            self.save(metrics.get(SCORE))
        self._bar.update(steps, self.window.recent_return, note=logged.note(self.agent))
        return self.stopped_by is None

    def stop(self, why: str) -> None:
        """End the run after the current iteration."""
        self.stopped_by = why

    def record(self) -> None:
        """Write one record: the means of the window and the counters."""
        assert self._log is not None
        means, histograms = self.window.take()
        steps = int(self.agent.env_steps)
        if self.histogram_due.due(steps):
            histograms |= logged.parameters(self.agent)
        counters = {
            "iteration": int(self.agent.iteration),
            "grad_steps": int(self.agent.grad_steps),
            "rollout/episodes": self.window.episodes,
            **logged.counters(self.agent),
            **self.phases.metrics(steps, logged.seconds(self.agent)),
        }
        with self.clock.phase("log"):
            self._log.record(steps, {**counters, **means, **self.clock.metrics(steps)}, histograms)

    def evaluate(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Evaluate where due, check whether the run ends with it, and return the result."""
        with self.clock.phase("eval"):
            self.evaluator.on_iteration(self.agent, metrics)
            for why, end in self.ends.items():
                if end.on_iteration(self.agent, metrics) is False:
                    self.stopped_by = self.stopped_by or why
        if SCORE not in metrics:
            return {}
        return {name: value for name, value in metrics.items() if name.startswith("eval/")}

    def _log_video(self, env_steps: int, path: Path) -> None:
        assert self._log is not None
        self._log.video(env_steps, path)

    def save(self, score: float | None = None) -> None:
        """Save a checkpoint of this step, unless one is saved; raises FloatingPointError where the state holds NaN."""
        agent, steps = self.agent, int(self.agent.env_steps)
        if self.saved is not None and self.saved[0] == steps:
            return
        assert self._log is not None
        with self.clock.phase("checkpoint"):
            state = agent.state_dict()
            if name := _first_nan(state):
                raise self._broken(f"{name} holds NaN")
            meta = {
                **agent.describe(),
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
        return _Stopped(
            f"train: {what} at env step {int(self.agent.env_steps)}, iteration {int(self.agent.iteration)}; "
            f"the run is stopped and {last}. A lower learning rate or max_grad_norm is the usual remedy"
        )

    # -------------------------------------------------------------------------------------------------- the end

    def save_and_record(self) -> None:
        """Save the last step, and log the iterations after the last record."""
        self.save()
        if self.window:
            self.record()

    def finish(self) -> dict[str, Any]:
        """Evaluate, write summary.json and return it; after a signal, print how to continue instead."""
        if self.stopped_by in STOPPING:
            self._say_how_to_continue(self.stopped_by)
            return self.summary()
        try:
            if self.config.eval_episodes:
                with self.clock.phase("eval"):
                    self.evaluation = self.agent.evaluate(self.config.eval_episodes)
        except KeyboardInterrupt:
            self._say_how_to_continue("SIGINT")
            raise
        assert self._log is not None
        self._log.finished()
        summary = self.summary()
        self.directory.write_summary(summary)
        self.say(in_words(summary, self.config.stop_at_return))
        return summary

    def _say_how_to_continue(self, why: str) -> None:
        assert self.saved is not None
        self.say(f"{why}: saved {self.saved[1]}")
        self.say(f"continue with: {self.command(self.directory.path)}")

    def summary(self) -> dict[str, Any]:
        """Return the content of summary.json."""
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
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more: the run continues
            print(message, flush=True) if self._bar is None else self._bar.say(message)

    def close(self) -> None:
        """Close the bar, the files and the environments."""
        for part in (self._bar, self._log, getattr(self.agent, "env", None)):
            if part is not None:
                part.close()


def _numbers_of_callbacks(metrics: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """Return the finite numbers that callbacks added to the metrics; raises TypeError for what is no number."""
    added = {name: value for name, value in metrics.items() if name not in known}
    for name, value in added.items():
        if not np.issubdtype(np.asarray(value).dtype, np.number) and not isinstance(value, bool | np.bool_):
            raise TypeError(f"callbacks: metric {name!r} must be a number or an array of numbers, got {value!r}")
    return {name: value for name, value in added.items() if np.isfinite(value).all()}


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
