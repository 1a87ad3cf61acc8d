"""Lines that change something: found by running a program again under a trace function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from dynarl.batching.guard.ownership import is_users_code

__all__ = ["changing_line"]


def changing_line(run: Callable[[], Any], changed: Callable[[], bool], *, callers: bool) -> str | None:
    """Run a program again and return the first line after which `changed()` is true, as `file:line in function`.

    With `callers` the lines that called the function are given too.
    """
    found: list[str] = []
    at: dict[FrameType, tuple[CodeType, int]] = {}

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if found or not is_users_code(frame.f_code):
            return None
        if changed():
            here: FrameType | None = frame
            if event == "call":  # it happened in the line that makes this call
                here = frame.f_back
                while here is not None and here not in at:
                    here = here.f_back
            while here is not None and (callers or not found):
                if here in at:
                    code, line = at[here]
                    found.append(f"{code.co_filename}:{line} in {code.co_name}")
                here = here.f_back
            return None
        at[frame] = frame.f_code, frame.f_lineno
        return trace

    earlier = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except Exception:  # the program may fail, since it finds other values now
        pass
    finally:
        sys.settrace(earlier)
    return ", called at ".join(found[:_MOST_CALLERS]) or None


_MOST_CALLERS = 4
