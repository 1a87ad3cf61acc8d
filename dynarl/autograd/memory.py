"""Memory: keep freed blocks for reuse, and know which memory was changed in place, when and where."""

from __future__ import annotations

import ctypes
import functools
import gc
import itertools
import sys
import weakref
from types import CodeType, FrameType
from typing import Any

__all__ = ["collection_put_off", "line_of", "mark_modified", "modified_since", "next_sequence", "user_line"]

Line = tuple[CodeType, int]

next_sequence = itertools.count(1).__next__
"""The clock of the engine: recorded operations and in-place changes draw from the same counter."""

_PACKAGE = __file__.rpartition("autograd")[0]
_inside: set[str] = set()  # files of this package that were met: a look here is faster than at the path
_modified: dict[int, tuple[int, Line, Any]] = {}
_last_modified = 0


def keep_freed_memory() -> None:
    """Tell glibc to reuse large freed blocks: fresh pages fault at each first write (1.8 times slower at B = 2048)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library: nothing to tune
        return
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD in malloc.h
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, 1 << 30)


class collection_put_off:
    """Keep Python's cyclic garbage collector from running in a `with` block that makes many objects and no garbage.

    It runs for every 700 objects made, and goes over those of the block again and again: a fifth of the time of
    recording a tree.
    """

    def __enter__(self) -> None:
        self.enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *error: object) -> None:
        if self.enabled:
            gc.enable()


def user_line(depth: int = 1) -> Line:
    """Return (code, instruction) of the nearest caller outside this package: cheap now, a line number later.

    The search starts `depth` calls up.
    """
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        code = frame.f_code
        if code.co_filename not in _inside:
            if not code.co_filename.startswith(_PACKAGE):
                return code, frame.f_lasti
            _inside.add(code.co_filename)
        frame = frame.f_back
    return sys._getframe(depth).f_code, 0


def is_user_code(code: CodeType) -> bool:
    """Tell whether code lies outside this package."""
    return not code.co_filename.startswith(_PACKAGE)


def line_of(line: Line | None) -> str:
    """Render what `user_line` returned as `file:line in function`."""
    if line is None:
        return "an unrecorded line"
    code, instruction = line
    number: int | None = code.co_firstlineno
    for start, end, candidate in code.co_lines():
        if start <= instruction < end and candidate is not None:
            number = candidate
            break
    return f"{code.co_filename}:{number} in {code.co_name}"


def _owner(array: Any) -> Any:
    base = getattr(array, "base", None)
    while base is not None and base.__class__ is array.__class__:
        array, base = base, base.base
    return array


def _forget(key: int, reference: Any) -> None:
    _modified.pop(key, None)


def mark_modified(array: Any) -> None:
    """Record that the memory behind `array` was changed in place by the line being run."""
    global _last_modified
    owner = _owner(array)
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
    owner = _owner(array)
    entry = _modified.get(id(owner))
    if entry is None or entry[0] <= sequence or entry[2]() is not owner:
        return None
    return entry[1]
