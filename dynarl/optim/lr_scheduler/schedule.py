"""LRScheduler: the base class of schedules, which counts steps and writes the learning rate."""

from __future__ import annotations

import warnings
from typing import Any

from dynarl.optim.optimizer import Optimizer

__all__ = ["LRScheduler", "check_optimizer", "per_group"]


def check_optimizer(name: str, optimizer: Any) -> None:
    """Raise TypeError for anything but an Optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{name}: expected an Optimizer, got {type(optimizer).__name__}")


def per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """Return one value per parameter group: the same for all, or those of a list of matching length."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * groups
    if len(value) != groups:
        raise ValueError(f"{name}: expected {groups} values, one for each parameter group, got {len(value)}")
    return list(value)


class LRScheduler:
    """Write a new `lr` into every parameter group at each `step()`.

    A subclass defines `get_lr()`, the next learning rates computed from the current ones (so that a schedule composes
    with others and with manual changes), and where a formula exists `closed_form_lr()`, the same computed from
    `base_lrs` and `last_epoch` only. The constructor takes the step to epoch 0, as in PyTorch.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(type(self).__name__, optimizer)
        self.optimizer = optimizer
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{type(self).__name__}: param_groups[{index}] has no 'initial_lr', which resuming with "
                    f"last_epoch {last_epoch} needs; load the optimizer's state_dict first"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def get_lr(self) -> list[float]:
        """Return the learning rates of `last_epoch`, one a group, from those in effect before it."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_lr()")

    def closed_form_lr(self) -> list[float]:
        """Return the learning rates of `last_epoch` from `base_lrs` alone, where such a formula exists."""
        return self.get_lr()

    def get_last_lr(self) -> list[float]:
        """Return the learning rates this scheduler wrote last, one a group."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Advance by one epoch, after `optimizer.step()`; `epoch` jumps there by the closed form."""
        if self._step_count == 1 and not self.optimizer.has_stepped:
            warnings.warn(
                f"{type(self).__name__}.step() was called before optimizer.step(): the first value of the "
                "schedule is never used; call optimizer.step() first",
                UserWarning,
                stacklevel=2,
            )
        self._step_count += 1
        self._update_lr(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser, whose learning rates its own state_dict holds."""
        return {name: value for name, value in vars(self).items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a result of `state_dict()`, dynarl's or PyTorch's."""
        vars(self).update(state_dict)

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        self.step()
        self._is_initial = False

    def _update_lr(self, epoch: int | None = None) -> None:
        if epoch is None:
            self.last_epoch += 1
            values = self.get_lr()
        else:
            self.last_epoch = epoch
            values = self.closed_form_lr()
        self._write(values)

    def _write(self, values: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, values, strict=True):
            group["lr"] = lr
        self._last_lr = self._current_lr()

    def _current_lr(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _scaled(self, factor: float) -> list[float]:
        return [group["lr"] * factor for group in self.optimizer.param_groups]
