"""Changes in place: what backward still needs is protected, and the message names both lines."""

import inspect

import pytest

import dynarl


def here():
    return inspect.currentframe().f_back.f_lineno


def leaf(*values):
    return dynarl.tensor(values, requires_grad=True)


CHANGES = {
    "mul_": lambda y: y.mul_(2),
    "+=": lambda y: y.__iadd__(1),
    "setitem": lambda y: y.__setitem__(0, 5.0),
    "through a view": lambda y: y[:1].mul_(2),
    "through a reshape": lambda y: y.view(-1).zero_(),
    "through detach": lambda y: y.detach().zero_(),
    "through data": lambda y: None,
    "copy_": lambda y: y.copy_(dynarl.zeros(2)),
}


@pytest.mark.parametrize("change", [c for c in CHANGES if c != "through data"])
def test_changed_after_it_was_saved(change):
    x = leaf(1.0, 2.0)
    y = x * 1.0
    saved_at = here() + 1
    z = y.exp() if change == "none" else y * y
    CHANGES[change](y)
    with pytest.raises(
        RuntimeError,
        match=rf"(?s)backward: .*\(2,\).*mul.*test_inplace\.py:{saved_at} .*changed in place at "
        r".*test_inplace\.py:\d+.*clone\(\)",
    ):
        z.sum().backward()


def test_result_that_is_saved():
    """exp, tanh and sigmoid keep their result: changing it is the common mistake."""
    for f in (dynarl.exp, dynarl.tanh, dynarl.sigmoid, dynarl.sqrt):
        y = f(leaf(1.0, 2.0))
        changed_at = here() + 1
        y += 1
        with pytest.raises(RuntimeError, match=rf"{f.__name__}.*in place at .*test_inplace\.py:{changed_at}"):
            y.sum().backward()


def test_what_is_not_saved_may_change():
    x = leaf(1.0, 2.0)
    y = x * 3.0
    z = y + 1  # add saves nothing
    y.mul_(2)
    (z.sum() + y.sum()).backward()
    assert x.grad.tolist() == [9.0, 9.0]


def test_changes_before_saving_are_fine():
    x = leaf(1.0, 2.0)
    y = x * 1.0
    y += 1
    y *= 2
    (y * y).sum().backward()  # d (2x+2)^2 = 8x + 8
    assert x.grad.tolist() == [16.0, 24.0]


def test_operands_of_ops_on_the_tape_without_grad():
    """A rollout buffer that is overwritten after the loss saved it."""
    w = leaf(1.0, 1.0)
    buffer = dynarl.ones(2)
    loss = (w * buffer).sum()
    buffer[0] = 100.0
    with pytest.raises(RuntimeError, match="in place"):
        loss.backward()


def test_optimizer_step_between_forward_and_backward():
    w = leaf(1.0, 1.0)
    loss = (w * w).sum()
    with dynarl.no_grad():
        w -= 0.1
    with pytest.raises(RuntimeError, match="in place"):
        loss.backward()


def test_optimizer_steps_after_backward_are_free():
    w = leaf(1.0, 1.0)
    for _ in range(3):
        w.grad = None
        (w * w).sum().backward()
        with dynarl.no_grad():
            w -= 0.25 * w.grad
    assert w.tolist() == [0.125, 0.125]


def test_retained_graph_after_a_change():
    w = leaf(2.0)
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    with dynarl.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="in place"):
        loss.backward()


def test_leaf_refused():
    for change in (lambda w: w.add_(1), lambda w: w.__iadd__(1), lambda w: w.__setitem__(0, 1.0), lambda w: w.zero_(),
                   lambda w: w[0].fill_(1.0), lambda w: w.view(-1).mul_(2)):  # fmt: skip
        with pytest.raises(RuntimeError, match=r"leaf.*requires? grad.*no_grad\(\)"):
            change(leaf(1.0, 2.0))


def test_gradient_flows_through_views():
    x = leaf(1.0, 2.0, 3.0, 4.0)
    y = x * 1.0
    view = y.view(2, 2)
    view[0] *= 10  # changes y too
    (y * dynarl.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [10.0, 20.0, 3.0, 4.0]


def test_view_made_before_the_base_changes():
    """Its history would be the old one: refused, naming all three lines, where torch rebuilds it."""
    x = leaf(1.0, 2.0)
    y = x * 1.0
    view = y[1:]
    y.mul_(5)
    assert view.tolist() == [10.0]
    with pytest.raises(
        RuntimeError, match=r"sum .*py:\d+.*uses a view.*taken at.*py:\d+.*in place at.*py:\d+.*take the view"
    ):
        view.sum().backward()
    x.grad = None
    y[1:].sum().backward()
    assert x.grad.tolist() == [0.0, 5.0]


def test_value_that_overlaps():
    y = leaf(1.0, 2.0, 3.0) * 1.0
    y[:2] = y[1:]
    assert y.tolist() == [2.0, 3.0, 3.0]


def test_expanded_memory_is_refused():
    with pytest.raises(RuntimeError, match=r"add_: .*expanded tensor of shape \(2, 3\).*clone\(\)"):
        dynarl.ones(1, 3).expand(2, 3).add_(1)


def test_one_element_is_a_view():
    y = dynarl.zeros(3)
    y[1].fill_(4.0)
    y[-1] += 1
    assert y.tolist() == [0.0, 4.0, 1.0]


def test_view_of_a_buffer_without_grad():
    """A tensor without history gets one when a view of it is written with something that has one."""
    x = leaf(1.0, 2.0)
    buffer = dynarl.zeros(3, 2)
    buffer[1].copy_(x)
    buffer[1:, 0] += x * 10
    assert buffer.requires_grad
    (buffer * buffer).sum().backward()
    assert x.grad.tolist() == [2 * 11 * 11.0, 4.0 + 2 * 20 * 10.0]


def test_numbers_that_are_views_under_no_grad_stay_plain():
    w = leaf(1.0, 2.0)
    with dynarl.no_grad():
        w[0].mul_(3)
    assert w.tolist() == [3.0, 2.0] and w.is_leaf


def test_row_by_row_assignment():
    x = leaf(1.0, 2.0, 3.0)
    out = dynarl.zeros(3, 2)
    for i in range(3):
        out[i] = x[i] * (i + 1)
    assert out.requires_grad and not out.is_leaf
    (out**2).sum().backward()
    assert x.grad.tolist() == [4.0, 32.0, 108.0]


def test_value_changes_after_assignment():
    """The assigned value is copied: changing it later changes neither the tensor nor its gradient."""
    v = dynarl.ones(2)
    y = dynarl.zeros(3, 2)
    y[0] = v
    v.mul_(9)
    assert y[0].tolist() == [1.0, 1.0]


def test_assignment_under_no_grad_keeps_memory():
    y = dynarl.zeros(3)
    view = y[1:]
    with dynarl.no_grad():
        view[:] = 4.0
    assert y.tolist() == [0.0, 4.0, 4.0]


def test_out_of_place_results_are_new_memory():
    x = dynarl.ones(3)
    y = x + 0
    y += 1
    assert x.tolist() == [1.0, 1.0, 1.0]


def test_from_numpy_shares_and_tensor_copies():
    import numpy as np

    array = np.zeros(2, np.float32)
    shared, copied = dynarl.from_numpy(array), dynarl.tensor(array)
    array[0] = 5
    assert shared.tolist() == [5.0, 0.0] and copied.tolist() == [0.0, 0.0]
    assert dynarl.as_tensor(array).numpy() is array or np.shares_memory(dynarl.as_tensor(array).numpy(), array)


def test_wrong_shapes():
    y = dynarl.zeros(2, 3)
    with pytest.raises((RuntimeError, ValueError), match=r"\(4,\).*\(2, 3\)|\(2, 3\).*\(4,\)"):
        y += dynarl.ones(4)
    with pytest.raises((RuntimeError, ValueError), match=r"\(2,\).*\(3,\)|\(3,\).*\(2,\)"):
        y[0] = dynarl.ones(2)
    with pytest.raises((RuntimeError, ValueError), match=r"\(1,\).*\(3,\)|\(3,\).*\(1,\)"):
        y[0, :1] += dynarl.ones(3)
    with pytest.raises(IndexError, match=r"5"):
        y[5] = 0
