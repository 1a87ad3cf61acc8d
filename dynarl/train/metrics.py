"""A run's curves: `metrics.jsonl` and TensorBoard, over environment steps, continued when the run is.

Everything that depends on the clock is named `time/...`. The rest is a function of the configuration: a
run that was stopped and resumed writes the bytes that it would have written in one go.
"""

import contextlib
import json
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dynarl.train.run_directory import RunDirectoryError

__all__ = ["Clock", "MetricLog", "Window", "is_wall_clock", "read"]

RECENT_EPISODES = 100
_EPISODE = {"episode/return": "rollout/ep_rew_mean", "episode/length": "rollout/ep_len_mean"}


def is_wall_clock(name: str) -> bool:
    """Say whether a metric depends on the clock, and so differs between equal runs."""
    return name.startswith("time/")


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the records of a `metrics.jsonl`; a last line that a crash cut short is left out."""
    lines = Path(path).read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


class Window:
    """Metrics of the iterations since the last record, and the most recent episodes.

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
        """Take in the metrics of one iteration.

        Raises FloatingPointError for a metric that is infinite or not a number: the run is broken from
        here on. `explained_variance` alone may be NaN, where the returns do not vary; it is left out.
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
        """Return (means, histograms) of the window and begin the next one."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        for name, shown in _EPISODE.items():
            if recent := self._recent[name]:
                means[shown] = math.fsum(recent) / len(recent)
        histograms, self._sums, self._histograms = self._histograms, {}, {}
        return means, histograms

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as JSON. Histograms of an unfinished window are dropped."""
        return {
            "sums": {name: list(entry) for name, entry in self._sums.items()},
            "recent": {name: list(values) for name, values in self._recent.items()},
            "episodes": self.episodes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._sums = {name: list(entry) for name, entry in state["sums"].items()}
        for name, values in state["recent"].items():
            self._recent[name] = deque(values, maxlen=RECENT_EPISODES)
        self.episodes = state["episodes"]


class Clock:
    """Seconds spent in each phase of a run, added up over its resumed parts.

    Phases nest, and time counts for the innermost: `train` is collecting and updating without the
    evaluations, checkpoints and records in between.
    """

    def __init__(self, started: float | None = None) -> None:
        """Begin at `started`, a time of `time.perf_counter()`."""
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
        """Return the seconds of a phase, up to now if it is going on."""
        self._enter(self._phase)
        return self._seconds.get(name, 0.0)

    def wall_seconds(self) -> float:
        """Return the seconds since the run began, without the time between its parts."""
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
        """Continue from `state_dict()`."""
        self._seconds, self._wall_before = dict(state["seconds"]), float(state["wall"])


class MetricLog:
    """Writes records to `metrics.jsonl` and, if wanted, TensorBoard event files, in one directory."""

    def __init__(
        self, directory: Path, *, tensorboard: bool = True, resume_at: Mapping[str, int] | None = None
    ) -> None:
        """Open the log. `resume_at` is the `position()` of the checkpoint that the run continues from:
        what was written after it is cut off the file, and TensorBoard is told to drop it. Raises
        RunDirectoryError if the file is shorter than it was then."""
        self._path = directory / "metrics.jsonl"
        at = resume_at or {"bytes": 0, "env_steps": -1}
        if self._path.exists():
            _truncate(self._path, at["bytes"])
        self._file = self._path.open("ab")
        self._env_steps = at["env_steps"]
        self._tensorboard: Any = _Events(directory, at["env_steps"] + 1) if tensorboard else None

    def record(
        self,
        env_steps: int,
        values: Mapping[str, float | int],
        histograms: Mapping[str, np.ndarray[Any, Any]] | None = None,
    ) -> None:
        """Append one record at `env_steps`, the x axis of every curve."""
        line = json.dumps({"env_steps": env_steps, **values}, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._env_steps = env_steps
        if self._tensorboard is not None:
            self._tensorboard.record(env_steps, values, histograms or {})

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Tell TensorBoard's HPARAMS tab the values of a new run; a resumed one has told it before."""
        if self._tensorboard is not None:
            self._tensorboard.begin_session(values)

    def video(self, env_steps: int, path: Path, name: str = "eval/video") -> None:
        """Show the GIF at `path` in TensorBoard; a file of another kind is left out."""
        if self._tensorboard is not None and path.suffix == ".gif":
            self._tensorboard.video(name, path, env_steps)

    def finished(self) -> None:
        """Tell TensorBoard's HPARAMS tab that the run came to its end."""
        if self._tensorboard is not None:
            self._tensorboard.end_session()

    def position(self) -> dict[str, int]:
        """Bring all records to the disk and return where the log stands, for a checkpoint."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._tensorboard is not None:
            self._tensorboard.flush()
        return {"bytes": self._file.tell(), "env_steps": self._env_steps}

    def close(self) -> None:
        """Write out what is buffered and close the files."""
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


class _Events:
    """TensorBoard event files. One event carries all numbers of a record, which is what costs time."""

    def __init__(self, directory: Path, purge_step: int) -> None:
        from tensorboardX import SummaryWriter

        before = len(list(directory.glob("events.out.tfevents.*")))
        self._writer = SummaryWriter(
            str(directory),
            purge_step=purge_step if before else None,
            # the name has the time in seconds only: two starts within one second would share a file
            filename_suffix=f".{before:04d}",
        )
        self._is_new = not before

    def begin_session(self, values: Mapping[str, Any]) -> None:
        if self._is_new:
            experiment, start, _ = _hparams({name: _scalar(value) for name, value in values.items()})
            self._writer.file_writer.add_summary(experiment)
            self._writer.file_writer.add_summary(start)

    def end_session(self) -> None:
        self._writer.file_writer.add_summary(_hparams({})[2])

    def video(self, name: str, path: Path, env_steps: int) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        content = path.read_bytes()
        width, height = (int.from_bytes(content[i : i + 2], "little") for i in (6, 8))  # the GIF's header
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
        self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), env_steps)
        self._writer.flush()

    def record(
        self,
        env_steps: int,
        values: Mapping[str, float | int],
        histograms: Mapping[str, np.ndarray[Any, Any]],
    ) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        numbers = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        self._writer.file_writer.add_summary(Summary(value=numbers), env_steps)
        for name, array in histograms.items():
            finite = array[np.isfinite(array)].astype(np.float64)
            if finite.size:
                self._histogram(name, finite, env_steps)

    def _histogram(self, name: str, values: np.ndarray[Any, Any], env_steps: int) -> None:
        counts, edges = np.histogram(values, bins=64)
        self._writer.add_histogram_raw(
            name,
            min=float(values.min()),
            max=float(values.max()),
            num=int(values.size),
            sum=float(values.sum()),
            sum_squares=float(np.square(values).sum()),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
            global_step=env_steps,
        )

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.close()


_SHOWN_BESIDE_HYPERPARAMETERS = ("eval/mean_reward", "rollout/ep_rew_mean")


def _hparams(values: Mapping[str, Any]) -> Any:
    """Return (experiment, session start, session end) for TensorBoard's HPARAMS tab.

    tensorboardX's `add_hparams` writes the same into a subdirectory, which the tab shows as a second run.
    """
    from tensorboardX.summary import hparams

    return hparams(dict(values), dict.fromkeys(_SHOWN_BESIDE_HYPERPARAMETERS))


def _scalar(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else str(value)
