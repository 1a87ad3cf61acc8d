"""What a run asks of its process: how many threads, and what a signal does."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["RunFailed", "deferred_signals", "limit_threads"]

_NOTICE = b"\nfinishing this iteration, then saving; once more to stop at once without saving\n"


class RunFailed(RuntimeError):
    """A run cannot go on; the message says why, in words for its user."""


def limit_threads(number: int) -> None:
    """Give the linear algebra library `number` threads, unless the environment gave it as many already."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    if any(os.environ.get(name) != str(number) for name in names):
        import threadpoolctl

        threadpoolctl.threadpool_limits(number)


@contextlib.contextmanager
def deferred_signals(stop: Callable[[str], None]) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM call `stop` with their name; a second one raises KeyboardInterrupt.

    Only the main thread can handle signals; in any other nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        stop(signal.Signals(number).name)
        os.write(2, _NOTICE)  # print() is not safe here: the signal may have come in the middle of another

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
