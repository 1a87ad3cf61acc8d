"""TensorBoard event files of a run."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["EventFiles"]


class EventFiles:
    """TensorBoard event files. All numbers of a record are one event, since the time is spent per event."""

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
