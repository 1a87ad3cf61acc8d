"""Hooks on tensors: what they see, what they may change, how they go away."""

import pytest

import dynarl


def leaf(*values):
    return dynarl.tensor(values, requires_grad=True)


def test_hook_sees_the_total_once():
    x, seen = leaf(1.0), []
    x.register_hook(lambda g: seen.append(g.tolist()))
    (x * 2 + x * 3).sum().backward()
    assert seen == [[5.0]] and x.grad.tolist() == [5.0]


def test_hook_on_an_intermediate_sees_the_total():
    x, seen = leaf(1.0), []
    y = x * 2
    y.register_hook(lambda g: seen.append(g.tolist()))
    (y * 3 + y * 4).sum().backward()
    assert seen == [[7.0]] and x.grad.tolist() == [14.0]


def test_hook_replaces():
    x = leaf(1.0, 2.0)
    y = x * 1
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g.clamp(max=15.0))
    (y * dynarl.tensor([1.0, 2.0])).sum().backward()
    assert x.grad.tolist() == [10.0, 15.0]


def test_hooks_run_in_order_and_can_be_removed():
    x = leaf(1.0)
    first = x.register_hook(lambda g: g + 1)
    x.register_hook(lambda g: g * 10)
    (x * 1).sum().backward()
    assert x.grad.tolist() == [20.0]
    first.remove()
    x.grad = None
    (x * 1).sum().backward()
    assert x.grad.tolist() == [10.0]


def test_hooks_in_autograd_grad():
    x = leaf(2.0)
    y = x * 3
    y.register_hook(lambda g: g * 5)
    assert dynarl.autograd.grad((y * 1).sum(), x)[0].tolist() == [15.0]


def test_hooks_under_create_graph():
    x = leaf(2.0)
    y = x * x
    y.register_hook(lambda g: g * 2)
    (g,) = dynarl.autograd.grad((y * y).sum(), x, create_graph=True)  # 2 * d x^4 = 8 x^3
    assert g.tolist() == [64.0]
    assert dynarl.autograd.grad(g.sum(), x)[0].tolist() != [0.0]


def test_tensor_without_grad_refuses():
    with pytest.raises(RuntimeError, match=r"register_hook: .*require grad"):
        dynarl.ones(2).register_hook(lambda g: None)


def test_error_in_a_hook_leaves_the_engine_usable():
    x = leaf(1.0)
    y = x * 2

    def fails(g):
        raise KeyError("mine")

    handle = y.register_hook(fails)
    with pytest.raises(KeyError, match="mine"):
        y.sum().backward()
    handle.remove()
    assert dynarl.is_grad_enabled()
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0]
