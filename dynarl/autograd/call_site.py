"""Call sites: the line of the user's code that an operation came from, for error messages."""

from __future__ import annotations

import sys
from types import CodeType, FrameType

__all__ = ["Line", "is_user_code", "line_of", "user_line"]

Line = tuple[CodeType, int]
"""A code object and the index of an instruction in it."""

_PACKAGE = __file__.rpartition("autograd")[0]
_inside: set[str] = set()  # files of this package seen so far: a set lookup costs less than comparing the path


def user_line(depth: int = 1) -> Line:
    """Return (code, instruction) of the nearest caller outside this package; the search starts `depth` frames up.

    Every recorded operation calls this, so it stores two references; `line_of` finds the line number when it is needed.
    """
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        code = frame.f_code
        if code.co_filename not in _inside:
            if not code.co_filename.startswith(_PACKAGE):
                return code, frame.f_lasti
            _inside.add(code.co_filename)
        frame = frame.f_back
    return sys._getframe(depth).f_code, 0


def is_user_code(code: CodeType) -> bool:
    """Return whether code lies outside this package."""
    return not code.co_filename.startswith(_PACKAGE)


def line_of(line: Line | None) -> str:
    """Return a result of `user_line` as the text `file:line in function`."""
    if line is None:
        return "an unrecorded line"
    code, instruction = line
    number: int | None = code.co_firstlineno
    for start, end, candidate in code.co_lines():
        if start <= instruction < end and candidate is not None:
            number = candidate
            break
    return f"{code.co_filename}:{number} in {code.co_name}"
