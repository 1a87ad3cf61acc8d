"""One counter for every change of any module tree, so that cached plans know when they are stale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

version = 0

scope: Callable[..., Any] | None = None
"""While per-sample programs run: what a call of a Module goes through, so that samples that part in it are joined."""


def changed() -> None:
    """Note that some module gained, lost or replaced a child, a hook or its `forward`."""
    global version
    version += 1
