"""Measuring contestants side by side, and the table of what came out."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

Contestants = dict[str, Callable[[], Any]]
ORDER = ("floor", "dynarl", "torch", "torch fused", "sb3")


@dataclass(frozen=True)
class Goal:
    """dynarl's time is to be at most `limit` times that of contestant `of` (None: at most `limit` seconds)."""

    limit: float
    of: str | None


@dataclass
class Row:
    """One measured thing: seconds per call of every contestant (minimum and median over rounds)."""

    section: str
    name: str
    best: dict[str, float]
    typical: dict[str, float]
    goals: tuple[Goal, ...] = ()
    note: str = ""
    per_second: bool = False  # show 1 / seconds: a throughput

    def ratio(self, of: str | None) -> float | None:
        """Return dynarl's best time over a contestant's, or in seconds; None where one is missing."""
        mine, other = self.best.get("dynarl"), 1.0 if of is None else self.best.get(of)
        return None if mine is None or other is None else mine / other

    def as_json(self) -> dict[str, Any]:
        """Return what --json writes for this row."""
        goals = [
            {"limit": g.limit, "of": g.of, "ratio": r, "met": None if r is None else r <= g.limit}
            for g in self.goals
            for r in [self.ratio(g.of)]
        ]
        seconds = {"best_s": self.best, "median_s": self.typical}
        return {"section": self.section, "name": self.name, **seconds, "goals": goals, "note": self.note}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measurement that is not a comparison of times. `met` is None without a goal or a measurement."""

    section: str
    name: str
    text: str
    goal: str = ""
    met: bool | None = None
    values: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what --json writes for it."""
        return vars(self)


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds of at least `seconds` for each contestant."""

    rounds: int = 7
    seconds: float = 0.03
    env_steps: int = 100_000
    runs: int = 2


QUICK = Effort(rounds=2, seconds=0.002, env_steps=1024, runs=1)


def _calls(function: Callable[[], Any], seconds: float) -> int:
    function()
    count = 1
    while True:
        begin = perf_counter()
        for _ in range(count):
            function()
        took = perf_counter() - begin
        if took >= seconds / 4:
            return max(1, round(count * seconds / took))
        count *= 2


def measure(contestants: Contestants, effort: Effort) -> tuple[dict[str, float], dict[str, float]]:
    """Time the contestants in turns (A B C, A B C, ...); return the best and the median seconds per call."""
    counts = {name: _calls(function, effort.seconds) for name, function in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    gc.collect()
    for _ in range(effort.rounds):
        for name, function in contestants.items():
            count = counts[name]
            begin = perf_counter()
            for _ in range(count):
                function()
            times[name].append((perf_counter() - begin) / count)
    return {name: min(t) for name, t in times.items()}, {name: median(t) for name, t in times.items()}


@dataclass
class Report:
    """The rows so far, printed as they come."""

    effort: Effort
    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def add(
        self, section: str, name: str, contestants: Contestants, goals: Iterable[Goal] = (), note: str = ""
    ) -> None:
        """Measure one row and print it."""
        self.put(Row(section, name, *measure(contestants, self.effort), tuple(goals), note))

    def put(self, row: Row) -> None:
        """Take a row measured elsewhere and print it."""
        if not self.rows:
            print(_line(["", *ORDER, "goals: dynarl / other (limit)", "what limits"]))
        self.rows.append(row)
        cells = [_show(row.best.get(name), row.per_second) for name in ORDER]
        print(_line([row.name, *cells, "  ".join(_verdict(row, goal) for goal in row.goals), row.note]), flush=True)

    def say(self, figure: Figure) -> None:
        """Take a figure and print it, with the load of the machine."""
        self.figures.append(figure)
        verdict = "" if figure.met is None else " pass" if figure.met else " MISS"
        goal = f" ({figure.goal}){verdict}" if figure.goal else ""
        print(f"{figure.name:60} {figure.text}{goal}, load {os.getloadavg()[0]:.1f}", flush=True)

    def missed(self) -> list[str]:
        """Return the names of rows with a goal that was measured and missed."""
        rows = [row.name for row in self.rows if any((row.ratio(g.of) or 0.0) > g.limit for g in row.goals)]
        return rows + [figure.name for figure in self.figures if figure.met is False]


def _line(cells: list[str]) -> str:
    name, *numbers, goals, note = cells
    return f"{name:44}" + "".join(f"{cell:>12}" for cell in numbers) + f"   {goals:52} {note}"


def _show(seconds: float | None, per_second: bool) -> str:
    if seconds is None:
        return "-"
    if per_second:
        return f"{1 / seconds:,.0f} /s"
    for scale, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * scale >= 1:
            return f"{seconds * scale:.2f} {unit}"
    return f"{seconds * 1e6:.1f} µs"


def _verdict(row: Row, goal: Goal) -> str:
    ratio = row.ratio(goal.of)
    if ratio is None:
        return f"{goal.of}: not installed"
    of = "seconds" if goal.of is None else goal.of
    text = f"{of} {ratio:.2f} (≤ {goal.limit:g}) {'pass' if ratio <= goal.limit else 'MISS'}"
    floor = row.best.get("floor")
    if ratio > goal.limit and goal.of == "torch" and floor is not None and floor / row.best["torch"] > goal.limit:
        text += f", floor {floor / row.best['torch']:.2f}"  # no NumPy program reaches it
    return text
