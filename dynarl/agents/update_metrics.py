"""What agents report of their updates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["means", "ratio_metrics"]


def ratio_metrics(log_prob: NDArray[Any], old_log_prob: NDArray[Any], clip_range: float) -> dict[str, float]:
    """Return the approximate KL, mean(ratio - 1 - log ratio) (Schulman's k3), and how often the ratio was clipped."""
    log_ratio = log_prob - old_log_prob
    ratio = np.exp(log_ratio)
    return {
        "train/approx_kl": float((ratio - 1.0 - log_ratio).mean()),
        "train/clip_fraction": float((abs(ratio - 1.0) > clip_range).mean()),
    }


def means(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of each number over the updates that report it."""
    names = {name: None for f in found for name in f if name != "stopped"}
    return {name: sum(f[name] for f in found if name in f) / sum(name in f for f in found) for name in names}
