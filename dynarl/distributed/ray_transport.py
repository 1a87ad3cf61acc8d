"""Workers as Ray actors."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from dynarl.distributed.transport import WorkerLost
from dynarl.distributed.worker import Assignment, Host, Recipe
from dynarl.threads import limit_threads

__all__ = ["RayTransport"]

_FIRST_LINES = 3


class _RayHost(Host):
    """A `Host` in an actor. Its linear algebra gets one thread, because workers share the machine's cores."""

    def __init__(self, recipe: Recipe, assignments: Sequence[Assignment]) -> None:
        limit_threads(1)
        super().__init__(recipe, assignments)


class RayTransport:
    """Ray actors with restarts and retries off: a call that ran twice would be counted twice."""

    def __init__(self, *, cpus_per_worker: float = 1.0, options: Any = None) -> None:
        """Use `cpus_per_worker` CPUs per actor; `options` are further options of Ray actors."""
        self._actor = ray.remote(_RayHost).options(
            num_cpus=cpus_per_worker, max_restarts=0, max_task_retries=0, enable_task_events=False, **(options or {})
        )
        self._cpus = cpus_per_worker
        self._handles: list[Any] = []
        self._turn = 0

    def now(self) -> float:
        """Return the time in seconds."""
        return time.monotonic()

    def put(self, weights: Any) -> Any:
        """Put a buffer into the object store."""
        return ray.put(weights)

    def spawn(self, slot: int, recipe: Recipe, assignments: Sequence[Assignment]) -> Any:
        """Start an actor and return its handle at once."""
        handle = self._actor.remote(recipe, list(assignments))
        self._handles.append(handle)
        return handle

    def submit(self, handle: Any, method: str, *args: Any) -> Any:
        """Call a method of an actor."""
        return getattr(handle, method).remote(*args)

    def wait(self, refs: Sequence[Any], timeout: float) -> list[Any]:
        """Return one reference that is ready, with its data on this node; the first place rotates among several."""
        if not refs:
            time.sleep(timeout)
            return []
        limit = None if timeout == float("inf") else timeout
        self._turn += 1
        first = self._turn % len(refs)
        ready, _ = ray.wait([*refs[first:], *refs[:first]], num_returns=1, timeout=limit)
        return list(ready)

    def get(self, ref: Any) -> Any:
        """Return a result; raises WorkerLost if the actor, its node or the object is lost."""
        try:
            return ray.get(ref)
        except RayTaskError as error:
            raise WorkerLost(f"its call failed: {_last_line(error)}") from error
        except (RayError, GetTimeoutError) as error:
            raise WorkerLost(f"{type(error).__name__}: {_first_lines(error)}") from error

    def resources(self) -> str:
        """Return how many CPUs of the cluster are free."""
        free, total = (getattr(ray, name)().get("CPU", 0.0) for name in ("available_resources", "cluster_resources"))
        return f"; a worker takes {self._cpus:g} CPUs, {free:g} of the cluster's {total:g} are free"

    def kill(self, handle: Any) -> None:
        """Kill an actor in a thread: for a stopped process Ray's call takes seconds."""
        self._handles.remove(handle)
        threading.Thread(target=_kill, args=(handle,), daemon=True).start()

    def close(self) -> None:
        """Kill all actors."""
        for handle in self._handles:
            _kill(handle)
        self._handles.clear()


def _kill(handle: Any) -> None:
    with contextlib.suppress(Exception):  # already gone, or Ray is
        ray.kill(handle, no_restart=True)


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    raised = [line for line in lines[_FIRST_LINES:] if line.partition(":")[0].endswith("Error")]
    return " ".join(lines[:_FIRST_LINES] + raised[-1:])


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
