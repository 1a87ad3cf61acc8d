"""Schedules: numbers that follow the count of environment steps."""

from __future__ import annotations

__all__ = ["linear"]


def linear(start: float, end: float, steps: int, t: int) -> float:
    """Return what has moved from `start` at t = 0 to `end` at t = `steps` in a straight line, and stays there."""
    return end if t >= steps else start + (end - start) * (t / steps)
