"""Checks of configuration fields; each names the field, what must hold and what was got."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["fraction", "least_one", "one_of", "positive"]


def least_one(*names: str, config: Any) -> None:
    """Refuse counts below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name}: must be at least 1, got {getattr(config, name)}")


def positive(*names: str, config: Any) -> None:
    """Refuse numbers that are not above 0; None passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name}: must be above 0, got {value}")


def fraction(*names: str, config: Any) -> None:
    """Refuse numbers outside [0, 1]."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name}: must lie in [0, 1], got {getattr(config, name)}")


def one_of(name: str, choices: Iterable[Any], *, config: Any) -> None:
    """Refuse a value that is none of the choices."""
    choices = tuple(choices)
    if getattr(config, name) not in choices:
        raise ValueError(f"{name}: must be one of {', '.join(map(repr, choices))}, got {getattr(config, name)!r}")
