"""What a run prints besides its progress, whatever became of its output."""

import contextlib
import sys

__all__ = ["warn"]


def warn(message: str) -> None:
    """Print a warning of a run on stderr; if nobody reads stderr any more, the run continues."""
    with contextlib.suppress(OSError, ValueError):
        print(f"warning: {message}", file=sys.stderr, flush=True)
