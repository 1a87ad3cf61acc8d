"""Sources of numbers without a state that could be compared: random bits of the system, and clocks.

A program that names one of them runs under a profile function of its thread, which sees every call of them, whoever
makes it: `uuid`, `secrets`, `default_rng()` and `Random()` all ask the system for bits.
"""

from __future__ import annotations

import datetime
import os
import random
import sys
import time
import types
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

from dynarl.autograd.ops import elementwise
from dynarl.batching.guard.ownership import is_users_code

__all__ = ["CLOCK", "SYSTEM", "Hit", "source_kind", "watching"]

SYSTEM, CLOCK = "system", "clock"

_SYSTEM = {f.__name__: f for f in (os.urandom, *([os.getrandom] if hasattr(os, "getrandom") else []))}
_CLOCKS = {
    f.__name__: f
    for f in (
        time.time, time.time_ns, time.perf_counter, time.perf_counter_ns, time.monotonic, time.monotonic_ns,
        time.process_time, time.process_time_ns, time.thread_time, time.thread_time_ns, time.localtime, time.gmtime,
        time.ctime, time.strftime,
    )
}  # fmt: skip
_MODULES = {"secrets": SYSTEM, "uuid": SYSTEM, "_uuid": SYSTEM, "time": CLOCK, "datetime": CLOCK}
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
_MAKERS = (
    np.random.default_rng, np.random.RandomState, np.random.SeedSequence, np.random.PCG64, np.random.MT19937,
    np.random.Philox, np.random.SFC64, random.Random, random.SystemRandom, np.random.PCG64DXSM,
)  # fmt: skip
_NAMES = frozenset((*_SYSTEM, *_CLOCKS, "generate_time_safe", "now", "utcnow", "today"))


class Hit:
    """A call of a source: the line of the user's code, and whether it was a clock, which a program may only log."""

    __slots__ = ("clock", "line")

    def __init__(self, line: str, clock: bool) -> None:
        self.line, self.clock = line, clock


def source_kind(x: Any) -> str | None:
    """Return SYSTEM or CLOCK for an object that is a source, or leads to one when it is called, else None."""
    if isinstance(x, random.SystemRandom) or any([x is maker for maker in _MAKERS]):
        return SYSTEM
    if isinstance(x, types.ModuleType):
        return _MODULES.get(x.__name__)
    if isinstance(x, type):
        return CLOCK if issubclass(x, datetime.date) else None
    if not isinstance(x, _FUNCTIONS) or x is time.sleep:
        return None
    if isinstance(getattr(x, "__self__", None), random.SystemRandom) or any([x is f for f in _SYSTEM.values()]):
        return SYSTEM
    owner = getattr(x, "__self__", None)
    return _MODULES.get(owner.__module__ if isinstance(owner, type) else x.__module__)


class watching:
    """In a `with` block: calls `note(hit)` for every call of a source by this thread, `count()` for every operation.

    Nothing is watched while another profiler runs, which a second one would end.
    """

    def __init__(self, note: Callable[[Hit], None], count: Callable[[], None] | None = None) -> None:
        self.note, self.count = note, count

    def __enter__(self) -> None:
        self.active = sys.getprofile() is None
        if self.active:
            sys.setprofile(self._event)

    def __exit__(self, *error: object) -> None:
        if self.active:
            sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            name = argument.__name__
            if name in _NAMES:
                self._called(name, argument, frame)
        elif event == "call":
            code = frame.f_code
            if code in _OPERATIONS:
                if self.count is not None:
                    self.count()
            elif code is _NEW_GENERATOR and frame.f_locals.get("x") is None:
                self._note(frame, False)

    def _called(self, name: str, function: Any, frame: FrameType) -> None:
        if _SYSTEM.get(name) is function or name == "generate_time_safe":
            self._note(frame, False)
        elif _CLOCKS.get(name) is function or _is_date(getattr(function, "__self__", None)):
            self._note(frame, True)

    def _note(self, frame: FrameType | None, clock: bool) -> None:
        while frame is not None and not is_users_code(frame.f_code):
            frame = frame.f_back
        if frame is not None:
            code = frame.f_code
            self.note(Hit(f"{code.co_filename}:{frame.f_lineno} in {code.co_name}", clock))


_NEW_GENERATOR = random.Random.__init__.__code__
_OPERATIONS = frozenset(op.__code__ for op in (elementwise.add, elementwise.exp, elementwise.where))
"""The code of all primitives, which has three forms."""


def _is_date(x: Any) -> bool:
    return isinstance(x, type) and issubclass(x, datetime.date)
