"""Optimisers, clipping and Polyak averages on another device: the CPU's values, no silent copies, no waiting."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import dynarl
from dynarl import optim
from tests.helpers import strict_device

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    ("AdamW", {}),
    ("RMSprop", {"centered": True, "momentum": 0.9}),
]


def parameters(device: str) -> list[Any]:
    rng = np.random.default_rng(0)
    shapes = ((3, 2), (3,), ())
    return [dynarl.tensor(rng.normal(size=s).astype(np.float32)).to(device).requires_grad_() for s in shapes]


def values(params: list[Any]) -> list[Any]:
    return [p.detach().cpu().numpy() for p in params]


def step(optimizer: Any, params: list[Any], skip: int | None = None) -> None:
    optimizer.zero_grad()
    sum((p * p * p).sum() for i, p in enumerate(params) if i != skip).backward()
    optim.clip_grad_norm_(params, 0.5)
    optim.clip_grad_value_(params, 0.4)
    optimizer.step()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_steps_equal_those_on_the_cpu(name: str, options: dict[str, Any], device: str) -> None:
    both = [parameters("cpu"), parameters(device)]
    optimizers = [getattr(optim, name)(params, lr=0.05, **options) for params in both]
    for skip in (1, None, None, 2):
        for optimizer, params in zip(optimizers, both):
            step(optimizer, params, skip)
    for here, there in zip(*map(values, both)):
        np.testing.assert_allclose(there, here, rtol=1e-5)
    fresh = getattr(optim, name)(both[1], lr=7.0)
    fresh.load_state_dict(copy.deepcopy(optimizers[0].state_dict()))  # state saved on another device
    for optimizer, params in zip((optimizers[0], fresh), both):
        step(optimizer, params)
    for here, there in zip(*map(values, both)):
        np.testing.assert_allclose(there, here, rtol=1e-5)


@pytest.mark.parametrize("order", [2.0, 1.0, float("inf")])
def test_norms(order: float, device: str) -> None:
    norms = []
    for where in ("cpu", device):
        params = parameters(where)
        sum((p * p).sum() for p in params).backward()
        norms.append(float(optim.clip_grad_norm_(params, 0.5, order).item()))
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


def test_polyak(device: str) -> None:
    both = [(parameters(where), [p.detach() * 2 for p in parameters(where)]) for where in ("cpu", device)]
    for online, target in both:
        optim.Adam(online)
        optim.polyak_update(online, target, 0.1)
    for here, there in zip(*(values(target) for _, target in both)):
        np.testing.assert_allclose(there, here, rtol=1e-6)


def test_a_step_does_not_wait_for_the_device(device: str) -> None:
    if device != strict_device.NAME:
        pytest.skip("waiting is counted on the stand-in only")
    params = parameters(device)
    optimizer = optim.Adam(params)
    step(optimizer, params)
    before = strict_device.syncs
    for _ in range(3):
        step(optimizer, params)
    assert strict_device.syncs == before
