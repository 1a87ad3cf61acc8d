"""Seconds of a run by phase: train, eval, checkpoint, log; and of training by the phases that the agent reports."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Clock", "Phases"]


class Clock:
    """Seconds in each phase of a run, summed over its resumed parts.

    Phases nest, and time counts for the innermost: `train` is the time of collecting and updating without the
    evaluations, checkpoints and records in between.
    """

    def __init__(self, started: float | None = None) -> None:
        """Start at `started`, a time of `time.perf_counter()`; None is now."""
        self._started = self._mark = time.perf_counter() if started is None else started
        self._wall_before = 0.0
        self._phase = "other"
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside as phase `name`."""
        outer = self._enter(name)
        try:
            yield
        finally:
            self._enter(outer)

    def _enter(self, name: str) -> str:
        now = time.perf_counter()
        outer, self._phase = self._phase, name
        self._seconds[outer] = self._seconds.get(outer, 0.0) + now - self._mark
        self._mark = now
        return outer

    def seconds(self, name: str) -> float:
        """Return the seconds of a phase, including the current one up to now."""
        self._enter(self._phase)
        return self._seconds.get(name, 0.0)

    def wall_seconds(self) -> float:
        """Return the seconds since the run started, without the time between its parts."""
        return self._wall_before + time.perf_counter() - self._started

    def metrics(self, env_steps: int) -> dict[str, float]:
        """Return the clock as metrics, all under `time/`."""
        train = self.seconds("train")
        return {
            "time/fps": env_steps / train if train > 0 else 0.0,
            "time/time_elapsed": self.wall_seconds(),
            **{f"time/{name}_s": seconds for name, seconds in self._seconds.items() if name != "other"},
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far, as JSON."""
        self._enter(self._phase)
        return {"seconds": dict(self._seconds), "wall": self.wall_seconds()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load `state_dict()`."""
        self._seconds, self._wall_before = dict(state["seconds"]), float(state["wall"])


class Phases:
    """Turns seconds by phase into metrics of the time since the last call.

    ``time/PHASE_s`` are the seconds so far. ``time/sps_PHASE`` are the environment steps per second of a run that
    consisted of this phase alone: the phase with the smallest number is the bottleneck.
    """

    def __init__(self, env_steps: int = 0) -> None:
        """Count from `env_steps`."""
        self._env_steps = env_steps
        self._seconds: dict[str, float] = {}

    def metrics(self, env_steps: int, seconds: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics; `seconds` are the seconds of each phase up to `env_steps`."""
        steps, before = env_steps - self._env_steps, self._seconds
        self._env_steps, self._seconds = env_steps, dict(seconds)
        found = {f"time/{phase}_s": total for phase, total in seconds.items()}
        for phase, total in seconds.items():
            took = total - before.get(phase, 0.0)
            if took > 0 and steps > 0:
                found[f"time/sps_{phase}"] = steps / took
        return found
