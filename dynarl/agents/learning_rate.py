"""The schedule of the learning rate, which all learners share."""

from __future__ import annotations

from typing import Any

from dynarl.optim import Optimizer

__all__ = ["anneal_learning_rate"]


def anneal_learning_rate(config: Any, progress: float, *optimizers: Optimizer | None) -> None:
    """Set the step sizes by `learning_rate_schedule` of a config; `progress` in [0, 1) is the part of the run done."""
    if config.learning_rate_schedule == "linear":
        for optimizer in optimizers:
            if optimizer is not None:
                optimizer.param_groups[0]["lr"] = config.learning_rate * (1.0 - progress)
