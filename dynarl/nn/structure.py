"""One counter for every change of any module tree, so that cached plans know when they are stale."""

from __future__ import annotations

version = 0


def changed() -> None:
    """Note that some module gained, lost or replaced a child, a hook or its `forward`."""
    global version
    version += 1
