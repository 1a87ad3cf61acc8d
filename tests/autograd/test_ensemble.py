"""Networks side by side against separate ones: values, gradients of every operand, outs, second order."""

import itertools

import numpy as np
import pytest

import dynarl
from dynarl.autograd import flatten, gradcheck, gradgradcheck
from dynarl.autograd.ops.affine import mlp
from dynarl.autograd.ops.ensemble import batched_mlp

C, B = 3, 5


def leaf(*shape):
    return dynarl.randn(*shape, dtype=dynarl.float64).requires_grad_()


@pytest.mark.parametrize("activations", [("tanh", None), ("relu", "sigmoid"), ("tanh",)])
@pytest.mark.parametrize("lead", [(B,), (C, B)])
@pytest.mark.parametrize("out", [1, 4, 30])
def test_equals_separate_networks(activations, lead, out):
    x, more = leaf(*lead, 4), leaf(*lead, 2)
    sizes = (6, 7, out) if len(activations) == 2 else (6, out)
    parameters = [p for n, m in itertools.pairwise(sizes) for p in (leaf(C, m, n), leaf(C, m))]

    def f(*operands):
        return batched_mlp(*operands, activations=activations)

    operands = x, more, *parameters
    assert gradcheck(f, operands)
    assert gradgradcheck(f, operands)
    rows = np.concatenate([x.detach().numpy(), more.detach().numpy()], -1)
    for c in range(C):
        one = dynarl.tensor(rows if len(lead) == 1 else rows[c])
        expected = mlp(one, *[p[c] for p in parameters], activations=activations)
        np.testing.assert_allclose(f(*operands)[c].detach(), expected.detach(), atol=1e-12)


@pytest.mark.parametrize("wanted", [(0,), (1,), (0, 1), (2,), (3,), (4, 5), (1, 2), (0, 5)])
def test_some_operands_need_a_gradient(wanted):
    operands = [leaf(B, 4), leaf(B, 2), leaf(C, 7, 6), leaf(C, 7), leaf(C, 2, 7), leaf(C, 2)]
    f = lambda *operands: batched_mlp(*operands, activations=("tanh", None)).square().sum()  # noqa: E731
    every = dynarl.autograd.grad(f(*operands), operands)
    given = [p if i in wanted else p.detach() for i, p in enumerate(operands)]
    for i, g in zip(wanted, dynarl.autograd.grad(f(*given), [given[i] for i in wanted])):
        np.testing.assert_allclose(g, every[i], rtol=1e-12)


def test_fewer_operands():
    x, w, b = leaf(B, 4), leaf(C, 3, 4), leaf(C, 3)
    assert gradcheck(lambda x, w, b: batched_mlp(x, None, w, b, activations=(None,)), (x, w, b))
    assert gradcheck(lambda x, w: batched_mlp(x, None, w, None, activations=("relu",)), (x, w))


@pytest.mark.parametrize(("inputs", "out"), [(4, 30), (6, 5)])
def test_gradients_go_home(inputs, out):
    x = dynarl.randn(B, inputs)
    w, b = dynarl.randn(C, out, inputs).requires_grad_(), dynarl.randn(C, out).requires_grad_()
    apart = [p.detach().clone().requires_grad_() for p in (w, b)]
    flatten([w, b])
    for p, q in ((w, b), apart):
        (batched_mlp(x, None, p, q, activations=("relu",)) * 2).sum().backward()
    assert w.grad is w._leaf.grad_view and b.grad is b._leaf.grad_view
    for mine, other in zip((w, b), apart):
        np.testing.assert_allclose(mine.grad, other.grad, rtol=1e-6)
    batched_mlp(x, None, w, b, activations=(None,)).sum().backward()  # a second backward adds
    batched_mlp(x, None, *apart, activations=(None,)).sum().backward()
    np.testing.assert_allclose(w.grad, apart[0].grad, rtol=1e-5)


def test_errors():
    x, w = dynarl.randn(B, 4), dynarl.randn(C, 3, 4)
    plain = {"activations": (None,)}
    with pytest.raises(ValueError, match=r"x must be \[C, B, in\] or \[B, in\] and weight \[C, out, in\]"):
        batched_mlp(x, None, dynarl.randn(C, 3, 5), None, **plain)
    with pytest.raises(ValueError, match="one number of members"):
        batched_mlp(dynarl.randn(2, B, 4), None, w, None, **plain)
    with pytest.raises(TypeError, match="one dtype"):
        batched_mlp(x.to(dynarl.float64), None, w, None, **plain)
    with pytest.raises(ValueError, match="activation must be one of"):
        batched_mlp(x, None, w, None, activations=("swish",))
