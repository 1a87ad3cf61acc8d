"""Every schedule against PyTorch: values, closed forms, composition, saved state."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dynarl
from dynarl import optim

torch = pytest.importorskip("torch")

CASES: dict[str, Callable[[Any, Any], Any]] = {
    "lambda": lambda s, o: s.LambdaLR(o, lambda epoch: 0.9**epoch),
    "lambdas": lambda s, o: s.LambdaLR(o, [lambda epoch: 0.9**epoch, lambda epoch: 1 / (1 + epoch)]),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda epoch: 0.9 if epoch < 5 else 1.1),
    "step": lambda s, o: s.StepLR(o, 3, gamma=0.5),
    "multistep": lambda s, o: s.MultiStepLR(o, [2, 5, 5, 9], gamma=0.5),
    "constant": lambda s, o: s.ConstantLR(o, factor=0.25, total_iters=4),
    "linear": lambda s, o: s.LinearLR(o, 0.1, 0.7, total_iters=6),
    "linear to zero": lambda s, o: s.LinearLR(o, 1.0, 0.0, total_iters=6),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.8),
    "polynomial": lambda s, o: s.PolynomialLR(o, total_iters=7, power=2.0),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, T_max=4, eta_min=0.01),
    "warm restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2, eta_min=0.01),
    "warm restarts equal": lambda s, o: s.CosineAnnealingWarmRestarts(o, T_0=4),
    "one cycle": lambda s, o: s.OneCycleLR(o, max_lr=0.5, total_steps=16),
    "one cycle linear": lambda s, o: s.OneCycleLR(o, [0.5, 0.2], epochs=4, steps_per_epoch=4, anneal_strategy="linear"),
    "one cycle three": lambda s, o: s.OneCycleLR(o, 0.5, total_steps=16, three_phase=True, cycle_momentum=False),
    "sequential": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.1, total_iters=3), s.ExponentialLR(o, 0.9), s.StepLR(o, 2)], milestones=[3, 8]
    ),
    "chained": lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, total_iters=3), s.ExponentialLR(o, 0.9)]),
    "sequential of chained": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.2, 1.0, 4), s.CosineAnnealingLR(o, T_max=6)], milestones=[4]
    ),
}


def optimizers(name: str = "Adam") -> tuple[Any, Any]:
    made = []
    for lib in (dynarl, torch):
        params = [lib.ones(2, requires_grad=True), lib.ones(3, requires_grad=True)]
        for p in params:
            p.grad = lib.ones(*p.shape)
        made.append(getattr(lib.optim, name)([{"params": params[:1]}, {"params": params[1:], "lr": 0.3}], lr=0.1))
    return made[0], made[1]


def step(pairs: Any) -> None:
    for optimizer, scheduler in pairs:
        optimizer.step()
        scheduler.step()


def check(pairs: Any) -> None:
    (a, x), (b, y) = pairs
    np.testing.assert_allclose(x.get_last_lr(), y.get_last_lr(), rtol=1e-12, atol=1e-15)
    for ours, theirs in zip(a.param_groups, b.param_groups):
        np.testing.assert_allclose(ours["lr"], theirs["lr"], rtol=1e-12, atol=1e-15)
        if "betas" in ours:
            np.testing.assert_allclose(ours["betas"], theirs["betas"], rtol=1e-12)
        if "momentum" in ours:
            np.testing.assert_allclose(ours["momentum"], theirs["momentum"], rtol=1e-12)


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*epoch parameter in `scheduler.step.*")
        yield


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("case", CASES)
def test_values(case: str, name: str) -> None:
    ours, theirs = optimizers(name)
    make = CASES[case]
    pairs = [(ours, make(optim.lr_scheduler, ours)), (theirs, make(torch.optim.lr_scheduler, theirs))]
    check(pairs)
    for _ in range(15):
        step(pairs)
        check(pairs)


@pytest.mark.parametrize("case", [c for c in CASES if "sequential" not in c and "chained" not in c and "one" not in c])
def test_jump_to_an_epoch(case: str) -> None:
    ours, theirs = optimizers()
    make = CASES[case]
    pairs = [(ours, make(optim.lr_scheduler, ours)), (theirs, make(torch.optim.lr_scheduler, theirs))]
    for epoch in (0, 5, 2, 7, 8):
        for optimizer, scheduler in pairs:
            optimizer.step()
            scheduler.step(epoch)
        check(pairs)


def test_warm_restarts_take_fractions() -> None:
    ours, theirs = optimizers()
    make = CASES["warm restarts"]
    pairs = [(ours, make(optim.lr_scheduler, ours)), (theirs, make(torch.optim.lr_scheduler, theirs))]
    for epoch in (0.5, 2.75, 3.0, 9.5, 1.25):
        for optimizer, scheduler in pairs:
            optimizer.step()
            scheduler.step(epoch)
        check(pairs)


@pytest.mark.parametrize("source", ["dynarl", "torch", "json"])
@pytest.mark.parametrize("case", CASES)
def test_state_dict(case: str, source: str) -> None:
    ours, theirs = optimizers()
    make = CASES[case]
    pairs = [(ours, make(optim.lr_scheduler, ours)), (theirs, make(torch.optim.lr_scheduler, theirs))]
    for _ in range(6):
        step(pairs)
    saved = copy.deepcopy(pairs[1 if source == "torch" else 0][1].state_dict())
    if source == "json":
        saved = json.loads(json.dumps(saved))
    groups = ours.state_dict()
    ours, _ = optimizers()
    fresh = make(optim.lr_scheduler, ours)
    ours.load_state_dict(groups)
    fresh.load_state_dict(saved)
    pairs[0] = (ours, fresh)
    check(pairs)
    for _ in range(8):
        step(pairs)
        check(pairs)


@pytest.mark.parametrize("options", [{}, {"mode": "max", "threshold": 0.1}, {"threshold_mode": "abs", "cooldown": 2}])
def test_reduce_on_plateau(options: dict[str, Any]) -> None:
    ours, theirs = optimizers()
    options = {"patience": 2, "factor": 0.5, "min_lr": [0.001, 0.02], **options}
    pairs = [
        (ours, optim.lr_scheduler.ReduceLROnPlateau(ours, **options)),
        (theirs, torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)),
    ]
    for metric in np.random.default_rng(0).normal(size=60).cumsum():
        for optimizer, scheduler in pairs:
            optimizer.step()
            scheduler.step(metric)
        check(pairs)
    fresh = optim.lr_scheduler.ReduceLROnPlateau(ours)
    fresh.load_state_dict(copy.deepcopy(pairs[0][1].state_dict()))
    assert fresh.state_dict() == pairs[0][1].state_dict()
