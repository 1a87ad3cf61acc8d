"""The 1cycle policy: the learning rate rises, then falls far below its start, momentum inversely (arXiv:1708.07120)."""

from __future__ import annotations

from math import cos, pi
from typing import Any, Literal

from dynarl.optim.lr_scheduler.schedule import LRScheduler, check_optimizer, per_group
from dynarl.optim.optimizer import Optimizer

__all__ = ["OneCycleLR"]

Phase = tuple[float, str, str, str, str]
"""Last step, and the group's keys of: learning rate at the start and end, momentum at the start and end."""


class OneCycleLR(LRScheduler):
    """Anneal from max_lr / div_factor to max_lr and on to that start / final_div_factor, once, in `total_steps`.

    `cycle_momentum` moves `momentum`, or the first of `betas`, between `max_momentum` and `base_momentum`
    the other way. Step it after every minibatch; stepping past `total_steps` raises ValueError.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer("OneCycleLR", optimizer)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start must lie in [0, 1], got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.use_beta1 = "betas" in optimizer.defaults
        self._phases = _phases(self.total_steps, pct_start, three_phase)
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, per_group("max_lr", optimizer, max_lr), strict=True):
                group["initial_lr"] = lr / div_factor
                group["max_lr"] = lr
                group["min_lr"] = group["initial_lr"] / final_div_factor
        if cycle_momentum:
            self._prepare_momentum(optimizer, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the learning rates of `last_epoch`, and write the momentum that belongs to them."""
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(f"OneCycleLR: step {step} is past the {self.total_steps} steps of the schedule")
        begin = 0.0
        phase = self._phases[-1]
        for phase in self._phases:
            if step <= phase[0] or phase is self._phases[-1]:
                break
            begin = phase[0]
        end, lr_from, lr_to, momentum_from, momentum_to = phase
        fraction = (step - begin) / (end - begin)
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                self._set_momentum(group, self._anneal(group[momentum_from], group[momentum_to], fraction))
        return [self._anneal(group[lr_from], group[lr_to], fraction) for group in self.optimizer.param_groups]

    def _anneal(self, start: float, end: float, fraction: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * fraction + start
        return end + (start - end) / 2.0 * (1 + cos(pi * fraction))

    def _prepare_momentum(self, optimizer: Optimizer, base: Any, peak: Any, last_epoch: int) -> None:
        if not self.use_beta1 and "momentum" not in optimizer.defaults:
            raise ValueError(
                f"OneCycleLR: cycle_momentum needs an optimizer with momentum or betas, {type(optimizer).__name__} "
                "has neither; pass cycle_momentum=False"
            )
        bases, peaks = per_group("base_momentum", optimizer, base), per_group("max_momentum", optimizer, peak)
        if last_epoch == -1:
            for group, low, high in zip(optimizer.param_groups, bases, peaks, strict=True):
                self._set_momentum(group, high)
                group["max_momentum"], group["base_momentum"] = high, low

    def _set_momentum(self, group: dict[str, Any], value: float) -> None:
        if self.use_beta1:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


def _total_steps(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total_steps is None:
        if epochs is None or steps_per_epoch is None:
            raise ValueError("OneCycleLR: give total_steps, or both epochs and steps_per_epoch")
        total_steps = epochs * steps_per_epoch
    if not isinstance(total_steps, int) or total_steps <= 0:
        raise ValueError(f"OneCycleLR: the number of steps must be a positive integer, got {total_steps!r}")
    return total_steps


def _phases(total_steps: int, pct_start: float, three_phase: bool) -> list[Phase]:
    top, last = float(pct_start * total_steps), float(total_steps - 1)
    up: Phase = (top - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum")
    if three_phase:
        down: Phase = (2 * top - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum")
        return [up, down, (last, "initial_lr", "min_lr", "max_momentum", "max_momentum")]
    return [up, (last, "max_lr", "min_lr", "base_momentum", "max_momentum")]
