"""Silence for a thread whose program runs once more: what it prints, it has printed."""

from __future__ import annotations

import sys
import threading
from typing import Any

__all__ = ["quiet"]


class _OtherThreads:
    """The standard output without what the silent threads write."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.silent: list[int] = []

    def write(self, text: str) -> int:
        """Write a text of a thread that is not silent."""
        return len(text) if threading.get_ident() in self.silent else int(self.stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


_lock = threading.Lock()


class quiet:
    """In a `with` block: this thread prints nothing, others do."""

    def __enter__(self) -> None:
        with _lock:
            if not isinstance(sys.stdout, _OtherThreads):
                sys.stdout = _OtherThreads(sys.stdout)
            self.output: Any = sys.stdout
            self.output.silent.append(threading.get_ident())

    def __exit__(self, *error: object) -> None:
        with _lock:
            self.output.silent.remove(threading.get_ident())
            output: Any = sys.stdout
            if not self.output.silent and output is self.output:
                sys.stdout = output.stream
