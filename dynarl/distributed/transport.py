"""How the pool reaches workers: an interface, and the implementation without any process or network."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Protocol

from dynarl.distributed.worker import Assignment, Host, Recipe

__all__ = ["LocalTransport", "Transport", "WorkerLost"]


class WorkerLost(Exception):
    """A call that will never return because its worker is gone."""


class Transport(Protocol):
    """Calls to worker processes. Handles and references mean nothing to the caller; references can be hashed.

    The calls of one worker run in the order they were submitted.
    """

    def now(self) -> float:
        """Return the time in seconds."""
        ...

    def put(self, weights: Any) -> Any:
        """Send a buffer where workers can get it, and return what stands for it in calls."""
        ...

    def spawn(self, slot: int, recipe: Recipe, assignments: Sequence[Assignment]) -> Any:
        """Begin to start a `Host` and return its handle."""
        ...

    def submit(self, handle: Any, method: str, *args: Any) -> Any:
        """Call a method of a `Host` and return a reference to what it will return."""
        ...

    def wait(self, refs: Sequence[Any], timeout: float) -> list[Any]:
        """Return those references that have a result or an error, after at most `timeout` seconds."""
        ...

    def get(self, ref: Any) -> Any:
        """Return the result of a reference that is ready; raises WorkerLost."""
        ...

    def room(self) -> str:
        """Return what there is to start workers with, in words to go on with, or nothing."""
        ...

    def kill(self, handle: Any) -> None:
        """End a worker at once, in whatever state it is."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


class LocalTransport:
    """Workers in this process: a call runs when its result is waited for."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[Host, str, tuple[Any, ...]]] = {}
        self._hosts: list[Host] = []
        self._next = 0

    def now(self) -> float:
        """Return the time in seconds."""
        return time.monotonic()

    def put(self, weights: Any) -> Any:
        """Return the buffer itself."""
        return weights

    def spawn(self, slot: int, recipe: Recipe, assignments: Sequence[Assignment]) -> Host:
        """Make a host."""
        self._hosts.append(Host(recipe, assignments))
        return self._hosts[-1]

    def submit(self, handle: Host, method: str, *args: Any) -> int:
        """Note the call down."""
        self._next += 1
        self._calls[self._next] = (handle, method, args)
        return self._next

    def wait(self, refs: Sequence[int], timeout: float) -> list[int]:
        """Name the oldest call; `get` will run it."""
        if not refs:
            time.sleep(timeout)
        return [min(refs)] if refs else []

    def get(self, ref: int) -> Any:
        """Run the call."""
        host, method, args = self._calls.pop(ref)
        return getattr(host, method)(*args)

    def room(self) -> str:
        """Return nothing: this process is there."""
        return ""

    def kill(self, handle: Host) -> None:
        """Close a host and forget its calls."""
        self._calls = {ref: call for ref, call in self._calls.items() if call[0] is not handle}
        self._hosts.remove(handle)
        with contextlib.suppress(Exception):  # an environment that failed may fail to close
            handle.close()

    def close(self) -> None:
        """Close all hosts."""
        for host in list(self._hosts):
            self.kill(host)
