"""The tests that learn, in one table: what is trained, for how long, and what score says that it was learned.

A test file states a setup once, `CASE = learns("name", partial(PPO, "CartPole-v1"), steps=..., scores=[...])`, and its
test calls `CASE.check()`, which trains with one seed. `tests/learning_scores.py` runs the same setups with many seeds,
at several checkpoints, on several BLAS kernels: a threshold must hold there, not for one seed on one processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["SHORT_CARTPOLE", "TABLE", "Case", "Score", "error", "learns", "mean_return", "relative_error"]


@dataclass(frozen=True)
class Score:
    """A number to measure of a trained agent, higher is better, and the least that counts as learned."""

    what: str
    measure: Callable[[Any], float]
    least: float
    static: float
    """The same number for who learned nothing: the best constant action, or the agent before training."""


@dataclass(frozen=True)
class Case:
    """One setup: `make(seed=...)` returns the agent, which learns for `steps` environment steps."""

    name: str
    make: Callable[..., Any]
    steps: int
    scores: Sequence[Score]
    seed: int = 0

    def __str__(self) -> str:
        return self.name

    def check(self, on_iteration: Callable[[dict[str, Any]], Any] | None = None) -> Any:
        """Train with one seed, assert the scores, return the agent."""
        agent = self.make(seed=self.seed).learn(self.steps, on_iteration=on_iteration)
        for score in self.scores:
            found = score.measure(agent)
            assert found >= score.least, f"{self.name}: {score.what} must be at least {score.least}, got {found:.4f}"
        return agent

    def checkpoints(self, seed: int, count: int = 3) -> Iterator[Any]:
        """Yield the agent after `steps`, and again after each 5 % more; schedules go on as if it were one run."""
        agent = self.make(seed=seed).learn(self.steps)
        yield agent
        for _ in range(count - 1):
            yield agent.learn(max(self.steps // 20, 1))


TABLE: dict[str, Case] = {}
SHORT_CARTPOLE = {
    "num_steps": 32, "batch_size": 128, "num_epochs": 10, "gamma": 0.98, "gae_lambda": 0.8, "learning_rate": 3e-3,
    "learning_rate_schedule": "linear", "clip_range_schedule": "linear",
}  # fmt: skip
"""PPO on CartPole in 15,000 steps, for tests of policies: both schedules end in a policy that stays what it is."""


def learns(name: str, make: Callable[..., Any], *, steps: int, scores: Score | Sequence[Score], seed: int = 0) -> Case:
    """Enter a setup into the table."""
    if name in TABLE:
        raise ValueError(f"learns: there must be one setup of a name, got two of {name!r}")
    TABLE[name] = Case(name, make, steps, [scores] if isinstance(scores, Score) else scores, seed)
    return TABLE[name]


def mean_return(least: float, *, static: float, episodes: int = 100, scale: float = 1.0) -> Score:
    """Return the score that is the mean return of deterministic episodes, divided by `scale`."""
    return Score("return", lambda agent: float(agent.evaluate(episodes).mean) / scale, least, static)


def error(find: Callable[[Any], Any], expected: Any, most: float, *, what: str = "value") -> Score:
    """Return the score that is minus the largest absolute error of an array; a network that gives 0 is its `static`."""
    largest = float(np.abs(expected).max())
    return Score(f"-|error of {what}|", lambda agent: -float(np.abs(find(agent) - expected).max()), -most, -largest)


def relative_error(find: Callable[[Any], Any], expected: float, most: float, *, what: str = "value") -> Score:
    """Return the score that is minus the largest relative error of an array."""
    return error(lambda agent: np.asarray(find(agent)) / expected, 1.0, most, what=f"relative {what}")
