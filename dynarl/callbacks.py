"""What happens between the iterations of training: evaluating, saving, stopping, and whatever you add.

    best = Evaluate(every=10_000, best_path="best")
    agent.learn(100_000, callbacks=[best, StopAtReturn(475), Checkpoint(every=20_000, directory="checkpoints")])

A callback is an object with some of `Callback`'s methods, or a function of (agent, metrics); returning False
ends the training. They run in the order given and share `metrics`, to which `Evaluate` adds its results, so it
comes before those that stop on them. `dynarl.train.run` evaluates and stops by the same classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dynarl.checkpoint.series import prune

__all__ = [
    "Callback",
    "CallbackLike",
    "Callbacks",
    "Checkpoint",
    "Evaluate",
    "Every",
    "StopAtReturn",
    "StopOnNoImprovement",
]

SCORE = "eval/mean_reward"


class Callback:
    """Does nothing; a subclass overrides what it needs. Its `state_dict` is kept in a run's checkpoints."""

    def begin(self, agent: Any) -> None:
        """Before the first iteration of each `learn`."""

    def on_iteration(self, agent: Any, metrics: dict[str, Any]) -> bool | None:
        """After each iteration; False ends the training."""

    def end(self, agent: Any) -> None:
        """After the last iteration, also when an exception ended it."""

    def state_dict(self) -> dict[str, Any]:
        """Return what changes, as JSON."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""


CallbackLike = Callback | Callable[[Any, dict[str, Any]], bool | None]


class _Function(Callback):
    def __init__(self, function: Callable[[Any, dict[str, Any]], bool | None]) -> None:
        self._function = function

    def on_iteration(self, agent: Any, metrics: dict[str, Any]) -> bool | None:
        return self._function(agent, metrics)


class Callbacks(Callback):
    """Several callbacks as one. All of them see an iteration, also after one of them wants to stop."""

    def __init__(self, callbacks: Iterable[CallbackLike] | CallbackLike = ()) -> None:
        given = [callbacks] if isinstance(callbacks, Callback) or callable(callbacks) else list(callbacks)
        for one in given:
            if not isinstance(one, Callback) and not callable(one):
                raise TypeError(
                    f"callbacks: must be Callback objects or functions of (agent, metrics), got {type(one).__name__}"
                )
        self._callbacks = [one if isinstance(one, Callback) else _Function(one) for one in given]

    def begin(self, agent: Any) -> None:
        """Begin all."""
        for one in self._callbacks:
            one.begin(agent)

    def on_iteration(self, agent: Any, metrics: dict[str, Any]) -> bool | None:
        """Run all; False if one of them returned it."""
        results = [one.on_iteration(agent, metrics) for one in self._callbacks]
        return False if any(result is False for result in results) else None

    def end(self, agent: Any) -> None:
        """End all."""
        for one in self._callbacks:
            one.end(agent)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each by its place and class."""
        return {f"{i}.{type(one).__name__}": one.state_dict() for i, one in enumerate(self._callbacks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; a callback that was not there before starts fresh."""
        for i, one in enumerate(self._callbacks):
            if (kept := state.get(f"{i}.{type(one).__name__}")) is not None:
                one.load_state_dict(kept)


class Every:
    """Says when the next multiple of `interval` environment steps has been passed. 0: never."""

    def __init__(self, interval: int, *, name: str = "every") -> None:
        if interval < 0:
            raise ValueError(f"{name}: must be at least 0 environment steps, got {interval}")
        self.interval = interval
        self._before = 0

    def begin(self, env_steps: int) -> None:
        """Count from here."""
        self._before = env_steps

    def due(self, env_steps: int) -> bool:
        """Say whether a multiple lies in (the step of the last call, env_steps]."""
        before, self._before = self._before, env_steps
        return self.interval > 0 and env_steps // self.interval > before // self.interval


class Evaluate(Callback):
    """Evaluate every `every` environment steps and keep the best agent in the checkpoint `best_path`.

    Adds `eval/mean_reward`, `eval/std_reward` and `eval/mean_ep_length` to the iteration's metrics. `latest`
    is the last `Evaluation`, `best` the highest mean so far, `improved` whether the latest set it.
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

    def begin(self, agent: Any) -> None:
        """Count from the agent's steps."""
        self.every.begin(int(agent.env_steps))

    def on_iteration(self, agent: Any, metrics: dict[str, Any]) -> bool | None:
        """Evaluate where due."""
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
        """The best mean."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.best = state["best"]


class StopAtReturn(Callback):
    """Stop once an evaluation's mean return reaches `goal`; comes after `Evaluate`.

    With `confirm_episodes` the end is reached only where an evaluation over that many episodes agrees.
    """

    def __init__(self, goal: float, *, confirm_episodes: int = 0, seed: int | None = None) -> None:
        if goal != goal:
            raise ValueError("goal: must be a number, got nan")
        self.goal, self.confirm_episodes, self.seed = goal, confirm_episodes, seed
        self.reached = False

    def on_iteration(self, agent: Any, metrics: dict[str, Any]) -> bool | None:
        """Compare the evaluation of this iteration, where there was one."""
        score = metrics.get(SCORE)
        if score is None or score < self.goal:
            return None
        if self.confirm_episodes and agent.evaluate(self.confirm_episodes, seed=self.seed).mean < self.goal:
            return None
        self.reached = True
        return False


class StopOnNoImprovement(Callback):
    """Stop after `patience` evaluations in a row without a new best mean return; comes after `Evaluate`.

    The first `warmup` evaluations do not count.
    """

    def __init__(self, patience: int, *, warmup: int = 0) -> None:
        if patience < 1 or warmup < 0:
            raise ValueError(f"patience must be at least 1 and warmup at least 0, got {patience} and {warmup}")
        self.patience, self.warmup = patience, warmup
        self.best: float | None = None
        self.seen = self.without = 0
        self.reached = False

    def on_iteration(self, agent: Any, metrics: dict[str, Any]) -> bool | None:
        """Count the evaluation of this iteration, where there was one."""
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
        """The best mean and the counts."""
        return {"best": self.best, "seen": self.seen, "without": self.without}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.best, self.seen, self.without = state["best"], int(state["seen"]), int(state["without"])


class Checkpoint(Callback):
    """Save the agent every `every` environment steps as DIRECTORY/ckpt-STEPS, and keep the newest `keep`."""

    def __init__(self, every: int, directory: str | os.PathLike[str], *, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep: must be at least 1, got {keep}")
        self.every, self.directory, self.keep = Every(every), Path(directory), keep
        self.path: Path | None = None

    def begin(self, agent: Any) -> None:
        """Count from the agent's steps."""
        self.every.begin(int(agent.env_steps))

    def on_iteration(self, agent: Any, metrics: dict[str, Any]) -> bool | None:
        """Save where due."""
        if self.every.due(int(agent.env_steps)):
            self.path = agent.save(self.directory / f"ckpt-{int(agent.env_steps):012d}")
            prune(self.directory, self.keep)
        return None
