"""Gradient mode: whether operations of this thread are recorded, and whether each result is checked for NaN."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager
from typing import Any, TypeVar

__all__ = [
    "detect_anomaly",
    "enable_grad",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "mode",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]

OFF, RECORD, ANOMALY = 0, 1, 2
_F = TypeVar("_F", bound=Callable[..., Any])


class _Mode(threading.local):
    """The state of one thread: `recording` is OFF, RECORD or ANOMALY (record and check for NaN)."""

    recording = RECORD
    anomaly = False


mode = _Mode()


def is_grad_enabled() -> bool:
    """Return whether operations are recorded in this thread."""
    return mode.recording != OFF


class set_grad_enabled(ContextDecorator):
    """Switch recording on or off: immediately, and until the end of a `with` block or decorated call."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._before = mode.recording
        mode.recording = (ANOMALY if mode.anomaly else RECORD) if enabled else OFF

    def __call__(self, function: _F) -> _F:
        mode.recording = self._before  # a decorator has no effect before the decorated function is called
        return super().__call__(function)

    def __enter__(self) -> set_grad_enabled:
        return self

    def __exit__(self, *error: object) -> None:
        mode.recording = self._before

    def _recreate_cm(self) -> set_grad_enabled:
        return set_grad_enabled(self.enabled)


class no_grad(ContextDecorator):
    """Record no operation: a context manager and a decorator."""

    _level = OFF

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        self._before: list[int] = []

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = super().__new__(cls)
        if function is None:
            return self
        self.__init__()  # type: ignore[misc]  # `@no_grad` without parentheses, as PyTorch allows
        return self(function)

    def __enter__(self) -> no_grad:
        self._before.append(mode.recording)
        mode.recording = self._level if self._level == OFF or not mode.anomaly else ANOMALY
        return self

    def __exit__(self, *error: object) -> None:
        mode.recording = self._before.pop()

    def _recreate_cm(self) -> no_grad:
        return type(self)()


class enable_grad(no_grad):
    """Record operations, also within `no_grad`: a context manager and a decorator."""

    _level = RECORD


class set_detect_anomaly:
    """Switch the search for NaN on or off: immediately, and until the end of a `with` block.

    While it is on, every output and every gradient of this thread is checked, and the error names the operation that
    made the first NaN and the line that called it in forward. Training is slower meanwhile.
    """

    def __init__(self, enabled: bool) -> None:
        self._before = mode.anomaly, mode.recording
        mode.anomaly = enabled
        if mode.recording:
            mode.recording = ANOMALY if enabled else RECORD

    def __enter__(self) -> set_detect_anomaly:
        return self

    def __exit__(self, *error: object) -> None:
        mode.anomaly, mode.recording = self._before


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Check every output and gradient in a `with` block for NaN; the error names the forward line of the first one."""
    with set_detect_anomaly(True):
        yield


def is_anomaly_enabled() -> bool:
    """Return whether outputs and gradients of this thread are checked for NaN."""
    return mode.anomaly
