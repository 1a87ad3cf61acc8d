"""Allocation: reuse of freed memory, and pauses of Python's garbage collector."""

from __future__ import annotations

import ctypes
import gc

__all__ = ["collector_paused", "keep_freed_memory"]


def keep_freed_memory() -> None:
    """Tell glibc to reuse large freed blocks: fresh pages fault at each first write (1.8 times slower at B = 2048)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library: nothing to tune
        return
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD in malloc.h
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, 1 << 30)


class collector_paused:
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
