"""Environments of this package in gymnasium's registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium

__all__ = ["register_once"]


def register_once(name: str, entry_point: Callable[..., Any] | str, **options: Any) -> None:
    """Register ``dynarl/NAME-v0`` with gymnasium's options; a second call does nothing."""
    if f"dynarl/{name}-v0" not in gymnasium.registry:
        gymnasium.register(f"dynarl/{name}-v0", entry_point=entry_point, **options)
