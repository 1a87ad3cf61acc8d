"""Random numbers that are not a sample's own: noticed after the call, and traced to their line."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import numpy as np

from dynarl.autograd.memory import is_user_code

__all__ = ["drawing_line", "fingerprint"]


def fingerprint() -> tuple[Any, ...]:
    """Return something that changes whenever Python's or NumPy's global generator is drawn from."""
    numpy_state = np.random.get_state(legacy=False)["state"]
    python_state = random.getstate()[1]
    return python_state[-1], python_state[0], python_state[397], numpy_state["pos"], int(numpy_state["key"][0])


def drawing_line(run: Callable[[], Any]) -> str:
    """Run a program again and return the first line that draws from a global generator, as `file:line in function`."""
    found: list[str] = []
    at: dict[FrameType, tuple[CodeType, int]] = {}
    before = fingerprint()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if found or not is_user_code(frame.f_code) or frame.f_code.co_filename == random.__file__:
            return None
        if fingerprint() != before:
            code, line = at.get(frame, (frame.f_code, frame.f_lineno))
            found.append(f"{code.co_filename}:{line} in {code.co_name}")
            return None
        at[frame] = frame.f_code, frame.f_lineno
        return trace

    earlier = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except Exception:  # the program may fail, now that its draws are others
        pass
    finally:
        sys.settrace(earlier)
    return found[0] if found else "a line that did not draw again"
