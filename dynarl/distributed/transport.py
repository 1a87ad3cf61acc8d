"""The pool's interface to worker processes, and its implementation within this process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Protocol

from dynarl.distributed.worker import Assignment, Host, Recipe

__all__ = ["LocalTransport", "Transport", "WorkerLost"]


class WorkerLost(Exception):
    """Raised for a call that will never return because its worker is gone."""


class Transport(Protocol):
    """Calls to worker processes. Handles and references are opaque to the caller; references are hashable.

    The calls of one worker run in the order in which they were submitted.
    """

    def now(self) -> float:
        """Return the time in seconds."""
        ...

    def put(self, weights: Any) -> Any:
        """Send a buffer to where workers can read it; return the object that stands for it in calls."""
        ...

    def spawn(self, slot: int, recipe: Recipe, assignments: Sequence[Assignment]) -> Any:
        """Start a `Host` and return its handle at once."""
        ...

    def submit(self, handle: Any, method: str, *args: Any) -> Any:
        """Call a method of a `Host` and return a reference to its result."""
        ...

    def wait(self, refs: Sequence[Any], timeout: float) -> list[Any]:
        """Return the references that have a result or an error, after at most `timeout` seconds."""
        ...

    def get(self, ref: Any) -> Any:
        """Return the result of a reference that is ready; raises WorkerLost."""
        ...

    def resources(self) -> str:
        """Return a description of the free resources, to append to a message, or an empty string."""
        ...

    def kill(self, handle: Any) -> None:
        """Stop a worker immediately, whatever its state."""
        ...

    def close(self) -> None:
        """Stop all workers."""
        ...


class LocalTransport:
    """Workers in this process: a call runs when its result is requested by `get`."""

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
        """Queue the call."""
        self._next += 1
        self._calls[self._next] = (handle, method, args)
        return self._next

    def wait(self, refs: Sequence[int], timeout: float) -> list[int]:
        """Return the oldest call; `get` will run it."""
        if not refs:
            time.sleep(timeout)
        return [min(refs)] if refs else []

    def get(self, ref: int) -> Any:
        """Run the call."""
        host, method, args = self._calls.pop(ref)
        return getattr(host, method)(*args)

    def resources(self) -> str:
        """Return an empty string: no resources are shared."""
        return ""

    def kill(self, handle: Host) -> None:
        """Close a host and drop its calls."""
        self._calls = {ref: call for ref, call in self._calls.items() if call[0] is not handle}
        self._hosts.remove(handle)
        with contextlib.suppress(Exception):  # an environment that failed may fail to close
            handle.close()

    def close(self) -> None:
        """Close all hosts."""
        for host in list(self._hosts):
            self.kill(host)
