"""Reduce the learning rate when a metric has stopped improving."""

from __future__ import annotations

from math import inf
from typing import Any, Literal, SupportsFloat

from dynarl.optim.lr_scheduler.schedule import check_optimizer, per_group
from dynarl.optim.optimizer import Optimizer

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau:
    """Multiply the learning rate by `factor` after more than `patience` calls of `step(metric)` without improvement.

    An improvement beats the best metric by `threshold`, as a fraction of it (`threshold_mode="rel"`) or
    absolutely ("abs"). After a reduction, `cooldown` calls do not count.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        check_optimizer("ReduceLROnPlateau", optimizer)
        if factor >= 1.0:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1, got {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"ReduceLROnPlateau: threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}")
        self.optimizer = optimizer
        self.min_lrs: list[float] = per_group("ReduceLROnPlateau: min_lr", optimizer, min_lr)
        self.mode, self.factor, self.patience, self.cooldown, self.eps = mode, factor, patience, cooldown, eps
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.best = inf if mode == "min" else -inf
        self.last_epoch = self.cooldown_counter = self.num_bad_epochs = 0
        self._last_lr = [group["lr"] for group in optimizer.param_groups]

    @property
    def in_cooldown(self) -> bool:
        """Return whether calls after the last reduction still do not count."""
        return self.cooldown_counter > 0

    def get_last_lr(self) -> list[float]:
        """Return the learning rates in effect after the last step, one a group."""
        return self._last_lr

    def step(self, metrics: SupportsFloat, epoch: int | None = None) -> None:
        """Take a new value of the metric."""
        current = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._improves(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser."""
        return {name: value for name, value in vars(self).items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a result of `state_dict()`, dynarl's or PyTorch's."""
        vars(self).update(state_dict)

    def _improves(self, metric: float) -> bool:
        if self.threshold_mode == "abs":
            margin = self.threshold
            return metric < self.best - margin if self.mode == "min" else metric > self.best + margin
        if self.mode == "min":
            return metric < self.best * (1.0 - self.threshold)
        return metric > self.best * (1.0 + self.threshold)

    def _reduce(self) -> None:
        if len(self.min_lrs) != len(self.optimizer.param_groups):
            raise RuntimeError(
                f"ReduceLROnPlateau: the optimizer now has {len(self.optimizer.param_groups)} parameter groups but "
                f"min_lrs {len(self.min_lrs)} values; set scheduler.min_lrs to one for each group"
            )
        for group, floor in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            lr = max(float(group["lr"]) * self.factor, floor)
            if float(group["lr"]) - lr > self.eps:
                group["lr"] = lr
