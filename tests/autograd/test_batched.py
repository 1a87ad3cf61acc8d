"""Layers side by side against separate ones: values, gradients of every operand, homes, second order."""

import numpy as np
import pytest

import dynarl
from dynarl.autograd import flatten, gradcheck, gradgradcheck
from dynarl.autograd.ops.affine import linear
from dynarl.autograd.ops.batched import batched_linear

C, B = 3, 5


def leaf(*shape):
    return dynarl.randn(*shape, dtype=dynarl.float64).requires_grad_()


@pytest.mark.parametrize("activation", [None, "tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("lead", [(B,), (C, B)])
@pytest.mark.parametrize("out", [1, 4, 30])
def test_equals_separate_layers(activation, lead, out):
    x, w, b, more = leaf(*lead, 4), leaf(C, out, 6), leaf(C, out), leaf(*lead, 2)

    def f(x, w, b, more):
        return batched_linear(x, w, b, more, activation=activation)

    assert gradcheck(f, (x, w, b, more))
    assert gradgradcheck(f, (x, w, b, more))
    rows = np.concatenate([x.detach().numpy(), more.detach().numpy()], -1)
    for c in range(C):
        one = dynarl.tensor(rows if len(lead) == 1 else rows[c])
        expected = linear(one, w[c], b[c], activation=activation)
        np.testing.assert_allclose(f(x, w, b, more)[c].detach(), expected.detach(), atol=1e-12)


@pytest.mark.parametrize("arguments", [("x", "w"), ("x", "w", "b")])
def test_fewer_operands(arguments):
    given = {"x": leaf(B, 4), "w": leaf(C, 3, 4), "b": leaf(C, 3)}
    assert gradcheck(batched_linear, tuple(given[a] for a in arguments))


@pytest.mark.parametrize(("inputs", "out"), [(4, 30), (6, 5)])
def test_gradients_go_home(inputs, out):
    x = dynarl.randn(B, inputs)
    w, b = dynarl.randn(C, out, inputs).requires_grad_(), dynarl.randn(C, out).requires_grad_()
    apart = [p.detach().clone().requires_grad_() for p in (w, b)]
    flatten([w, b])
    for p, q in ((w, b), apart):
        (batched_linear(x, p, q, activation="relu") * 2).sum().backward()
    assert w.grad is w._leaf.home and b.grad is b._leaf.home
    for mine, other in zip((w, b), apart):
        np.testing.assert_allclose(mine.grad, other.grad, rtol=1e-6)
    batched_linear(x, w, b).sum().backward()  # a second backward adds
    batched_linear(x, *apart).sum().backward()
    np.testing.assert_allclose(w.grad, apart[0].grad, rtol=1e-5)


def test_errors():
    x, w = dynarl.randn(B, 4), dynarl.randn(C, 3, 4)
    with pytest.raises(ValueError, match=r"x must be \[C, B, in\] or \[B, in\] and weight \[C, out, in\]"):
        batched_linear(x, dynarl.randn(C, 3, 5))
    with pytest.raises(ValueError, match="one number of layers"):
        batched_linear(dynarl.randn(2, B, 4), w)
    with pytest.raises(TypeError, match="one dtype"):
        batched_linear(x.to(dynarl.float64), w)
    with pytest.raises(ValueError, match="activation must be one of"):
        batched_linear(x, w, activation="swish")
