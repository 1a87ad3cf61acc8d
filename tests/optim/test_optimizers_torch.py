"""Every optimiser and option against PyTorch, over many steps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from dynarl import optim
from tests.helpers.torch_pair import Pair, to_torch

torch = pytest.importorskip("torch")

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-5}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "amsgrad": True}),
    ("Adam", {"lr": 0.05, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.1, "amsgrad": True}),
    ("AdamW", {"lr": 0.05, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.9, "eps": 1e-5, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.02, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.02, "centered": True}),
    ("RMSprop", {"lr": 0.02, "centered": True, "momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
]
IDS = [f"{name}-{'-'.join(map(str, options.items()))}" for name, options in CASES]


def both(pair: Pair, name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    return getattr(optim, name)(pair.ours, **options), getattr(torch.optim, name)(pair.theirs, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_steps_agree(name: str, options: dict[str, Any], dtype: Any) -> None:
    pair = Pair(torch, dtype)
    ours, theirs = both(pair, name, options)
    for _ in range(50):
        pair.backward()
        ours.step()
        theirs.step()
    pair.check()


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_parameters_without_gradients_are_skipped(name: str, options: dict[str, Any]) -> None:
    pair = Pair(torch)
    ours, theirs = both(pair, name, options)
    for skip in ((1,), (1, 3), (), (0, 4), (2,), (), (1, 2, 3), (), ()):
        pair.backward(skip)
        ours.step()
        theirs.step()
        pair.check()


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_gradients_and_data_away_from_home(name: str, options: dict[str, Any]) -> None:
    import dynarl

    pair = Pair(torch)
    ours, theirs = both(pair, name, options)
    for step in range(8):
        pair.backward()
        if step % 3 == 1:  # gradients assigned by hand
            for i in (0, 3):
                pair.ours[i].grad = dynarl.tensor(pair.ours[i].grad.numpy() * 2)
                pair.theirs[i].grad = pair.theirs[i].grad * 2
        if step == 4:  # an array of the user's own instead of the flat buffer's
            pair.ours[1].data = dynarl.tensor(np.full(4, 0.5, np.float64)).to(dtype=np.float32)
            pair.theirs[1].data = torch.full((4,), 0.5)
        ours.step()
        theirs.step()
        pair.check()


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_state_dict_goes_both_ways(name: str, options: dict[str, Any]) -> None:
    pair = Pair(torch)
    ours, theirs = both(pair, name, options)
    for _ in range(3):
        pair.backward(skip=(1,))
        ours.step()
        theirs.step()
    saved_ours, saved_theirs = copy.deepcopy(ours.state_dict()), copy.deepcopy(theirs.state_dict())
    assert saved_ours["state"].keys() == {i for i, entry in saved_theirs["state"].items() if entry}
    for i, entry in saved_ours["state"].items():
        assert entry.keys() == {key for key, value in saved_theirs["state"][i].items() if value is not None}
    ours, theirs = both(pair, name, {})
    ours.load_state_dict(saved_theirs)
    theirs.load_state_dict(to_torch(torch, saved_ours))
    for _ in range(3):
        pair.backward()
        ours.step()
        theirs.step()
        pair.check()


@pytest.mark.parametrize(("name", "options"), [CASES[3], CASES[9], CASES[19]])
def test_two_optimizers_over_the_same_parameters(name: str, options: dict[str, Any]) -> None:
    pair = Pair(torch)
    ours, theirs = both(pair, name, options)
    few = optim.Adam([pair.ours[2], pair.ours[0]], lr=0.01), torch.optim.Adam([pair.theirs[2], pair.theirs[0]], lr=0.01)
    for _ in range(5):
        pair.backward()
        for optimizer in (ours, theirs, *few):
            optimizer.step()
        pair.check()


def test_groups_and_changes_on_the_way() -> None:
    pair = Pair(torch)
    groups = [[{"params": p[:2]}, {"params": p[3:], "lr": 0.2, "weight_decay": 0.1}] for p in (pair.ours, pair.theirs)]
    optimizers = optim.Adam(groups[0], lr=0.01), torch.optim.Adam(groups[1], lr=0.01)
    for step in range(9):
        pair.backward()
        for optimizer, params in zip(optimizers, (pair.ours, pair.theirs)):
            if step == 3:
                optimizer.add_param_group({"params": params[2], "betas": (0.5, 0.5)})
            if step == 5:
                optimizer.param_groups[0].update(lr=0.5, betas=(0.8, 0.99), eps=1e-3, weight_decay=0.3)
            if step == 7:
                del optimizer.state[params[1]]
            optimizer.step()
        pair.check()


def test_momentum_switched_on_later() -> None:
    pair = Pair(torch)
    ours, theirs = both(pair, "SGD", {"lr": 0.1, "dampening": 0.5})
    for momentum in (0.0, 0.0, 0.9, 0.9, 0.5, 0.0, 0.9):
        pair.backward()
        for optimizer in (ours, theirs):
            optimizer.param_groups[0]["momentum"] = momentum
            optimizer.step()
        pair.check()


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.1, 1e6])
@pytest.mark.parametrize("flat", [True, False])
def test_clip_grad_norm(norm_type: float, max_norm: float, flat: bool) -> None:
    pair = Pair(torch)
    if flat:
        optim.Adam(pair.ours)
    pair.backward(skip=(1,))
    ours = optim.clip_grad_norm_(pair.ours, max_norm, norm_type)
    theirs = torch.nn.utils.clip_grad_norm_(pair.theirs, max_norm, norm_type)
    assert ours.shape == () and ours.dtype == np.float32
    np.testing.assert_allclose(ours.item(), theirs.item(), rtol=1e-5)
    for p, q in zip(pair.ours, pair.theirs):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5)


def test_clip_grad_value() -> None:
    pair = Pair(torch)
    optim.SGD(pair.ours[1:])
    pair.backward(skip=(2,))
    optim.clip_grad_value_(pair.ours, 0.5)
    torch.nn.utils.clip_grad_value_(pair.theirs, 0.5)
    for p, q in zip(pair.ours, pair.theirs):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy())
