"""Cosine annealing, with and without warm restarts (SGDR, arXiv:1608.03983)."""

from __future__ import annotations

from math import cos, floor, log, pi

from dynarl.optim.lr_scheduler.schedule import LRScheduler
from dynarl.optim.optimizer import Optimizer

__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts"]


class CosineAnnealingLR(LRScheduler):
    """Anneal the learning rate to `eta_min` along a half cosine of `T_max` epochs (arXiv:1608.03983 eq. 5)."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        epoch, half, low = self.last_epoch, self.T_max, self.eta_min
        if self._is_initial:
            return self._current_lr()
        if self._step_count == 1 and epoch > 0:
            return self.closed_form_lr()
        if (epoch - 1 - half) % (2 * half) == 0:  # the factor below would divide by zero: leave the valley
            rise = (1 - cos(pi / half)) / 2
            return [lr + (base - low) * rise for base, lr in zip(self.base_lrs, self._current_lr(), strict=True)]
        factor = (1 + cos(pi * epoch / half)) / (1 + cos(pi * (epoch - 1) / half))
        return [factor * (lr - low) + low for lr in self._current_lr()]

    def closed_form_lr(self) -> list[float]:
        height = (1 + cos(self.last_epoch * pi / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Anneal to `eta_min` in `T_0` epochs, restart, and make each period `T_mult` times the last (arXiv:1608.03983)."""

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ValueError(f"CosineAnnealingWarmRestarts: T_0 must be a positive integer, got {T_0!r}")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"CosineAnnealingWarmRestarts: T_mult must be an integer of at least 1, got {T_mult!r}")
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        height = (1 + cos(pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Advance by one epoch, or move to `epoch`, which may be a fraction (epoch + minibatch / minibatches)."""
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        else:
            self._place(epoch)
        self._step_count += 1
        self.last_epoch = floor(epoch)
        self._write(self.get_lr())

    def _place(self, epoch: float) -> None:
        if epoch < 0:
            raise ValueError(f"CosineAnnealingWarmRestarts: epoch must not be negative, got {epoch}")
        if self.T_mult == 1:
            self.T_i, self.T_cur = self.T_0, epoch % self.T_0
            return
        restarts = int(log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
        self.T_i = self.T_0 * self.T_mult**restarts
        self.T_cur = epoch - (self.T_i - self.T_0) / (self.T_mult - 1)
