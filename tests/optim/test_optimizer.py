"""What every optimiser refuses, remembers and reports; and that steps are whole-vector updates in place."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import dynarl
from dynarl import optim
from dynarl.autograd.versions import last_modification
from dynarl.optim.optimizer import Optimizer

ALL = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop]


def parameters(*shapes: Any, dtype: Any = np.float32) -> list[Any]:
    rng = np.random.default_rng(0)
    return [dynarl.tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in shapes or ((3, 2), (3,))]


def backward(params: list[Any]) -> None:
    for p in params:
        p.grad = None
    sum((p * p).sum() for p in params).backward()


@pytest.mark.parametrize("kind", ALL)
class TestErrors:
    def test_empty(self, kind: Any) -> None:
        with pytest.raises(ValueError, match="empty parameter list"):
            kind([])

    def test_tensor_or_not_iterable(self, kind: Any) -> None:
        with pytest.raises(TypeError, match="iterable of Tensors or dicts, got a Tensor"):
            kind(parameters()[0])
        with pytest.raises(TypeError, match="iterable of Tensors or dicts, got int"):
            kind(3)

    def test_not_a_tensor(self, kind: Any) -> None:
        with pytest.raises(TypeError, match="can only optimize Tensors, parameter 1 is a float"):
            kind([*parameters((2,)), 1.0])

    def test_not_floating(self, kind: Any) -> None:
        with pytest.raises(TypeError, match="parameter 0 must be floating, got int64"):
            kind([dynarl.tensor([1, 2])])

    def test_non_leaf(self, kind: Any) -> None:
        with pytest.raises(ValueError, match=r"can't optimize a non-leaf Tensor, parameter 0 of shape \(3, 2\)"):
            kind([p * 2 for p in parameters()])

    def test_set(self, kind: Any) -> None:
        with pytest.raises(TypeError, match="in an order, got a set"):
            kind([{"params": set(parameters())}])

    def test_duplicates(self, kind: Any) -> None:
        p, q = parameters()
        with pytest.raises(ValueError, match="contains duplicate parameters"):
            kind([p, q, p])
        with pytest.raises(ValueError, match="appear in more than one parameter group"):
            kind([{"params": [p, q]}, {"params": [p]}])

    def test_group_not_a_dict(self, kind: Any) -> None:
        with pytest.raises(TypeError, match="param_group must be a dict, got list"):
            kind(parameters()).add_param_group(parameters())

    @pytest.mark.parametrize("option", ["lr", "weight_decay"])
    def test_negative(self, kind: Any, option: str) -> None:
        with pytest.raises(ValueError, match=f"{kind.__name__}: {option} must not be negative, got -1"):
            kind(parameters(), **{option: -1.0})
        with pytest.raises(ValueError, match=f"{kind.__name__}: {option} must not be negative, got nan"):
            kind([{"params": parameters(), option: float("nan")}])

    def test_differentiable(self, kind: Any) -> None:
        with pytest.raises(ValueError, match="differentiable=True is not supported"):
            kind(parameters(), differentiable=True)

    def test_wrong_state_dicts(self, kind: Any) -> None:
        optimizer = kind(parameters())
        good = optimizer.state_dict()
        with pytest.raises(ValueError, match="the loaded state dict has 2 parameter groups, the optimizer 1"):
            optimizer.load_state_dict({"state": {}, "param_groups": good["param_groups"] * 2})
        with pytest.raises(ValueError, match="doesn't match the size of the optimizer's group: 1 parameters"):
            optimizer.load_state_dict({"state": {}, "param_groups": [{"params": [0]}]})
        with pytest.raises(ValueError, match="state of parameter 7, which no parameter group lists"):
            optimizer.load_state_dict({**good, "state": {7: {}}})
        with pytest.raises(ValueError, match=r"parameter 0 has 'best', \w+ keeps \w+"):
            optimizer.load_state_dict({**good, "state": {0: {"best": np.zeros(1)}}})


def test_option_errors() -> None:
    with pytest.raises(ValueError, match=r"Adam: betas\[1\] must lie in \[0, 1\), got 1.0"):
        optim.Adam(parameters(), betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="Adam: eps must not be negative"):
        optim.Adam(parameters(), eps=-1e-8)
    with pytest.raises(ValueError, match="SGD: momentum must not be negative"):
        optim.SGD(parameters(), momentum=-0.1)
    with pytest.raises(ValueError, match="Nesterov momentum requires a momentum and zero dampening"):
        optim.SGD(parameters(), nesterov=True)
    with pytest.raises(ValueError, match="RMSprop: alpha must not be negative"):
        optim.RMSprop(parameters(), alpha=-1.0)
    with pytest.raises(ValueError, match="capturable=True is not supported"):
        optim.Adam(parameters(), capturable=True)


def test_a_failed_load_changes_nothing() -> None:
    params = parameters()
    optimizer = optim.Adam(params, lr=0.1)
    backward(params)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    bad = copy.deepcopy(saved)
    bad["param_groups"][0]["lr"] = 7.0
    bad["state"][1]["exp_avg"] = np.zeros(5)
    with pytest.raises(ValueError, match=r"exp_avg of parameter 1 has shape \(5,\), the parameter \(3,\)"):
        optimizer.load_state_dict(bad)
    del bad["state"][1]["exp_avg"], bad["state"][1]["step"]
    with pytest.raises(ValueError, match="state of parameter 1 has no 'step'"):
        optimizer.load_state_dict(bad)
    assert optimizer.param_groups[0]["lr"] == 0.1
    np.testing.assert_array_equal(optimizer.state[params[1]]["exp_avg"].numpy(), saved["state"][1]["exp_avg"].numpy())


def test_base_class_methods_say_what_is_missing() -> None:
    class Nothing(Optimizer):
        counts_steps = False

    params = parameters()
    backward(params)
    with pytest.raises(NotImplementedError, match=r"Nothing does not define _names\(\)"):
        Nothing(params, {}).step()
    Nothing._names = lambda self, group: ()  # type: ignore[method-assign]
    with pytest.raises(NotImplementedError, match=r"Nothing does not define _update\(\)"):
        Nothing(params, {}).step()


@pytest.mark.parametrize("kind", ALL)
def test_a_network_is_one_span_of_arrays_that_stay(kind: Any) -> None:
    params = parameters((4, 3), (4,), (2, 4), (2,))
    optimizer = kind(params, **({"momentum": 0.9} if kind is optim.SGD else {}))
    for _ in range(3):
        optimizer.zero_grad()
        backward(params)
        optimizer.step()
    plan = optimizer._plans[0]
    assert plan is not None and len(plan.spans) == 1
    assert plan.spans[0].data.shape == (26,)
    arrays = [p.array for p in params]
    backward(params)
    optimizer.step()
    assert optimizer._plans[0] is plan
    assert all(p.array is a and np.shares_memory(a, plan.spans[0].data) for p, a in zip(params, arrays))


@pytest.mark.parametrize("kind", ALL)
def test_float64_stays(kind: Any) -> None:
    params = [*parameters((3,), dtype=np.float64), *parameters((2,))]
    optimizer = kind(params, lr=np.float64(0.1))
    for _ in range(2):
        backward(params)
        optimizer.step()
    assert [p.dtype for p in params] == [np.float64, np.float32]
    for p in params:
        for value in optimizer.state[p].values():
            assert isinstance(value, int) or value.dtype == p.dtype


def test_saved_state_resumes_to_the_same_bytes() -> None:
    def run(steps: list[int]) -> list[bytes]:
        params = parameters()
        optimizer = optim.Adam(params, lr=0.1, amsgrad=True)
        for n in steps:
            for _ in range(n):
                backward(params)
                optimizer.step()
            saved = copy.deepcopy(optimizer.state_dict())
            values = [dynarl.tensor(p.detach().numpy().copy(), requires_grad=True) for p in params]
            params, optimizer = values, optim.Adam(values, lr=7.0)
            optimizer.load_state_dict(saved)
        return [p.detach().numpy().tobytes() for p in params]

    assert run([6]) == run([2, 1, 3])


def test_deepcopy_is_independent() -> None:
    params = parameters()
    optimizer = optim.Adam(params, lr=0.1)
    backward(params)
    optimizer.step()
    twin = copy.deepcopy(optimizer)
    mine = twin.param_groups[0]["params"]
    for a, b in zip(params, mine):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    backward(params)
    optimizer.step()
    backward(mine)
    twin.step()
    for a, b in zip(params, mine):
        assert not np.shares_memory(a.array, b.array)
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_named_parameters_and_repr() -> None:
    optimizer = optim.Adam(zip("ab", parameters()), lr=0.25)
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["a", "b"]
    assert "lr: 0.25" in repr(optimizer)


def test_closure_runs_with_gradients() -> None:
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = sum((p * p).sum() for p in params)
        loss.backward()
        return loss

    with dynarl.no_grad():
        first, second = optimizer.step(closure), optimizer.step(closure)
    assert second.item() < first.item()


def test_zero_grad() -> None:
    params = parameters()
    optimizer = optim.SGD(params)
    backward(params)
    kept = params[0].grad
    values = kept.numpy().copy()
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)
    backward(params)
    optimizer.zero_grad()
    params[0].data = params[0].data * 3
    backward(params)
    np.testing.assert_array_equal(kept.numpy(), values)  # whoever keeps a gradient keeps its values
    optimizer.zero_grad(set_to_none=False)
    assert all((p.grad.numpy() == 0).all() for p in params)


def test_kept_gradients_do_not_change() -> None:
    params = parameters()
    optimizer = optim.Adam(params)
    for _ in range(3):
        optimizer.zero_grad()
        backward(params)
        optimizer.step()
    kept = params[0].grad
    values = kept.numpy().copy()
    optimizer.zero_grad()
    backward(params)
    optimizer.step()
    np.testing.assert_array_equal(kept.numpy(), values)


def test_frozen_parameters() -> None:
    params = parameters()
    params[0].requires_grad_(False)
    frozen = dynarl.ones(2)
    before = params[0].numpy().copy()
    optimizer = optim.Adam([*params, frozen])
    for _ in range(2):
        backward(params[1:])
        optimizer.step()
    np.testing.assert_array_equal(params[0].numpy(), before)
    np.testing.assert_array_equal(frozen.numpy(), [1, 1])
    frozen.requires_grad_()
    backward([frozen])
    optimizer.step()
    assert (frozen.detach().numpy() < 1).all()


def test_backward_after_step_is_refused() -> None:
    params = parameters((3, 3))
    optimizer = optim.SGD(params, lr=0.1)
    loss = (params[0] @ params[0]).sum()
    loss.backward(retain_graph=True)
    before = last_modification()
    optimizer.step()
    assert last_modification() > before
    with pytest.raises(RuntimeError, match=r"changed in place at .*test_optimizer\.py"):
        loss.backward()


def test_adam_from_the_paper() -> None:
    """arXiv:1412.6980, Algorithm 1, in float64."""
    (p,) = parameters((4,), dtype=np.float64)
    optimizer = optim.Adam([p], lr=0.1, betas=(0.8, 0.95), eps=1e-3)
    theta, m, v = p.detach().numpy().copy(), np.zeros(4), np.zeros(4)
    for t in range(1, 20):
        backward([p])
        optimizer.step()
        g = 2 * theta
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        theta -= 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-3)
        np.testing.assert_allclose(p.detach().numpy(), theta, rtol=1e-12)
