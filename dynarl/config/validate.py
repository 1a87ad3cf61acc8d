"""Checks of configuration fields. A message names the field, the condition and the value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["fraction", "least_one", "one_of", "positive"]


def least_one(*names: str, config: Any) -> None:
    """Raise ValueError for a count below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name}: must be at least 1, got {getattr(config, name)}")


def positive(*names: str, config: Any) -> None:
    """Raise ValueError for a number that is not above 0; None is accepted."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name}: must be above 0, got {value}")


def fraction(*names: str, config: Any) -> None:
    """Raise ValueError for a number outside [0, 1]."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name}: must lie in [0, 1], got {getattr(config, name)}")


def one_of(name: str, choices: Iterable[Any], *, config: Any) -> None:
    """Raise ValueError for a value that is none of the choices."""
    choices = tuple(choices)
    if getattr(config, name) not in choices:
        raise ValueError(f"{name}: must be one of {', '.join(map(repr, choices))}, got {getattr(config, name)!r}")
