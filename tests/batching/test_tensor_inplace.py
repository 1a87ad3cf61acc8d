"""Changes in place of per-sample tensors: what a program on one plain Tensor does, through all names and views."""

import numpy as np
import pytest

import dynarl
from dynarl.batching import PerSampleError, batched, per_sample
from tests.helpers.per_sample import MODES, TOGETHER, compare

X = np.array([[1.0, 2.0, -1.5], [-1.0, 2.0, 0.5], [3.0, -1.0, 0.25], [-2.0, -2.0, 4.0]], np.float32)


def aliases(x):
    h = x * 1
    other = h
    h += 1
    return h + other


def all_operators(x):
    h = x * 2
    h += x
    h -= 0.5
    h *= x
    h /= 3.0
    return h


def methods(x):
    h = x * 2
    h.add_(x, alpha=2).mul_(0.5).clamp_(-1.0, 2.0)
    g = h.clone()
    g.zero_()
    g.add_(h).tanh_()
    f = x * 3
    f.fill_(2.0)
    c = x * 0
    c.copy_(h * f)
    return h, g, f, c


def after_a_branch(x):
    h = x * 2
    if x[0] > 0:
        h += 1
    else:
        h.mul_(x)
    h += 10
    return h


def before_and_after(x):
    h = x * 1
    other = h
    h += 1
    if x[1] > 0:
        h *= 2
    return other.sum() * h


def in_a_loop(x):
    h = x * 1
    n = 0
    while n < 4 and h.sum() < 12:
        h += x.abs()
        n += 1
    return h


def in_a_for_loop(x):
    total = x[0] * 0
    for v in x:
        if v > 0:
            total += v
    return total


def in_a_helper(x):
    @per_sample
    def step(h):
        if h[0] > 0:
            h += 1
            return h * 2
        h -= 1
        return h * 3

    h = x * 1
    y = step(h)
    return h, y


def items(x):
    h = x * 2
    h[0] = 7.0
    h[1] = x[2] * x[0]
    h[1:] += 1
    h[2] *= x[1]
    return h


def own_index(x):
    h = x * 2
    i = x.argmax()
    h[i] = x[0] * 10
    h[x < 0] = 0.5
    return h


def views(x):
    h = x * 2
    row = h.reshape(1, 3)
    last = h[2]
    h += 1
    row *= 3
    part = row[0, 1:]
    part[0] = x[0]
    return h, row, last, part


def squeezed(x):
    q = (x * 2).unsqueeze(0).squeeze(0)
    q += 1
    m = (x.unsqueeze(1) * x).T
    m += 1
    m[0] = x
    return q, m


def chain_of_branches(x):
    h = x * 1
    for k in range(3):
        if h[k] > 0:
            h *= 2
            if h[0] > 3:
                h -= 1
        else:
            h[k] = 1.5
    return h


def a_view_changes(x):
    h = x * 2
    first = h[:1]
    first += 1
    return h


def a_tensor_with_a_view_changes(x):
    h = x * 2
    first = h[:1]
    h += 1
    return h.detach() * first.detach()


def detached_tensors(x):
    h = x.detach() * 2
    d = h.detach()
    d += 1
    h *= 2
    d[0] = x[1].detach()
    return h, d


def descent_in_place(x):
    w = (x * 1).detach().requires_grad_()
    for _ in range(3):
        loss = ((w - x.detach() + 1) ** 2).sum()
        (g,) = dynarl.grad(loss, [w])
        with dynarl.no_grad():
            w -= 0.1 * g
            if loss.item() < 2.5:
                break
    return w.detach()


def integers(x):
    n = (x > 0).long()
    n += 2
    n[0] = 5
    return n


PROGRAMS = [
    aliases, all_operators, methods, after_a_branch, before_and_after, in_a_loop, in_a_for_loop, in_a_helper, items,
    own_index, a_view_changes, a_tensor_with_a_view_changes, detached_tensors, views, squeezed,
    chain_of_branches, integers,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_values_and_gradients_of_one_sample(program):
    compare(program, X, modes=modes_of(program), gradients=program is not views)


@pytest.mark.parametrize("program", PROGRAMS)
def test_many_samples(program):
    x = np.random.default_rng(3).normal(0, 2, (40, 3)).astype(np.float32)
    compare(program, x, modes=modes_of(program), gradients=program is not views, rtol=1e-4, atol=1e-5)


def modes_of(program):
    """Return the modes that offer a program: in lock-step nothing is known of memory, and so of what reshape copies."""
    return ("eager", "loop") if program in (views, squeezed) else MODES


def test_no_grad_keeps_the_history():
    def program(x):
        h = x * 2
        with dynarl.no_grad():
            h += 1
            if x[0] > 0:
                h *= 3
        return h * x

    compare(program, X)


def test_descent_in_place():
    compare(descent_in_place, X, rtol=1e-5)


def test_history_is_that_of_the_change():
    def program(x):
        h = x * 1
        y = h * h
        h *= 3
        h[1] = x[0] * x[1]
        return y + h

    # y keeps the values that h had; plain Tensors refuse its gradient, since they keep no copy
    compare(program, X, gradients=False)


def test_a_tensor_made_in_the_program_becomes_per_sample():
    def accumulated(x):
        total = dynarl.zeros(3)
        other = total
        for v in x:
            if v > 0:
                total += v * x
        return total, other

    compare(accumulated, X)
    compare(accumulated, np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32), atol=1e-5)

    def assigned(x):
        buffer = dynarl.full((4,), 0.5)
        buffer[x.argmax()] = x[0]
        buffer[1:3] *= x[1:]
        return buffer * 2

    compare(assigned, X)

    def with_a_view(x):
        total = dynarl.zeros(3)
        part = total[1:]
        total += x
        return part * 1

    compare(with_a_view, X, gradients=False)  # a plain view has no gradient of what is added to its base later

    def counted(x):
        counts = dynarl.zeros(4, dtype=dynarl.int64)
        for v in x:
            counts[(v > 0).long() + (v > 1).long()] += 1
        return counts

    compare(counted, X)


def refused(program, message, modes=TOGETHER):
    for mode in modes:
        with pytest.raises(PerSampleError, match=message):
            batched(program, mode=mode)(X)


def test_arguments_are_the_callers():
    def adds(x):
        x += 1
        return x

    refused(adds, r"add_: changes in place a tensor that was passed to the program.*`h = h \+ x`")
    refused(lambda x: x[1:].zero_(), "zero_: changes in place a tensor that was passed to the program")

    def assigns(x):
        x[0] = 1.0
        return x

    refused(assigns, "setitem: .*passed to the program, the caller's data; make a new one: stack, cat, where")
    batch = X.copy()
    with pytest.raises(PerSampleError):
        batched(adds)(batch)
    np.testing.assert_array_equal(batch, X)


def test_memory_that_may_be_shared():
    def base_of_a_leaf(x):
        h = x * 2
        leaf = h.detach().requires_grad_()
        h += 1
        return h + leaf

    refused(base_of_a_leaf, "add_: changes in place a tensor that another one may share memory with")

    def one_of_two(x):
        h = x * 1
        y = h * 2
        if x[0] > 0:
            y = h
        y += 1
        return h, y

    refused(one_of_two, "may share memory with another one", modes=("eager",))

    def expands(x):
        h = (x[0] * 2).expand(3)
        h += 1
        return h

    refused(expands, "view made by broadcast_to", modes=("eager",))


def test_shared_tensors_do_not_take_one_samples_values():
    outside = dynarl.zeros(3)

    def adds(x):
        outside.add_(x)
        return x

    refused(adds, r"add_: changes in place a tensor of shape \(3,\) that all samples share.*`h = h \+ x`")
    assert not outside.array.any()


def test_what_plain_tensors_refuse():
    def wrong_shape(x):
        h = x[:1] * 1
        h += x
        return h

    with pytest.raises(RuntimeError, match=r"add_: the result has shape \(3,\), the tensor \(1,\)"):
        batched(wrong_shape)(X)

    def wrong_dtype(x):
        n = (x > 0).long()
        n += 0.5
        return n

    with pytest.raises(RuntimeError, match="add_: a result of dtype float32 cannot be stored in a tensor of dtype"):
        batched(wrong_dtype)(X)

    with pytest.raises(PerSampleError, match="normal_: not offered inside a per-sample program; use rand"):
        batched(lambda x: (x * 1).normal_())(X)


def test_a_module_changes_what_it_is_given():
    class Step(dynarl.nn.Module):
        def forward(self, h):
            if h[0] > 0:
                h *= 2
            return h.sum()

    step = Step()

    def program(x):
        h = x * 1
        first = step(h)
        second = step(h)
        return h * first + second

    compare(program, X)
    compare(program, np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("unguarded")
def test_a_second_call_knows_that_the_program_changes_tensors():
    calls = []

    def program(x):
        calls.append(1)
        h = x * 1
        h += 1
        return h

    run = batched(program, mode="eager")
    run(X)
    assert len(calls) == 2  # the first time it runs again, to note views
    run(X)
    assert len(calls) == 3
