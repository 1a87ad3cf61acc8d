"""Every case on the device under test gives the CPU's values and gradients, and nothing leaks to the host."""

import numpy as np
import pytest

import dynarl
from tests.helpers import strict_device
from tests.helpers.case import outputs
from tests.helpers.cases import CASES
from tests.helpers.engine import ENGINE, host, is_tensor


def run(case, device):
    inputs = case.tensors(ENGINE, np.float32, device)
    out = outputs(case.run(ENGINE, *inputs))
    roots = [o for o in out if is_tensor(o) and o.requires_grad]
    if roots:
        dynarl.autograd.backward(roots, [dynarl.full_like(o, 0.7).detach() for o in roots])
    return out, [x.grad for x in inputs]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_case(case, device):
    there, here = run(case, device), run(case, "cpu")
    for got, expected in zip([*there[0], *there[1]], [*here[0], *here[1]]):
        if is_tensor(expected):
            assert str(got.device).startswith(device)
            assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        if expected is not None:
            np.testing.assert_allclose(host(got), host(expected), rtol=2e-5, atol=1e-6)


def test_backward_waits_for_nothing(device):
    if device != strict_device.NAME:
        pytest.skip("only the stand-in counts")
    w = dynarl.randn(4, 3, device=device, requires_grad=True)
    x = dynarl.randn(8, 3, device=device)
    before = strict_device.syncs
    (dynarl.tanh(x @ w.T).softmax(-1).log() ** 2).mean().backward()
    assert strict_device.syncs == before


def test_mixing_devices_names_both(device):
    x = dynarl.ones(2, 3, device=device)
    with pytest.raises(RuntimeError, match=rf"mul: .*one device.*\(2, 3\) float32 on {device}.*\(3,\) float32 on cpu"):
        x * dynarl.ones(3)
    with pytest.raises(RuntimeError, match=rf"{device}.*cpu"):
        x @ dynarl.ones(3)
    assert (x * dynarl.tensor(2.0)).sum().item() == 12.0  # a 0-dim CPU tensor is a number, as in torch


def test_moving(device):
    x = dynarl.arange(6.0).reshape(2, 3).requires_grad_()
    y = x.to(device)
    assert str(y.device).startswith(device) and y.requires_grad
    (y * y).sum().backward()
    assert str(x.grad.device) == "cpu"
    assert x.grad.tolist() == [[0, 2, 4], [6, 8, 10]]
    assert y.to(device) is y
    assert y.cpu().tolist() == x.tolist()
    with pytest.raises(TypeError, match=r"cpu\(\)"):
        y.numpy()
    with pytest.raises(TypeError, match=r"cpu\(\)"):
        np.asarray(y)


def test_creation(device):
    for made in (
        dynarl.zeros(2, device=device), dynarl.full((2,), 3.0, device=device), dynarl.arange(3, device=device),
        dynarl.eye(2, device=device), dynarl.linspace(0, 1, 3, device=device), dynarl.rand(2, device=device),
        dynarl.randn(2, device=device), dynarl.randperm(4, device=device), dynarl.randint(0, 3, (2,), device=device),
        dynarl.ones_like(dynarl.zeros(2, device=device)), dynarl.tensor([1.0], device=device).new_zeros(2),
    ):  # fmt: skip
        assert str(made.device).startswith(device)
    assert dynarl.rand(5, device=device).cpu().max() < 1


def test_unknown_device():
    with pytest.raises((ValueError, RuntimeError), match="device: tpu is not known, expected one of cpu, cuda"):
        dynarl.zeros(2, device="tpu")
    with pytest.raises((ValueError, RuntimeError), match="expected 'cpu', 'cuda' or 'cuda:N'"):
        dynarl.device("cuda:x")


class TestTheStandIn:
    """The stand-in refuses what CuPy refuses."""

    def test_conversion(self):
        with pytest.raises(TypeError, match="Implicit conversion"):
            np.asarray(strict_device.namespace.ones(3))

    def test_mixing(self):
        x = strict_device.namespace.ones(3)
        for mix in (lambda: x + np.ones(3), lambda: np.ones(3) + x, lambda: np.multiply(x, np.ones(3))):
            with pytest.raises(TypeError, match="NumPy array"):
                mix()

    def test_no_scalars(self):
        x = strict_device.namespace.ones((2, 2))
        for value in (x[0, 0], x.sum(), strict_device.namespace.max(x), *x[0]):
            assert type(value) is strict_device.StrictArray and value.shape == ()

    def test_views_know_their_base(self):
        x = strict_device.namespace.ones((2, 2))
        assert x.T[0].base is x and x.base is None and (x + 1).base is None

    def test_out_is_returned(self):
        x = strict_device.namespace.ones(3)
        assert strict_device.namespace.tanh(x, x) is x
        y = x
        y += 1
        assert y is x

    def test_its_names_are_cupys(self):
        """Runs wherever CuPy is installed, with or without a GPU, after the cases have used the namespace."""
        cupy = pytest.importorskip("cupy", exc_type=ImportError)
        assert {n for n in strict_device.namespace.used if not hasattr(cupy, n)} == set()
        assert {n for n in strict_device.MISSING if hasattr(cupy, n)} == set()
