"""Figures that are not a contestant's time: a text, and whether it is what was hoped for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Figure", "Figures"]


@dataclass(frozen=True)
class Figure:
    """One line. `met` is None where nothing was hoped for, or nothing could be measured."""

    section: str
    name: str
    text: str
    goal: str = ""
    met: bool | None = None
    values: dict[str, Any] = field(default_factory=dict)
    """What was measured, for --json."""


@dataclass
class Figures:
    """The figures so far, printed as they come, with the load of the machine."""

    found: list[Figure] = field(default_factory=list)

    def put(self, figure: Figure) -> None:
        """Take a figure and print it."""
        self.found.append(figure)
        verdict = "" if figure.met is None else "pass" if figure.met else "MISS"
        load = f"load {os.getloadavg()[0]:.1f}"
        print(f"{figure.name:52} {figure.text:64} {figure.goal:28} {verdict:5} {load}", flush=True)

    def missed(self) -> list[str]:
        """Return the names of figures that are not what was hoped for."""
        return [figure.name for figure in self.found if figure.met is False]
