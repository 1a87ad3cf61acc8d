"""Where the time of training goes."""

from collections.abc import Mapping

__all__ = ["Phases"]


class Phases:
    """Turns seconds by phase into metrics, over the time since they were last asked for.

    ``time/PHASE_s`` are the seconds so far, ``time/sps_PHASE`` the environment steps per second that the run would
    make if it did nothing else: the phase with the smallest number is the one to make faster.
    """

    def __init__(self, env_steps: int = 0) -> None:
        """Begin to count at `env_steps`."""
        self._env_steps = env_steps
        self._seconds: dict[str, float] = {}

    def metrics(self, env_steps: int, seconds: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics of the seconds that phases have taken up to `env_steps`."""
        steps, before = env_steps - self._env_steps, self._seconds
        self._env_steps, self._seconds = env_steps, dict(seconds)
        found = {f"time/{phase}_s": total for phase, total in seconds.items()}
        for phase, total in seconds.items():
            took = total - before.get(phase, 0.0)
            if took > 0 and steps > 0:
                found[f"time/sps_{phase}"] = steps / took
        return found
