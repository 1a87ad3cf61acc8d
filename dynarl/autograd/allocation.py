"""Allocation: reuse of freed memory, and pauses of Python's garbage collector."""

from __future__ import annotations

import ctypes
import gc

__all__ = ["collector_paused", "keep_freed_memory"]


def keep_freed_memory() -> None:
    """Make glibc reuse large freed blocks instead of returning them to the system.

    A page that the system provides faults at its first write: an MLP at batch size 2048 takes 1.8 times as long.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library: nothing to tune
        return
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD in malloc.h
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, 1 << 30)


class collector_paused:
    """Pause Python's cyclic garbage collector in a `with` block that creates many objects and no cycles.

    The collector runs after every 700 new objects and visits those of the block each time, which is a fifth of the
    time of recording a tree-shaped program.
    """

    def __enter__(self) -> None:
        self.enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *error: object) -> None:
        if self.enabled:
            gc.enable()
