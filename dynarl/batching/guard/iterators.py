"""Iterators that exist before a call: how far they are, and how they are set back."""

from __future__ import annotations

import itertools
import operator
import types
from typing import Any

__all__ = ["position", "set_back"]


def position(x: Any) -> Any:
    """Return a value that changes when an iterator moves; None if there is no way to know."""
    if isinstance(x, itertools.count):
        return repr(x)
    if isinstance(x, types.GeneratorType):
        frame = x.gi_frame
        return (-1, 0) if frame is None else (frame.f_lasti, id(frame))
    return operator.length_hint(x) if hasattr(x, "__length_hint__") else None


def set_back(x: Any, moves: int) -> bool:
    """Move an iterator over a list, tuple or range back, and return whether that is possible."""
    if not hasattr(x, "__setstate__"):
        return False
    state = x.__reduce__()[2:]
    if not state:
        return False
    x.__setstate__(state[0] - moves)
    return True
