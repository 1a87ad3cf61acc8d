"""Schedules composed of schedules: one after another, or all at each step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from dynarl.optim.lr_scheduler.plateau import ReduceLROnPlateau
from dynarl.optim.lr_scheduler.schedule import LRScheduler
from dynarl.optim.optimizer import Optimizer

__all__ = ["ChainedScheduler", "SequentialLR"]


def _check(name: str, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> Optimizer:
    if len(schedulers) < 1:
        raise ValueError(f"{name}: expected at least one scheduler, got none")
    for index, scheduler in enumerate(schedulers):
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError(f"{name}: scheduler {index} is ReduceLROnPlateau, whose step needs a metric")
        if not isinstance(scheduler, LRScheduler):
            raise TypeError(f"{name}: scheduler {index} must be an LRScheduler, got {type(scheduler).__name__}")
        optimizer = optimizer or scheduler.optimizer
        if scheduler.optimizer is not optimizer:
            raise ValueError(
                f"{name}: all schedulers must belong to the same optimizer, scheduler {index} "
                f"({type(scheduler).__name__}) has another"
            )
    assert optimizer is not None
    return optimizer


class _Composition(LRScheduler):
    _schedulers: list[LRScheduler]

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        state["_schedulers"] = [scheduler.state_dict() for scheduler in self._schedulers]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        for scheduler, saved in zip(self._schedulers, state.pop("_schedulers"), strict=True):
            scheduler.load_state_dict(saved)
        vars(self).update(state)


class SequentialLR(_Composition):
    """Run one scheduler after another; `milestones[i]` is the epoch at which scheduler i + 1 takes over."""

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = _check("SequentialLR", schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: expected one milestone between each two schedulers, got {len(milestones)} "
                f"milestones for {len(schedulers)} schedulers"
            )
        self._schedulers, self._milestones = list(schedulers), list(milestones)
        self.last_epoch = last_epoch + 1
        # All schedulers have taken their first step in their constructors; undo it for all but the one of epoch 0.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        _undo(self)
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self, epoch: int | None = None) -> None:
        """Advance by one epoch; `epoch` is not supported."""
        if epoch is not None:
            raise ValueError(f"SequentialLR: step() cannot jump to an epoch, got {epoch}")
        self.last_epoch += 1
        index = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[index]
        if index > 0 and self._milestones[index - 1] == self.last_epoch:
            scheduler._update_lr(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


def _undo(composition: _Composition) -> None:
    for scheduler in composition._schedulers:
        if isinstance(scheduler, _Composition):
            _undo(scheduler)
        else:
            scheduler.last_epoch -= 1


class ChainedScheduler(_Composition):
    """Step all schedulers at each epoch, each applied to the learning rate that the one before it wrote."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self.optimizer = _check("ChainedScheduler", schedulers, optimizer)
        self._schedulers = list(schedulers)
        self._last_lr = self._current_lr()

    def step(self, epoch: int | None = None) -> None:
        """Advance every scheduler by one epoch; `epoch` is not supported."""
        if epoch is not None:
            raise ValueError(f"ChainedScheduler: step() cannot jump to an epoch, got {epoch}")
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._current_lr()
