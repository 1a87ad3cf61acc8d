"""TensorBoard event files of a run."""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dynarl.train.output import warn

__all__ = ["EventFiles"]


class EventFiles:
    """TensorBoard event files. All numbers of a record are one event, since the time is spent per event.

    Events are written by the thread that records them. The writer thread of tensorboardX's `SummaryWriter` loses what
    waits in its queue when the process is killed, and after an error in it, or an interrupt at a bad moment, `record`
    and `close` would wait for ever. A write error ends the event file with a warning; the run continues.
    """

    def __init__(self, directory: Path, purge_step: int) -> None:
        from tensorboardX.proto.event_pb2 import SessionLog

        before = len(list(directory.glob("events.out.tfevents.*")))
        # the name has the time in seconds only: two starts within one second would share a file
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{before:04d}"
        self._file: Any = (directory / name).open("wb")
        self._is_new = not before
        self._write(file_version="brain.Event:2")
        if before:  # TensorBoard drops what earlier files have from this step on
            self._write(step=purge_step, session_log=SessionLog(status=SessionLog.START))

    def _write(self, **event: Any) -> None:
        """Write an event as a record of a TFRecord file; it is then safe from everything but a power failure."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import masked_crc32c

        if self._file is None:
            return
        data = Event(wall_time=time.time(), **event).SerializeToString()
        size = struct.pack("<Q", len(data))
        checks = (struct.pack("<I", masked_crc32c(part)) for part in (size, data))
        try:
            self._file.write(b"".join((size, next(checks), data, next(checks))))
            self._file.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.close()
        warn(
            f"TensorBoard's event file cannot be written ({error}); the run continues without it, metrics.jsonl has "
            "every record"
        )

    def begin_session(self, values: Mapping[str, Any]) -> None:
        if self._is_new:
            experiment, start, _ = _hparams({name: _scalar(value) for name, value in values.items()})
            self._write(summary=experiment)
            self._write(summary=start)

    def end_session(self) -> None:
        self._write(summary=_hparams({})[2])

    def video(self, name: str, path: Path, env_steps: int) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        content = path.read_bytes()
        width, height = (int.from_bytes(content[i : i + 2], "little") for i in (6, 8))  # the GIF's header
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
        self._write(step=env_steps, summary=Summary(value=[Summary.Value(tag=name, image=image)]))
        self.flush()

    def record(
        self,
        env_steps: int,
        values: Mapping[str, float | int],
        histograms: Mapping[str, np.ndarray[Any, Any]],
    ) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        numbers = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        self._write(step=env_steps, summary=Summary(value=numbers))
        for name, array in histograms.items():
            finite = array[np.isfinite(array)].astype(np.float64)
            if finite.size:
                self._histogram(name, finite, env_steps)

    def _histogram(self, name: str, values: np.ndarray[Any, Any], env_steps: int) -> None:
        from tensorboardX.summary import histogram_raw

        counts, edges = np.histogram(values, bins=64)
        summary = histogram_raw(
            name,
            min=float(values.min()),
            max=float(values.max()),
            num=int(values.size),
            sum=float(values.sum()),
            sum_squares=float(np.square(values).sum()),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
        )
        self._write(step=env_steps, summary=summary)

    def flush(self) -> None:
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


_SHOWN_BESIDE_HYPERPARAMETERS = ("eval/mean_reward", "rollout/ep_rew_mean")


def _hparams(values: Mapping[str, Any]) -> Any:
    """Return (experiment, session start, session end) for TensorBoard's HPARAMS tab.

    tensorboardX's `add_hparams` writes the same into a subdirectory, which the tab shows as a second run.
    """
    from tensorboardX.summary import hparams

    return hparams(dict(values), dict.fromkeys(_SHOWN_BESIDE_HYPERPARAMETERS))


def _scalar(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else str(value)
