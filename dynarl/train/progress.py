"""The progress bar of a run: steps, return, speed, time left. It is drawn on terminals only."""

import sys
import time
from typing import Any

__all__ = ["ProgressBar"]

_SECONDS_BETWEEN_DRAWINGS = 0.2


class ProgressBar:
    """A progress bar over environment steps; if the output is not a terminal, it draws nothing."""

    def __init__(self, total_steps: int, done: int = 0, *, enabled: bool = True) -> None:
        self._bar: Any = None
        self._drawn = self._begun = time.perf_counter()
        self._done_before = done
        self._total = total_steps
        if enabled and sys.stdout.isatty():
            self._start(total_steps, done)

    def _start(self, total_steps: int, done: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            TextColumn("{task.fields[note]}"),
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("", total=total_steps, completed=done, note="")
        self._bar.start()

    def update(self, env_steps: int, mean_return: float | None, *, note: str = "") -> None:
        """Move to `env_steps` and show `note`; the bar is redrawn at most five times a second."""
        now = time.perf_counter()
        if self._bar is None or now - self._drawn < _SECONDS_BETWEEN_DRAWINGS:
            return
        self._drawn = now
        self._bar.update(self._task, completed=env_steps, note=self._note(env_steps, mean_return, now) + note)
        self._bar.refresh()

    def _note(self, env_steps: int, mean_return: float | None, now: float) -> str:
        speed = (env_steps - self._done_before) / max(now - self._begun, 1e-9)
        left = max(self._total - env_steps, 0) / max(speed, 1e-9)
        clock = f"{int(left // 3600)}:{int(left // 60 % 60):02d}:{int(left % 60):02d}"
        shown = "" if mean_return is None else f"return {mean_return:,.1f}  "
        return f"{shown}{speed:,.0f} steps/s  {clock} left"

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        if self._bar is None:
            print(message, flush=True)
        else:
            self._bar.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar from the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
