"""A run's curves over environment steps: `metrics.jsonl` and TensorBoard, continued by a resumed run.

Metrics that depend on the clock are named `time/...`. All others are a function of the configuration: a run that was
stopped and resumed writes the same bytes as an uninterrupted one.
"""

import json
import math
import os
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dynarl.train.event_files import EventFiles
from dynarl.train.run_directory import RunDirectoryError

__all__ = ["MetricLog", "Window", "is_wall_clock", "read"]

RECENT_EPISODES = 100
_EPISODE = {"episode/return": "rollout/ep_rew_mean", "episode/length": "rollout/ep_len_mean"}


def is_wall_clock(name: str) -> bool:
    """Return whether a metric depends on the clock, and so differs between equal runs."""
    return name.startswith("time/")


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the records of a `metrics.jsonl`, without a last line that a crash truncated."""
    lines = Path(path).read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


class Window:
    """The metrics of the iterations since the last record, and the most recent episodes.

    An agent reports one dict per iteration: numbers, arrays (shown as histograms), and the raw returns
    and lengths of the episodes that ended, as lists under `episode/return` and `episode/length`. A
    record holds the mean of each number over the iterations that reported it, and the mean over the last
    100 episodes as `rollout/ep_rew_mean` and `rollout/ep_len_mean`.
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}  # name: [sum, count]
        self._recent: dict[str, deque[float]] = {name: deque(maxlen=RECENT_EPISODES) for name in _EPISODE}
        self._histograms: dict[str, np.ndarray[Any, Any]] = {}
        self.episodes = 0

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Add the metrics of one iteration.

        Raises FloatingPointError for a metric that is infinite or NaN, as the run cannot recover from it. Only
        `explained_variance` may be NaN, if the returns do not vary; it is then left out.
        """
        for name, value in metrics.items():
            if name in _EPISODE:
                self._add_episodes(name, value)
            elif isinstance(value, np.ndarray) and value.ndim:
                self._histograms[name] = value
            else:
                self._add_number(name, float(value))

    def _add_episodes(self, name: str, values: Iterable[float]) -> None:
        for value in values:
            number = float(value)
            if not math.isfinite(number):
                raise FloatingPointError(f"{name} is {number}")
            self._recent[name].append(number)
            self.episodes += name == "episode/return"

    def _add_number(self, name: str, value: float) -> None:
        if math.isfinite(value):
            entry = self._sums.setdefault(name, [0.0, 0])
            entry[0] += value
            entry[1] += 1
        elif not (math.isnan(value) and name.rpartition("/")[2] == "explained_variance"):
            raise FloatingPointError(f"{name} is {value}")

    @property
    def recent_return(self) -> float | None:
        """Mean return of the last 100 episodes, None before the first one ends."""
        recent = self._recent["episode/return"]
        return math.fsum(recent) / len(recent) if recent else None

    def __bool__(self) -> bool:
        return bool(self._sums)

    def take(self) -> tuple[dict[str, float], dict[str, np.ndarray[Any, Any]]]:
        """Return (means, histograms) of the window and start the next window."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        for name, shown in _EPISODE.items():
            if recent := self._recent[name]:
                means[shown] = math.fsum(recent) / len(recent)
        histograms, self._sums, self._histograms = self._histograms, {}, {}
        return means, histograms

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a resumed run, as JSON, without the histograms of the unfinished window."""
        return {
            "sums": {name: list(entry) for name, entry in self._sums.items()},
            "recent": {name: list(values) for name, values in self._recent.items()},
            "episodes": self.episodes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load `state_dict()`."""
        self._sums = {name: list(entry) for name, entry in state["sums"].items()}
        for name, values in state["recent"].items():
            self._recent[name] = deque(values, maxlen=RECENT_EPISODES)
        self.episodes = state["episodes"]


class MetricLog:
    """Writes records to `metrics.jsonl` and, with `tensorboard`, to TensorBoard event files in one directory."""

    def __init__(
        self, directory: Path, *, tensorboard: bool = True, resume_at: Mapping[str, int] | None = None
    ) -> None:
        """Open the log.

        `resume_at` is the `position()` in the checkpoint from which the run continues: later records are removed from
        the file, and TensorBoard drops them. Raises RunDirectoryError if the file is shorter than that position.
        """
        self._path = directory / "metrics.jsonl"
        at = resume_at or {"bytes": 0, "env_steps": -1}
        if self._path.exists():
            _truncate(self._path, at["bytes"])
        self._file = self._path.open("ab")
        self._env_steps = at["env_steps"]
        self._tensorboard: Any = EventFiles(directory, at["env_steps"] + 1) if tensorboard else None

    def record(
        self,
        env_steps: int,
        values: Mapping[str, float | int],
        histograms: Mapping[str, np.ndarray[Any, Any]] | None = None,
    ) -> None:
        """Append one record at `env_steps`, the x axis of every curve."""
        line = json.dumps({"env_steps": env_steps, **values}, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()  # a run that is killed keeps every record, in both files
        self._env_steps = env_steps
        if self._tensorboard is not None:
            self._tensorboard.record(env_steps, values, histograms or {})

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Write the hyperparameters for TensorBoard's HPARAMS tab, unless the run is resumed and has written them."""
        if self._tensorboard is not None:
            self._tensorboard.begin_session(values)

    def video(self, env_steps: int, path: Path, name: str = "eval/video") -> None:
        """Show the GIF at `path` in TensorBoard; other files are left out."""
        if self._tensorboard is not None and path.suffix == ".gif":
            self._tensorboard.video(name, path, env_steps)

    def finished(self) -> None:
        """Mark the run as finished in TensorBoard's HPARAMS tab."""
        if self._tensorboard is not None:
            self._tensorboard.end_session()

    def position(self) -> dict[str, int]:
        """Flush all records to the disk and return the position of the log, for a checkpoint."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._tensorboard is not None:
            self._tensorboard.flush()
        return {"bytes": self._file.tell(), "env_steps": self._env_steps}

    def close(self) -> None:
        """Write buffered records and close the files."""
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()


def _truncate(path: Path, size: int) -> None:
    if path.stat().st_size < size:
        raise RunDirectoryError(
            f"resume: {path} has {path.stat().st_size} bytes, the checkpoint was written at {size}; "
            "it was altered, restore it or start a new run"
        )
    os.truncate(path, size)
