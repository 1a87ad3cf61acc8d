"""SIGINT and SIGTERM end a run after the current iteration."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["deferred_signals"]

_NOTICE = b"\nfinishing this iteration, then saving; a second signal stops at once without saving\n"


@contextlib.contextmanager
def deferred_signals(stop: Callable[[str], None]) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM call `stop` with their name; a second one raises KeyboardInterrupt.

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
        os.write(2, _NOTICE)  # print() is not safe here: the signal may have come in the middle of another

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
