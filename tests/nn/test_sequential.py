"""Sequential fuses Linear with the activation after it, and nobody can tell."""

import numpy as np
import pytest

import dynarl
from dynarl import nn


def values(t):
    return t.detach().numpy()


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Sigmoid, nn.ELU])
def test_fused_equals_unfused(activation):
    net = nn.Sequential(nn.Linear(3, 5), activation(), nn.Linear(5, 2), activation())
    x = dynarl.randn(4, 3).requires_grad_()
    y = net(x)
    (y * y).sum().backward()
    fused = [x.grad.clone(), *(p.grad.clone() for p in net.parameters())]
    net.zero_grad()
    x.grad = None
    z = x
    for layer in net:
        z = layer(z)
    (z * z).sum().backward()
    np.testing.assert_allclose(values(y), values(z), rtol=1e-6, atol=1e-6)
    for a, b in zip(fused, [x.grad, *(p.grad for p in net.parameters())]):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def test_hooks_on_either_part_are_called():
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh())
    x = dynarl.randn(4, 3)
    expected = net(x)
    seen = {}
    for name, layer in (("linear", net[0]), ("tanh", net[1])):
        handle = layer.register_forward_hook(lambda m, args, out, name=name: seen.update({name: out}))
        np.testing.assert_allclose(values(net(x)), values(expected), rtol=1e-6)
        handle.remove()
    np.testing.assert_allclose(values(seen["linear"].tanh()), values(seen["tanh"]), rtol=1e-6)
    seen.clear()
    net(x)
    assert not seen


def test_changes_of_children_take_effect():
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    x = dynarl.randn(4, 3)
    net(x)
    net[1] = nn.ReLU()
    assert net(x).min().item() >= 0
    net.append(nn.Flatten(0))
    assert net(x).shape == (12,)
    net[0].weight = nn.Parameter(dynarl.zeros(3, 3))
    net[0].bias = None
    assert net(x).abs().sum().item() == 0
    net[0].forward = lambda input: input + 1
    np.testing.assert_allclose(values(net[:2](x)), values((x + 1).relu()))
    del net[0].forward
    assert net(x).abs().sum().item() == 0


def test_subclasses_are_called_not_fused():
    class Doubled(nn.Linear):
        def forward(self, input):
            return super().forward(input) * 2

    class Half(nn.Tanh):
        def forward(self, input):
            return super().forward(input) * 0.5

    net = nn.Sequential(Doubled(2, 2), Half())
    x = dynarl.randn(3, 2)
    expected = (nn.functional.linear(x, net[0].weight, net[0].bias) * 2).tanh() * 0.5
    np.testing.assert_allclose(values(net(x)), values(expected), rtol=1e-6)


def test_functional_linear_activation():
    x, w, b = dynarl.randn(3, 2), dynarl.randn(4, 2), dynarl.randn(4)
    plain = nn.functional.linear(x, w, b)
    np.testing.assert_allclose(
        values(nn.functional.linear(x, w, b, activation="tanh")), values(plain.tanh()), rtol=1e-6
    )
    np.testing.assert_allclose(values(nn.functional.linear(x, w)), values(plain - b), rtol=1e-5, atol=1e-6)
