"""Fused layers against the same composed of plain operations: values, gradients into outs, second order."""

import itertools

import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.autograd import flatten, gradcheck, gradgradcheck
from dynarl.autograd.ops.affine import linear, mlp

ACTIVATIONS = (None, "tanh", "relu", "sigmoid")


def leaf(*shape):
    return dynarl.randn(*shape, dtype=dynarl.float64).requires_grad_()


def composed(x, *parameters, activations):
    for i, activation in enumerate(activations):
        x = x @ parameters[2 * i].T
        x = x if parameters[2 * i + 1] is None else x + parameters[2 * i + 1]
        x = x if activation is None else getattr(x, activation)()
    return x


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("lead", [(5,), (2, 3), ()])
def test_linear(activation, lead):
    x, w, b = leaf(*lead, 4), leaf(3, 4), leaf(3)
    assert gradcheck(lambda *a: linear(*a, activation=activation), (x, w, b))
    assert gradgradcheck(lambda *a: linear(*a, activation=activation), (x, w, b))
    plain = composed(x, w, b, activations=(activation,))
    np.testing.assert_allclose(linear(x, w, b, activation=activation).detach(), plain.detach(), atol=1e-12)


@pytest.mark.parametrize("activations", [("tanh", None), ("relu", "sigmoid", None), ("tanh", "tanh", "tanh")])
@pytest.mark.parametrize("bias", [True, False])
def test_mlp(activations, bias):
    sizes = (4, 5, 3, 2)[: len(activations) + 1]
    parameters = []
    for i, o in itertools.pairwise(sizes):
        parameters += [leaf(o, i), leaf(o) if bias else None]
    x = leaf(6, 4)
    given = [p for p in (x, *parameters) if p is not None]

    def call(*args):
        found = iter(args)
        return mlp(*(None if p is None else next(found) for p in (x, *parameters)), activations=activations)

    assert gradcheck(call, given) and gradgradcheck(call, given)
    mlp(x, *parameters, activations=activations).square().sum().backward()
    fused = [p.grad.numpy().copy() for p in given]
    for p in given:
        p.grad = None
    composed(x, *parameters, activations=activations).square().sum().backward()
    for a, p in zip(fused, given):
        np.testing.assert_allclose(a, p.grad.numpy(), atol=1e-10)


def test_only_what_needs_a_gradient_gets_one():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    x = dynarl.randn(5, 3)
    net(x).sum().backward()
    assert net[0].weight.grad is None and net[2].weight.grad is not None
    y = dynarl.randn(5, 3).requires_grad_()
    net(y).sum().backward()
    assert y.grad is not None and net[0].weight.grad is None


def test_a_sequential_runs_as_one_operation_into_flat_homes():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    flatten(net.parameters())
    out = net(dynarl.randn(5, 3))
    assert out.grad_fn.name() == "mlp"
    out.sum().backward()
    for p in net.parameters():
        assert p.grad is p._leaf.grad_view and p.grad.array.base is p._leaf.flat.grad
    before = {k: p.grad.numpy().copy() for k, p in net.named_parameters()}
    x = dynarl.randn(5, 3)
    net(x).sum().backward()  # a second backward adds
    assert all((p.grad.numpy() != before[k]).any() for k, p in net.named_parameters() if k.endswith("weight"))


def test_errors():
    with pytest.raises(ValueError, match=r"linear: x must be \[..., in\] and weight \[out, in\], here 3 and \(2, 4\)"):
        linear(dynarl.ones(1, 3), dynarl.ones(2, 4))
    with pytest.raises(TypeError, match="linear: x and weight must have one dtype"):
        linear(dynarl.ones(1, 4, dtype=dynarl.float64), dynarl.ones(2, 4))
    with pytest.raises(ValueError, match="activation must be one of None, 'tanh', 'relu', 'sigmoid', not 'step'"):
        linear(dynarl.ones(1, 4), dynarl.ones(2, 4), activation="step")


def test_a_flat_network_changes_its_dtype():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    flatten(net.parameters())
    net.double()
    assert {p.dtype for p in net.parameters()} == {dynarl.float64}
    net(dynarl.randn(5, 3, dtype=dynarl.float64)).sum().backward()
    assert all(p.grad.dtype == dynarl.float64 for p in net.parameters())
