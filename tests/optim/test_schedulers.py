"""What the schedulers refuse and warn about (their values are compared with PyTorch's elsewhere)."""

from __future__ import annotations

from typing import Any

import pytest

import dynarl
from dynarl import optim
from dynarl.optim import lr_scheduler as s


def optimizer(kind: Any = optim.SGD) -> Any:
    p = dynarl.ones(1, requires_grad=True)
    p.grad = dynarl.ones(1)
    return kind([p], lr=0.1)


def test_epoch_zero_is_taken_at_construction() -> None:
    o = optimizer()
    scheduler = s.LambdaLR(o, lambda epoch: 0.5 / (1 + epoch))
    assert scheduler.last_epoch == 0
    assert o.param_groups[0] == {**o.param_groups[0], "lr": 0.05, "initial_lr": 0.1}
    assert scheduler.get_last_lr() == [0.05]


def test_stepping_before_the_optimizer_warns() -> None:
    scheduler = s.ExponentialLR(optimizer(), 0.9)
    with pytest.warns(UserWarning, match=r"ExponentialLR.step\(\) was called before optimizer.step\(\)"):
        scheduler.step()


def test_not_an_optimizer() -> None:
    for make in (lambda x: s.StepLR(x, 3), s.ReduceLROnPlateau, lambda x: s.OneCycleLR(x, 0.1, 5)):
        with pytest.raises(TypeError, match="expected an Optimizer, got int"):
            make(3)  # type: ignore[no-untyped-call]


def test_resuming_needs_the_initial_lr() -> None:
    with pytest.raises(KeyError, match=r"param_groups\[0\] has no 'initial_lr'"):
        s.StepLR(optimizer(), 3, last_epoch=4)


def test_base_class_needs_get_lr() -> None:
    with pytest.raises(NotImplementedError, match=r"LRScheduler does not define get_lr\(\)"):
        s.LRScheduler(optimizer())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: s.LambdaLR(o, [abs, abs]), "expected 1 values, one for each parameter group, got 2"),
        (lambda o: s.ConstantLR(o, factor=1.5), r"factor must lie in \[0, 1\], got 1.5"),
        (lambda o: s.LinearLR(o, start_factor=0.0), r"start_factor must lie in \(0, 1\], got 0.0"),
        (lambda o: s.LinearLR(o, end_factor=-1.0), r"end_factor must lie in \[0, 1\], got -1.0"),
        (lambda o: s.CosineAnnealingWarmRestarts(o, 0), "T_0 must be a positive integer, got 0"),
        (lambda o: s.CosineAnnealingWarmRestarts(o, 2, 0), "T_mult must be an integer of at least 1, got 0"),
        (lambda o: s.CosineAnnealingWarmRestarts(o, 2).step(-1), "epoch must not be negative, got -1"),
        (lambda o: s.OneCycleLR(o, 0.1), "give total_steps, or both epochs and steps_per_epoch"),
        (lambda o: s.OneCycleLR(o, 0.1, 0), "must be a positive integer, got 0"),
        (lambda o: s.OneCycleLR(o, 0.1, 5, pct_start=2.0), r"pct_start must lie in \[0, 1\], got 2.0"),
        (lambda o: s.OneCycleLR(o, 0.1, 5, anneal_strategy="up"), "must be 'cos' or 'linear', got 'up'"),
        (lambda o: s.OneCycleLR(o, [0.1, 0.2], 5), "max_lr: expected 1 values"),
        (lambda o: s.ReduceLROnPlateau(o, factor=1.0), "factor must be below 1, got 1.0"),
        (lambda o: s.ReduceLROnPlateau(o, mode="low"), "mode must be 'min' or 'max', got 'low'"),
        (lambda o: s.ReduceLROnPlateau(o, threshold_mode="x"), "threshold_mode must be 'rel' or 'abs', got 'x'"),
        (lambda o: s.SequentialLR(o, [], []), "SequentialLR: expected at least one scheduler, got none"),
        (lambda o: s.SequentialLR(o, [s.StepLR(o, 2)], [3]), "got 1 milestones for 1 schedulers"),
        (lambda o: s.SequentialLR(o, [s.StepLR(o, 2)], []).step(3), r"step\(\) cannot jump to an epoch, got 3"),
        (lambda o: s.ChainedScheduler([s.StepLR(o, 2)]).step(3), r"step\(\) cannot jump to an epoch, got 3"),
        (lambda o: s.ChainedScheduler([s.StepLR(o, 2), s.StepLR(optimizer(), 2)]), "must belong to the same optimizer"),
        (lambda o: s.ChainedScheduler([s.ReduceLROnPlateau(o)]), "scheduler 0 is ReduceLROnPlateau"),
    ],
)
def test_values_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(optimizer())


def test_types_refused() -> None:
    with pytest.raises(TypeError, match="lr_lambda must be callable, got float"):
        s.LambdaLR(optimizer(), 0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="scheduler 0 must be an LRScheduler, got str"):
        s.ChainedScheduler(["x"], optimizer())  # type: ignore[list-item]


def test_one_cycle_needs_momentum_and_ends() -> None:
    o = optimizer()
    del o.defaults["momentum"]
    with pytest.raises(ValueError, match="cycle_momentum needs an optimizer with momentum or betas, SGD has neither"):
        s.OneCycleLR(o, 0.1, 5)
    o = optimizer()
    scheduler = s.OneCycleLR(o, 0.1, 2)
    o.step()
    scheduler.step()
    scheduler.step()
    with pytest.raises(ValueError, match="step 3 is past the 2 steps of the schedule"):
        scheduler.step()


def test_plateau_notices_new_groups() -> None:
    o = optimizer()
    scheduler = s.ReduceLROnPlateau(o, patience=0)
    o.add_param_group({"params": dynarl.ones(1, requires_grad=True)})
    scheduler.step(1.0)
    with pytest.raises(RuntimeError, match="now has 2 parameter groups but min_lrs 1 values"):
        scheduler.step(1.0)


def test_callable_objects_are_saved() -> None:
    class Decay:
        def __init__(self) -> None:
            self.rate = 0.5

        def __call__(self, epoch: int) -> float:
            return self.rate**epoch

    first, second = Decay(), Decay()
    first.rate = 0.25
    saved = s.LambdaLR(optimizer(), first).state_dict()
    s.LambdaLR(optimizer(), second).load_state_dict(saved)
    assert second.rate == 0.25
