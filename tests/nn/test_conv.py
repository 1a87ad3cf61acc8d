"""Convolutions: where gradients go, second order on networks, messages."""

import numpy as np
import pytest

import dynarl
from dynarl import nn, optim
from dynarl.nn import functional as F


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 4, 2), nn.Flatten(), nn.Linear(16, 1))


def test_gradients_are_written_into_the_flat_buffer():
    net, images = network(), dynarl.randn(5, 3, 7, 7)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(images).square().mean().backward()
        for parameter in net.parameters():
            assert parameter.grad.array is parameter._leaf.grad_view.array
        before = [parameter.detach().numpy().copy() for parameter in net.parameters()]
        optimizer.step()
        for parameter, old in zip(net.parameters(), before):
            np.testing.assert_allclose(parameter.detach().numpy(), old - 0.1 * parameter.grad.numpy(), rtol=1e-6)


def test_samples_unfolded_in_parts_give_the_same(monkeypatch):
    weight, images = dynarl.randn(4, 3, 3, 3, requires_grad=True), dynarl.randn(5, 3, 7, 7, requires_grad=True)

    def outcome():
        y = F.conv2d(images, weight, stride=2, padding=1)
        return [y.detach().numpy(), *(g.numpy() for g in dynarl.autograd.grad(y.square().sum(), [images, weight]))]

    whole = outcome()
    monkeypatch.setattr("dynarl.autograd.ops.conv._COLUMNS", 2 * 4 * 4 * 27 * 4)  # two samples, two, one
    for part, expected in zip(outcome(), whole):
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-5)
    assert F.conv2d(images[:0], weight).shape == (0, 4, 5, 5)


def test_a_convolution_learns():
    """Where is the bright spot: left or right half?"""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 0.2, (256, 1, 6, 6)).astype(np.float32)
    place = rng.integers(6, size=(2, 256))
    images[np.arange(256), 0, place[0], place[1]] += 1.0
    label = dynarl.tensor((place[1] >= 3).astype(np.int64))
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2))
    optimizer = optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.cross_entropy(net(dynarl.tensor(images)), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_printing_and_initial_values():
    layer = nn.Conv2d(3, 16, 5, stride=2, padding=1)
    assert repr(layer) == "Conv2d(3, 16, kernel_size=(5, 5), stride=(2, 2), padding=(1, 1))"
    assert repr(nn.MaxPool2d(2)) == "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"
    assert repr(nn.AvgPool2d(3, 2)) == "AvgPool2d(kernel_size=3, stride=2, padding=0)"
    bound = 1 / np.sqrt(3 * 25)
    assert 0.9 * bound < abs(layer.weight.detach().numpy()).max() <= bound
    assert list(layer.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(4, 4, 3, groups=2), r"Conv2d: groups must be 1, got 2"),
        (lambda: nn.Conv2d(4, 4, 3, padding_mode="circular"), r"padding_mode must be 'zeros', got 'circular'"),
        (lambda: nn.Conv2d(4, 4, 2, padding="same"), r"padding: 'same' needs stride 1 and an odd kernel"),
        (lambda: nn.Conv2d(4, 4, 0), r"kernel_size: must be one or two whole numbers of at least 1, got 0"),
        (lambda: nn.Conv2d(4, 4, 3, padding=-1), r"padding: must be one or two whole numbers of at least 0, got -1"),
        (lambda: F.conv2d(dynarl.zeros(1, 4, 3, 3), dynarl.zeros(2, 2, 1, 1), groups=2), r"conv2d: groups must be 1"),
        (lambda: nn.Conv2d(3, 4, 3)(dynarl.zeros(2, 4, 5, 5)), r"with the same C, got \(2, 4, 5, 5\)"),
        (lambda: nn.Conv2d(3, 4, 3)(dynarl.zeros(5, 5)), r"images must be \[B, C, H, W\]"),
        (lambda: nn.Conv2d(3, 4, 8)(dynarl.zeros(1, 3, 5, 5)), r"the kernel \(8, 8\) must fit into the image"),
        (lambda: nn.Conv2d(3, 4, 3)(dynarl.zeros(1, 3, 5, 5, dtype=dynarl.uint8)), r"convert them with .float\(\)"),
        (lambda: nn.Conv2d(3, 4, 3)(dynarl.zeros(1, 3, 5, 5, dtype=dynarl.float64)), "must have one dtype"),
        (lambda: F.max_pool2d(dynarl.zeros(1, 3, 5, 5), 2, 2, 2), "padding must be at most half of the kernel"),
    ],
)
def test_messages(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
