"""SIGINT, SIGTERM and SIGHUP end a run after the current iteration."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["STOPPING", "deferred_signals"]

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
"""The signals that end a run; SIGHUP, which a closed terminal sends, unless it was ignored, as `nohup` does."""

_NOTICE = b"\nfinishing this iteration, then saving; a second signal stops at once without saving\n"


@contextlib.contextmanager
def deferred_signals(stop: Callable[[str], None]) -> Iterator[None]:
    """Inside, the signals of `STOPPING` call `stop` with their name; a second one raises KeyboardInterrupt.

    Only the main thread can handle signals; in other threads nothing changes.
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
        with contextlib.suppress(OSError):  # the reader of the output may be gone; the run is saved all the same
            os.write(2, _NOTICE)  # print() is not safe here: the signal may have come in the middle of another

    numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    caught = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
