"""Properties over random shapes: broadcasting, un-broadcast gradients, indexing, reductions (hypothesis)."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import dynarl

settings.register_profile("fast", max_examples=60, deadline=None, derandomize=True,
                          suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
settings.load_profile("fast")
SHAPES = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0)
OPS = ["add", "subtract", "multiply", "divide", "maximum", "minimum"]
TORCH_NAME = {"subtract": "sub", "multiply": "mul", "divide": "div"}


def values(shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(0.5, 2.0, shape)


def unbroadcast(g, shape):
    """The textbook way: sum every axis that was added or stretched."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True).reshape(shape)


@given(SHAPES, st.sampled_from(OPS))
def test_broadcasting(shapes, op):
    (a, b), result = shapes.input_shapes, shapes.result_shape
    x, y = values(a), values(b, 1)
    tx, ty = (dynarl.tensor(v, requires_grad=True) for v in (x, y))
    out = getattr(dynarl, TORCH_NAME.get(op, op))(tx, ty)
    assert tuple(out.shape) == result
    np.testing.assert_array_equal(out.detach().numpy(), getattr(np, op)(x, y))
    out.backward(dynarl.ones_like(out))
    assert tx.grad.shape == a and ty.grad.shape == b
    if op == "multiply":
        np.testing.assert_allclose(tx.grad.numpy(), unbroadcast(np.broadcast_to(y, result) * 1.0, a))
        np.testing.assert_allclose(ty.grad.numpy(), unbroadcast(np.broadcast_to(x, result) * 1.0, b))


@given(st.lists(st.integers(0, 4), min_size=0, max_size=3), st.lists(st.integers(0, 4), min_size=0, max_size=3))
def test_shapes_that_do_not_broadcast_are_refused(a, b):
    try:
        np.broadcast_shapes(a, b)
    except ValueError:
        x, y = dynarl.zeros(tuple(a)), dynarl.zeros(tuple(b))
        with pytest.raises((RuntimeError, ValueError), match=r"add: "):
            x + y


@given(st.data())
def test_basic_indexing(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True).filter(lambda i: not negative_step(i)))
    check_index(shape, index)


@given(st.data())
def test_integer_indexing(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    index = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3)))
    check_index(shape, tuple(dynarl.tensor(i.astype(np.int64)) for i in index), index)


@given(st.data())
def test_boolean_indexing(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    mask = data.draw(hnp.arrays(bool, shape[: data.draw(st.integers(1, len(shape)))]))
    check_index(shape, dynarl.tensor(mask), mask)


def negative_step(index):
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(p, slice) and p.step is not None and p.step < 0 for p in parts)


def check_index(shape, ours, theirs=None):
    """x[index] and x[index] = v as NumPy's, with the gradients the two imply."""
    theirs = ours if theirs is None else theirs
    array = values(shape)
    x = dynarl.tensor(array, requires_grad=True)
    out = x[ours]
    expected = array[theirs]
    np.testing.assert_array_equal(out.detach().numpy(), expected)
    weight = values(np.shape(expected), 2)
    (out * dynarl.tensor(weight)).sum().backward()
    g = np.zeros(shape)
    np.add.at(g, theirs, weight)
    np.testing.assert_allclose(x.grad.numpy(), g)

    x.grad = None
    v = dynarl.tensor(3.0, dtype=dynarl.float64, requires_grad=True)
    y = x.clone()
    y[ours] = v
    y.sum().backward()
    array[theirs] = 3.0
    np.testing.assert_array_equal(y.detach().numpy(), array)
    kept = np.ones(shape)
    kept[theirs] = 0
    np.testing.assert_array_equal(x.grad.numpy(), kept)
    assert v.grad.item() == np.size(expected) if unique(shape, theirs) else True


def unique(shape, index):
    counts = np.zeros(shape)
    np.add.at(counts, index, 1)
    return counts.max(initial=0) <= 1


@given(hnp.array_shapes(min_dims=1, max_dims=4, max_side=3), st.data(), st.sampled_from(["sum", "mean", "amax", "std"]))
def test_reductions(shape, data, op):
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True).map(tuple))
    keep = data.draw(st.booleans())
    array = values(shape)
    x = dynarl.tensor(array, requires_grad=True)
    options = {"correction": 0} if op == "std" else {}
    out = getattr(dynarl, op)(x, dim=axes, keepdim=keep, **options)
    np.testing.assert_allclose(out.detach().numpy(), getattr(np, op)(array, axis=axes, keepdims=keep), atol=1e-12)
    if op in ("sum", "mean", "amax"):
        out.sum().backward()
        groups = out.numel()
        total = {"sum": array.size, "mean": groups, "amax": groups}[op]
        assert x.grad.sum().item() == pytest.approx(total)


@given(hnp.array_shapes(min_dims=2, max_dims=4, max_side=3), st.data())
def test_permutations_undo_themselves(shape, data):
    order = data.draw(st.permutations(range(len(shape))))
    x = dynarl.tensor(values(shape), requires_grad=True)
    y = x.permute(*order).contiguous().reshape(-1)
    weight = dynarl.tensor(values((y.numel(),), 3))
    (y * weight).sum().backward()
    back = weight.reshape(x.permute(*order).shape).permute(*np.argsort(order).tolist())
    np.testing.assert_array_equal(x.grad.numpy(), back.numpy())


@given(st.lists(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), min_size=1, max_size=4))
def test_softmax_is_a_distribution(rows):
    p = dynarl.tensor(rows, requires_grad=True)
    q = p.softmax(-1)
    assert q.sum(-1).tolist() == pytest.approx([1.0] * len(rows), rel=1e-5)
    assert bool((q >= 0).all())
    q.sum().backward()  # constant: no gradient
    assert p.grad.abs().max().item() < 1e-5


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_matmul_is_associative_in_gradients(n, k, m):
    a, b = dynarl.tensor(values((n, k)), requires_grad=True), dynarl.tensor(values((k, m)), requires_grad=True)
    (a @ b).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), np.broadcast_to(b.detach().numpy().sum(1), (n, k)))
    np.testing.assert_allclose(b.grad.numpy(), np.broadcast_to(a.detach().numpy().sum(0)[:, None], (k, m)))
