"""Schedules: numbers that follow the count of environment steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["linear", "spread"]


def linear(start: float, end: float, steps: int, t: int) -> float:
    """Return what has moved from `start` at t = 0 to `end` at t = `steps` in a straight line, and stays there."""
    return end if t >= steps else start + (end - start) * (t / steps)


def spread(epsilon: float, alpha: float, index: NDArray[np.int64], number: int) -> NDArray[np.float64]:
    """Return epsilon ** (1 + alpha i / (number - 1)) for every i in `index`, arXiv:1803.00933 section 4.1.

    Of `number` environments the first then explore much and the last little. One alone has `epsilon` itself.
    """
    exponent: NDArray[np.float64] = 1.0 + alpha * index / max(1, number - 1)
    return np.float64(epsilon) ** exponent
