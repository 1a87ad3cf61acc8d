"""Callbacks: evaluate, save, stop, or run code of your own between the iterations of training.

    best = Evaluate(every=10_000, best_path="best")
    saves = CheckpointCallback(every=20_000, directory="checkpoints")
    agent.learn(100_000, callbacks=[best, StopAtReturn(475), saves])

A callback is a `Callback`, or a function of (agent, metrics); training ends when it returns False. Callbacks run in
the given order and share `metrics`. `Evaluate` adds its results there, so it stands before the callbacks that stop on
them. `dynarl.train.run` evaluates and stops by the same classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dynarl.checkpoint.series import prune

__all__ = [
    "Callback",
    "CallbackLike",
    "Callbacks",
    "CheckpointCallback",
    "Evaluate",
    "Every",
    "LearningAgent",
    "StopAtReturn",
    "StopOnNoImprovement",
    "stops",
]

SCORE = "eval/mean_reward"


class LearningAgent(Protocol):
    """What the callbacks here use of an agent; your own may use any attribute of yours."""

    env_steps: int

    def evaluate(self, episodes: int = ..., *, seed: int | None = ...) -> Any:
        """Return an `Evaluation`."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a checkpoint directory and return its path."""


class Callback:
    """A callback that does nothing; subclasses override methods. A run's checkpoints include its `state_dict`."""

    def begin(self, agent: LearningAgent) -> None:
        """Run before the first iteration of each `learn`."""

    def on_iteration(self, agent: LearningAgent, metrics: dict[str, Any]) -> bool | None:
        """Run after each iteration; False ends the training."""

    def end(self, agent: LearningAgent) -> None:
        """Run after the last iteration, also when an exception ended the training."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that changes, as JSON."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load `state_dict`."""


CallbackLike = Callback | Callable[[Any, dict[str, Any]], bool | None]


def stops(result: Any) -> bool:
    """Return whether what a callback returned ends the training: False, or NumPy's False."""
    return isinstance(result, bool | np.bool_) and not result


class _Function(Callback):
    def __init__(self, function: Callable[[Any, dict[str, Any]], bool | None]) -> None:
        self._function = function

    def on_iteration(self, agent: LearningAgent, metrics: dict[str, Any]) -> bool | None:
        return self._function(agent, metrics)


class Callbacks(Callback):
    """Several callbacks as one. Every callback runs after each iteration, also when an earlier one returned False."""

    def __init__(self, callbacks: Iterable[CallbackLike] | CallbackLike = ()) -> None:
        given: list[Any] = [callbacks]
        if isinstance(callbacks, Iterable) and not isinstance(callbacks, Callback) and not callable(callbacks):
            given = list(callbacks)
        for one in given:
            if isinstance(one, type):
                raise TypeError(f"callbacks: must be objects, got the class {one.__name__}; give {one.__name__}()")
            if not isinstance(one, Callback) and not callable(one):
                raise TypeError(
                    "callbacks: must be objects of a class derived from dynarl.callbacks.Callback, or functions of "
                    f"(agent, metrics), got {type(one).__name__}"
                )
        self._callbacks = [one if isinstance(one, Callback) else _Function(one) for one in given]

    def begin(self, agent: LearningAgent) -> None:
        """Begin all."""
        for one in self._callbacks:
            one.begin(agent)

    def on_iteration(self, agent: LearningAgent, metrics: dict[str, Any]) -> bool | None:
        """Run all; False if one of them returned it."""
        results = [one.on_iteration(agent, metrics) for one in self._callbacks]
        return False if any(map(stops, results)) else None

    def end(self, agent: LearningAgent) -> None:
        """End all."""
        for one in self._callbacks:
            one.end(agent)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each by its place and class."""
        return {f"{i}.{type(one).__name__}": one.state_dict() for i, one in enumerate(self._callbacks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load `state_dict`; a callback that it does not hold keeps its initial state."""
        for i, one in enumerate(self._callbacks):
            if (kept := state.get(f"{i}.{type(one).__name__}")) is not None:
                one.load_state_dict(kept)


class Every:
    """Tells when training has passed the next multiple of `interval` environment steps. 0: never."""

    def __init__(self, interval: int, *, name: str = "every") -> None:
        if interval < 0:
            raise ValueError(f"{name}: must be at least 0 environment steps, got {interval}")
        self.interval = interval
        self._before = 0

    def begin(self, env_steps: int) -> None:
        """Count from `env_steps`."""
        self._before = env_steps

    def due(self, env_steps: int) -> bool:
        """Return whether a multiple lies in (the step of the last call, env_steps]."""
        before, self._before = self._before, env_steps
        return self.interval > 0 and env_steps // self.interval > before // self.interval


class Evaluate(Callback):
    """Evaluate every `every` environment steps and save the best agent as the checkpoint `best_path`.

    Adds `eval/mean_reward`, `eval/std_reward` and `eval/mean_ep_length` to the metrics of the iteration. `latest` is
    the last `Evaluation`, `best` the highest mean so far, `improved` whether the last evaluation set it.
    """

    def __init__(
        self,
        every: int,
        *,
        episodes: int = 10,
        seed: int | None = None,
        best_path: str | os.PathLike[str] | None = None,
    ) -> None:
        if episodes < 1:
            raise ValueError(f"episodes: must be at least 1, got {episodes}")
        self.every, self.episodes, self.seed = Every(every), episodes, seed
        self.best_path = None if best_path is None else Path(best_path)
        self.best: float | None = None
        self.improved = False
        self.latest: Any = None

    def begin(self, agent: LearningAgent) -> None:
        """Count from the agent's steps."""
        self.every.begin(int(agent.env_steps))

    def on_iteration(self, agent: LearningAgent, metrics: dict[str, Any]) -> bool | None:
        """Evaluate when due."""
        self.improved = False
        if not self.every.due(int(agent.env_steps)):
            return None
        self.latest = found = agent.evaluate(self.episodes, seed=self.seed)
        metrics[SCORE] = float(found.mean)
        metrics["eval/std_reward"] = float(found.std)
        metrics["eval/mean_ep_length"] = float(np.mean(found.lengths))
        self.improved = self.best is None or found.mean > self.best
        if self.improved:
            self.best = float(found.mean)
            if self.best_path is not None:
                agent.save(self.best_path)
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return the best mean."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load `state_dict`."""
        self.best = state["best"]


class StopAtReturn(Callback):
    """Stop when the mean return of an evaluation reaches `goal`; stands after `Evaluate`.

    With `confirm_episodes`, a second evaluation over that many episodes must reach the goal as well.
    """

    def __init__(self, goal: float, *, confirm_episodes: int = 0, seed: int | None = None) -> None:
        if goal != goal:
            raise ValueError("goal: must be a number, got nan")
        self.goal, self.confirm_episodes, self.seed = goal, confirm_episodes, seed
        self.reached = False

    def on_iteration(self, agent: LearningAgent, metrics: dict[str, Any]) -> bool | None:
        """Compare the evaluation of this iteration, if there was one, with the goal."""
        score = metrics.get(SCORE)
        if score is None or score < self.goal:
            return None
        if self.confirm_episodes and agent.evaluate(self.confirm_episodes, seed=self.seed).mean < self.goal:
            return None
        self.reached = True
        return False


class StopOnNoImprovement(Callback):
    """Stop after `patience` evaluations in a row without a new best mean return; stands after `Evaluate`.

    The first `warmup` evaluations do not count.
    """

    def __init__(self, patience: int, *, warmup: int = 0) -> None:
        if patience < 1 or warmup < 0:
            raise ValueError(f"patience must be at least 1 and warmup at least 0, got {patience} and {warmup}")
        self.patience, self.warmup = patience, warmup
        self.best: float | None = None
        self.seen = self.without = 0
        self.reached = False

    def on_iteration(self, agent: LearningAgent, metrics: dict[str, Any]) -> bool | None:
        """Count the evaluation of this iteration, if there was one."""
        score = metrics.get(SCORE)
        if score is None:
            return None
        self.seen += 1
        if self.best is None or score > self.best:
            self.best, self.without = float(score), 0
        elif self.seen > self.warmup:
            self.without += 1
        self.reached = self.without >= self.patience
        return False if self.reached else None

    def state_dict(self) -> dict[str, Any]:
        """Return the best mean and the counts."""
        return {"best": self.best, "seen": self.seen, "without": self.without}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load `state_dict`."""
        self.best, self.seen, self.without = state["best"], int(state["seen"]), int(state["without"])


class CheckpointCallback(Callback):
    """Save the agent every `every` environment steps as DIRECTORY/ckpt-STEPS, and keep the newest `keep`."""

    def __init__(self, every: int, directory: str | os.PathLike[str], *, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep: must be at least 1, got {keep}")
        self.every, self.directory, self.keep = Every(every), Path(directory), keep
        self.path: Path | None = None

    def begin(self, agent: LearningAgent) -> None:
        """Count from the agent's steps."""
        self.every.begin(int(agent.env_steps))

    def on_iteration(self, agent: LearningAgent, metrics: dict[str, Any]) -> bool | None:
        """Save when due."""
        if self.every.due(int(agent.env_steps)):
            self.path = agent.save(self.directory / f"ckpt-{int(agent.env_steps):012d}")
            prune(self.directory, self.keep)
        return None


def __getattr__(name: str) -> Any:
    if name == "Checkpoint":  # ImportError: `from ... import` shows the message of no other exception
        raise ImportError("dynarl.callbacks.Checkpoint is now called dynarl.callbacks.CheckpointCallback")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
