"""Versions: which memory was changed in place, when and where.

One clock numbers both recorded operations and changes in place, so "changed after it was recorded" is a comparison of
two integers. PyTorch keeps a version counter per tensor; here the key is the array that owns the memory, because
NumPy's views share it without a common tensor.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from typing import Any

from dynarl.autograd.call_site import Line, user_line

__all__ = ["last_modification", "mark_modified", "modified_since", "next_sequence", "owner_of"]

next_sequence = itertools.count(1).__next__
"""The clock of the engine: recorded operations and changes in place take their numbers from the same counter."""

_modified: dict[int, tuple[int, Line, Any]] = {}
_last_modified = 0


def owner_of(array: Any) -> Any:
    """Return the array that owns the memory behind a view, the array itself if it is no view."""
    base = getattr(array, "base", None)
    while base is not None and base.__class__ is array.__class__:
        array, base = base, base.base
    return array


def _forget(key: int, reference: Any) -> None:
    _modified.pop(key, None)


def mark_modified(array: Any) -> None:
    """Record that the memory behind `array` was changed in place by the current line."""
    global _last_modified
    owner = owner_of(array)
    key = id(owner)
    entry = _modified.get(key)
    _last_modified = next_sequence()
    if entry is None or entry[2]() is not owner:
        reference = weakref.ref(owner, functools.partial(_forget, key))
    else:
        reference = entry[2]
    _modified[key] = (_last_modified, user_line(), reference)


def last_modification() -> int:
    """Return the clock of the newest in-place change of any memory."""
    return _last_modified


def modified_since(array: Any, sequence: int) -> Line | None:
    """Return the line that changed this memory after `sequence`, or None."""
    owner = owner_of(array)
    entry = _modified.get(id(owner))
    if entry is None or entry[0] <= sequence or entry[2]() is not owner:
        return None
    return entry[1]
