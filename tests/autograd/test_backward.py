"""backward() and autograd.grad: what accumulates, what is kept, what is refused."""

import numpy as np
import pytest

import dynarl
from dynarl import autograd

STILL = pytest.mark.parametrize("still", [True, False], ids=["retain", "free"])


def leaf(*values):
    return dynarl.tensor(values, requires_grad=True)


def test_gradients_accumulate_over_calls():
    x = leaf(1.0, 2.0)
    for n in (1, 2, 3):
        (x * x).sum().backward()
        assert x.grad.tolist() == [2.0 * n, 4.0 * n]
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_gradients_accumulate_over_uses():
    x = leaf(3.0)
    y = x * x  # two uses
    z = y + y * x + x  # y twice, x again
    z.sum().backward()
    assert x.grad.tolist() == [2 * 3 + 3 * 9 + 1]


def test_add_does_not_share_its_gradient():
    """`add` hands one array to both parents; accumulating into one must not change the other."""
    x, y = leaf(1.0, 1.0), leaf(1.0, 1.0)
    s = x + y
    (s + 2 * x + 3 * x).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0] and y.grad.tolist() == [1.0, 1.0]
    x.grad.zero_()
    assert y.grad.tolist() == [1.0, 1.0]


def test_grad_is_not_an_alias_of_the_gradient_passed_in():
    x = leaf(1.0, 2.0)
    seed = dynarl.ones(2)
    x.clone().backward(seed)
    x.grad.mul_(5)
    assert seed.tolist() == [1.0, 1.0]
    x.clone().backward(seed)
    assert x.grad.tolist() == [6.0, 6.0] and seed.tolist() == [1.0, 1.0]


@STILL
def test_backward_twice(still):
    x = leaf(2.0)
    y = (x**3).sum()
    y.backward(retain_graph=still)
    if still:
        y.backward()
        assert x.grad.tolist() == [24.0]
    else:
        with pytest.raises(RuntimeError, match=r"backward: .*already freed.*retain_graph=True"):
            y.backward()
        assert x.grad.tolist() == [12.0]


@STILL
def test_two_losses_of_one_graph(still):
    x = leaf(2.0)
    h = x.exp()
    (h * 2).sum().backward(retain_graph=still)
    if still:
        (h * 3).sum().backward()
        assert x.grad.tolist() == pytest.approx([5 * 7.389056], rel=1e-6)
    else:
        with pytest.raises(RuntimeError, match=r"test_backward\.py:\d+.*already freed.*retain_graph=True"):
            (h * 3).sum().backward()


def test_create_graph_keeps_the_graph():
    x = leaf(3.0)
    y = (x**4).sum()
    (g,) = autograd.grad(y, x, create_graph=True)
    (h,) = autograd.grad(g, x, create_graph=True)
    (k,) = autograd.grad(h, x)
    assert [t.tolist() for t in (g, h, k)] == [[108.0], [108.0], [72.0]]
    assert x.grad is None
    assert g.requires_grad and not k.requires_grad


def test_backward_create_graph():
    x = leaf(3.0)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    g = x.grad
    x.grad = None
    (g * g).sum().backward()  # d (3x^2)^2 / dx = 36 x^3
    assert x.grad.tolist() == [972.0]


def test_gradient_penalty():
    """The usual second-order loss: (|d critic / d x| - 1)^2 trained by its own gradient."""
    w = dynarl.tensor([[0.3, -0.2], [0.5, 0.1]], requires_grad=True)
    x = dynarl.tensor([[1.0, 2.0]], requires_grad=True)
    y = dynarl.tanh(x @ w).sum()
    (g,) = autograd.grad(y, x, create_graph=True)
    ((g.norm(dim=1) - 1) ** 2).mean().backward()
    assert w.grad is not None and bool(dynarl.isfinite(w.grad).all())


def test_conjugate_gradient_product():
    """TRPO's Hessian-vector product."""
    x = dynarl.tensor([1.0, 2.0, 3.0], requires_grad=True)
    v = dynarl.tensor([1.0, 0.0, -1.0])
    (g,) = autograd.grad((x**3).sum(), x, create_graph=True)
    (hv,) = autograd.grad((g * v).sum(), x)
    assert hv.tolist() == [6.0, 0.0, -18.0]


class TestGrad:
    def test_leaves_grad_untouched(self):
        x = leaf(1.0)
        x.grad = dynarl.tensor([7.0])
        assert autograd.grad((x * 2).sum(), x)[0].tolist() == [2.0]
        assert x.grad.tolist() == [7.0]

    def test_of_an_intermediate(self):
        x = leaf(2.0)
        h = x * 3
        y = (h * h).sum()
        gh, gx = autograd.grad(y, (h, x))
        assert gh.tolist() == [12.0] and gx.tolist() == [36.0]

    def test_several_outputs_add_up(self):
        x = leaf(2.0)
        (g,) = autograd.grad([x * 2, x * x], [x], grad_outputs=[dynarl.tensor([1.0]), dynarl.tensor([10.0])])
        assert g.tolist() == [42.0]

    def test_unused(self):
        x, z = leaf(1.0), leaf(1.0)
        y = (x * 2).sum()
        with pytest.raises(RuntimeError, match=r"grad: input 1 .*not used.*allow_unused=True"):
            autograd.grad(y, (x, z), retain_graph=True)
        assert autograd.grad(y, (x, z), allow_unused=True, retain_graph=True)[1] is None
        assert autograd.grad(y, (x, z), materialize_grads=True)[1].tolist() == [0.0]

    def test_input_without_grad(self):
        x = leaf(1.0)
        with pytest.raises(RuntimeError, match=r"grad: input 0 .*does not require grad"):
            autograd.grad((x * 2).sum(), dynarl.ones(1))

    def test_is_grads_batched_is_not_offered(self):
        with pytest.raises(TypeError, match="is_grads_batched"):
            autograd.grad(leaf(1.0).sum(), leaf(1.0), is_grads_batched=True)

    def test_the_output_itself(self):
        x = leaf(1.0)
        y = (x * 2).sum()
        assert autograd.grad(y, y)[0].item() == 1.0

    def test_same_input_twice(self):
        x = leaf(1.0)
        assert [g.tolist() for g in autograd.grad((x * 2).sum(), (x, x))] == [[2.0], [2.0]]


class TestRefusals:
    def test_not_one_number(self):
        with pytest.raises(RuntimeError, match=r"backward: .*one number.*\(3,\).*gradient="):
            (leaf(1.0, 2.0, 3.0) * 2).backward()

    def test_no_grad_anywhere(self):
        with pytest.raises(RuntimeError, match=r"backward: .*does not require grad"):
            dynarl.ones(1).backward()

    def test_wrong_shape_of_gradient(self):
        with pytest.raises(RuntimeError, match=r"backward: gradient has shape \(2,\), .*\(3,\)"):
            (leaf(1.0, 2.0, 3.0) * 2).backward(dynarl.ones(2))

    def test_gradient_is_a_tensor(self):
        with pytest.raises(TypeError, match="backward: gradient must be a Tensor, got float"):
            leaf(1.0).sum().backward(1.0)

    def test_requires_grad_of_integers(self):
        for make in (lambda: dynarl.arange(3).requires_grad_(), lambda: dynarl.tensor([1, 2], requires_grad=True),
                     lambda: dynarl.zeros(2, dtype=dynarl.bool, requires_grad=True)):  # fmt: skip
            with pytest.raises(RuntimeError, match=r"requires_grad.*floating.*(int64|bool)"):
                make()

    def test_requires_grad_false_of_an_intermediate(self):
        y = leaf(1.0) * 2
        with pytest.raises(RuntimeError, match=r"requires_grad.*leaf.*detach\(\)"):
            y.requires_grad_(False)


def test_backward_inputs():
    x, y = leaf(2.0), leaf(3.0)
    (x * y).sum().backward(inputs=[x])
    assert x.grad.tolist() == [3.0] and y.grad is None


def test_autograd_backward_of_several():
    x = leaf(2.0)
    autograd.backward([(x * 2).sum(), x * x], [None, dynarl.tensor([1.0])])
    assert x.grad.tolist() == [6.0]


def test_retain_grad():
    x = leaf(2.0)
    y = x * 3
    y.retain_grad()
    (y * y).sum().backward()
    assert y.grad.tolist() == [12.0] and x.grad.tolist() == [36.0]


def test_leaf_flags():
    x = leaf(1.0)
    y = x * 2
    assert x.is_leaf and x.requires_grad and x.grad_fn is None
    assert not y.is_leaf and y.requires_grad and y.grad_fn is not None
    assert y.detach().is_leaf and not y.detach().requires_grad
    assert dynarl.ones(1).is_leaf


def test_detach_shares_memory_and_stops_gradients():
    x = leaf(1.0, 2.0)
    d = x.detach()
    assert d.numpy() is x.detach().numpy() or (d.numpy() == x.detach().numpy()).all()
    (x * d).sum().backward()
    assert x.grad.tolist() == [1.0, 2.0]
    with dynarl.no_grad():
        d[0] = 9.0
    assert x.tolist() == [9.0, 2.0]


def test_setting_grad_checks_it():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"grad.*\(3,\).*\(2,\)"):
        x.grad = dynarl.ones(3)
    with pytest.raises(TypeError, match=r"grad: must be a Tensor"):
        x.grad = 1.0


def test_unused_branch_costs_nothing():
    """Nodes outside the loss are not visited, whatever they hold."""
    x = leaf(1.0)
    _ = 1 / (x * 0)  # its gradient would be NaN
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0]


def test_integer_paths_carry_no_gradient():
    x = leaf(1.5, 2.5)
    y = x.long()
    assert not y.requires_grad
    assert not (x > 1).requires_grad and not x.argmax().requires_grad


def test_passes_through_a_retained_graph_are_equal():
    x = dynarl.tensor(np.array([1.0, 2.0]), requires_grad=True)
    a, b = x * 2.0, x * 5.0
    z = a * 3.0
    y = (a + b) * dynarl.tensor(np.array([1.0, 2.0]))  # a and b get one array, before a gets more from z
    out = y.sum() + z.sum()
    for _ in range(3):
        (g,) = dynarl.autograd.grad(out, x, retain_graph=True)
        np.testing.assert_array_equal(g.numpy(), [13.0, 20.0])
    for passes in (1, 2, 3):
        out.backward(retain_graph=True)
        np.testing.assert_array_equal(x.grad.numpy(), passes * np.array([13.0, 20.0]))
