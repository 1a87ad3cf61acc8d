"""Modules off the CPU: on the strict stand-in, or on a GPU with --device cuda."""

import copy

import numpy as np
import pytest

import dynarl
from dynarl import nn


def host(t):
    return t.detach().cpu().numpy()


def build():
    return nn.Sequential(
        nn.Linear(4, 8),
        nn.Tanh(),
        nn.LayerNorm(8),
        nn.Linear(8, 8),
        nn.GELU(),
        nn.RMSNorm(8),
        nn.Linear(8, 3),
        nn.ReLU(),
    )


def test_network_agrees_with_the_cpu(device):
    net = build()
    moved = copy.deepcopy(net).to(device)
    assert all(p.device == device for p in moved.parameters())
    x = dynarl.randn(5, 4)
    a, b = net(x), moved(x.to(device))
    np.testing.assert_allclose(host(a), host(b), rtol=1e-4, atol=1e-5)
    (a * a).sum().backward()
    (b * b).sum().backward()
    for p, q in zip(net.parameters(), moved.parameters()):
        assert q.grad.device == device
        np.testing.assert_allclose(host(p.grad), host(q.grad), rtol=1e-3, atol=1e-5)


def test_state_dicts_cross_devices(device):
    net, other = build(), build().to(device)
    other.load_state_dict(net.state_dict())
    net.load_state_dict({k: v * 2 for k, v in other.state_dict().items()})
    for p, q in zip(net.parameters(), other.parameters()):
        assert p.device == "cpu" and q.device == device
        np.testing.assert_array_equal(host(p), 2 * host(q))
    other.cpu()
    assert all(p.device == "cpu" for p in other.parameters())


@pytest.mark.parametrize(
    "fill",
    [
        "uniform_",
        "normal_",
        "ones_",
        "zeros_",
        "eye_",
        "orthogonal_",
        "xavier_normal_",
        "kaiming_uniform_",
        "trunc_normal_",
    ],
)
def test_init(device, fill):
    w = getattr(nn.init, fill)(dynarl.empty(4, 3, device=device))
    assert w.device == device and np.isfinite(host(w)).all()


def test_layers_made_on_a_device(device):
    assert nn.Linear(2, 2, device=device).weight.device == device
    table = nn.Embedding(4, 2, padding_idx=0, device=device)
    y = table(dynarl.tensor([[0, 3]], device=device))
    y.sum().backward()
    np.testing.assert_array_equal(host(table.weight.grad)[:, 0], [0, 0, 0, 1])
    assert nn.Dropout(0.5)(dynarl.ones(8, device=device)).device == device
    assert nn.functional.one_hot(dynarl.tensor([1], device=device), 3).tolist() == [[0, 1, 0]]


def test_losses(device):
    x, t = dynarl.randn(5, 3), dynarl.rand(5, 3)
    classes = dynarl.tensor([0, 1, 2, 1, 0])
    for loss, target in (
        (nn.MSELoss(), t),
        (nn.HuberLoss(), t),
        (nn.SmoothL1Loss(beta=0.5), t),
        (nn.CrossEntropyLoss(weight=dynarl.rand(3), ignore_index=2, label_smoothing=0.1), classes),
        (nn.BCEWithLogitsLoss(), t),
        (nn.KLDivLoss(reduction="batchmean"), t),
    ):
        expected = loss(x, target)
        found = loss.to(device)(x.to(device), target.to(device))
        assert found.device == device
        np.testing.assert_allclose(host(found), host(expected), rtol=1e-5)
