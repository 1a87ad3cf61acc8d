"""`dynarl.autograd.grad` inside per-sample programs: energies, MAML, predictive coding, second order."""

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.batching import PerSampleError, batched
from tests.helpers.per_sample import MODES, TOGETHER, compare

X = np.array([[1.0, 2.0, -1.5], [-1.0, 2.0, 0.5], [3.0, -1.0, 0.25], [-2.0, -2.0, 4.0]], np.float32)
W = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)


def step_of_descent(x):
    z = (x * 0).detach().requires_grad_(True)
    (g,) = dynarl.grad(((z - x) ** 2).sum(), [z])
    return z - 0.5 * g


def energy_descent(x):
    z = x.detach() * 0.5
    for _ in range(4):
        z = z.detach()
        z.requires_grad = True
        energy = ((z - x) ** 2).sum() + (z**4).sum() * 0.1
        if energy < 1:
            break
        (g,) = dynarl.autograd.grad(energy, [z])
        z = z - 0.1 * g
    return z, energy.detach()


def second_order(x):
    z = (x * 1).detach().requires_grad_()
    (g,) = dynarl.grad((z**3 * x).sum(), z, create_graph=True)
    (h,) = dynarl.grad((g * g).sum(), z, create_graph=True)
    if x[0] > 0:
        return g * h
    return g + h


def of_the_argument(x):
    y = (x * x[0]).sum() if x[1] > 0 else (x**3).sum()
    (g,) = dynarl.grad(y, [x], create_graph=True) if x.requires_grad else (x,)
    return y * g


def with_grad_outputs(x):
    z = x.detach().requires_grad_()
    g, unused = dynarl.grad([z * z, z.exp()], [z, x * 1], [x, dynarl.ones(3)], allow_unused=True)
    assert unused is None
    (zero,) = dynarl.grad(z.sum(), [(x * 2).detach().requires_grad_()], materialize_grads=True, allow_unused=True)
    return g, zero


def flags(x):
    z = x.detach()
    before = (z.requires_grad, z.is_leaf)
    z.requires_grad_()
    y = z * 2
    z.retain_grad()
    after = (z.requires_grad, z.is_leaf, y.is_leaf, y.grad_fn is None, z.grad is None)
    y.detach_()
    z.requires_grad_(False)
    return dynarl.tensor([float(flag) for flag in (*before, *after, y.requires_grad, z.requires_grad)]) * x[0].detach()


PROGRAMS = [step_of_descent, energy_descent, second_order, of_the_argument, with_grad_outputs, flags]


@pytest.mark.parametrize("program", PROGRAMS)
def test_gradients_of_one_sample(program):
    compare(program, X, rtol=1e-4, atol=1e-4)
    compare(program, np.random.default_rng(2).normal(size=(24, 3)).astype(np.float32), rtol=1e-3, atol=1e-3)


def test_a_parameter_that_all_samples_share():
    """One inner step of MAML: each sample adapts the shared weights to itself."""
    for second in (False, True):
        weights = [dynarl.tensor(W).requires_grad_() for _ in range(1 + len(MODES))]

        def adapted(w, x, second=second):
            loss = ((w @ x - 1) ** 2).sum()
            (g,) = dynarl.grad(loss, [w], create_graph=second)
            inner = w - 0.1 * g
            if x[0] > 0:
                inner = inner * 2
            return (inner @ x).sum()

        want = sum(adapted(weights[0], dynarl.tensor(x)) * (i + 1.0) for i, x in enumerate(X))
        want.backward()
        for w, mode in zip(weights[1:], MODES):
            run = batched(lambda x, w=w: adapted(w, x), mode=mode)
            got = (run(X) * dynarl.arange(1.0, 5.0)).sum()
            got.backward()
            np.testing.assert_allclose(got.item(), want.item(), rtol=1e-4)
            np.testing.assert_allclose(w.grad.array, weights[0].grad.array, rtol=1e-3, atol=1e-3, err_msg=mode)


def test_predictive_coding_with_a_module():
    net = nn.Linear(3, 3)

    def program(x):
        z = (x.detach() * 0.1).requires_grad_()
        n = 0
        while n < 5:
            error = ((net(z) - x) ** 2).sum()
            (g,) = dynarl.grad(error, [z])
            z = (z - 0.2 * g).detach().requires_grad_()
            n += 1
            if error < 2:
                break
        return ((net(z) - x) ** 2).sum() * n

    compare(program, X, rtol=1e-4, atol=1e-4)


def test_what_is_refused():
    def no_history(x):
        return dynarl.grad((x * 2).sum(), [x.detach()])[0]

    def a_vector(x):
        z = x.detach().requires_grad_()
        return dynarl.grad(z * 2, [z])[0]

    def unused(x):
        z = x.detach().requires_grad_()
        return dynarl.grad((z * 2).sum(), [x.detach().requires_grad_()])[0]

    def integers(x):
        return (x > 0).long().requires_grad_()

    def hooks(x):
        return x.register_hook(lambda g: g)

    def backward(x):
        return (x * 2).sum().backward()

    for program, message in (
        (no_history, r"grad: input 0 of shape \(3,\) does not require grad"),
        (a_vector, r"a gradient can be created only for one number, got shape \(3,\)"),
        (unused, r"grad: input 0 of shape \(3,\) was not used in the graph"),
        (integers, "requires_grad_: only floating tensors can require grad, got int64"),
        (hooks, "register_hook: a hook would see the gradients of all samples"),
        (backward, r"backward: call it outside .* use dynarl\.autograd\.grad"),
    ):
        for mode in TOGETHER:
            with pytest.raises((RuntimeError, PerSampleError), match=message):
                batched(program, mode=mode)(X)
