"""Segments beyond the table of cases: large ones, against a loop, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dynarl
from dynarl.autograd.ops.segment import Places, gather_rows, sum_rows

RNG = np.random.default_rng(0)
REDUCE = {"segment_sum": np.sum, "segment_mean": np.mean, "segment_max": np.max}


@pytest.mark.parametrize("name", REDUCE)
@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=30), width=st.sampled_from([1, 3, 200]))
def test_sizes_on_both_sides_of_the_choice_of_method(name, lengths, width):
    x = np.random.default_rng(sum(lengths)).normal(size=(sum(lengths), width))
    parts = np.split(x, np.cumsum(lengths)[:-1])
    want = [REDUCE[name](part, axis=0) if len(part) else np.zeros(width) for part in parts]
    got = getattr(dynarl, name)(dynarl.tensor(x), lengths)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-12)


def test_one_preparation_serves_many():
    segments = dynarl.Segments([2, 0, 1])
    x = dynarl.randn(3, 2)
    for name in REDUCE:
        assert (
            getattr(dynarl, name)(x, segments).tolist() == getattr(dynarl, name)(x, dynarl.tensor([2, 0, 1])).tolist()
        )


def test_what_is_empty():
    assert dynarl.segment_max(dynarl.ones(2), [0, 2], empty=-5.0).tolist() == [-5.0, 1.0]
    assert dynarl.segment_sum(dynarl.zeros(0, 3), [0, 0]).shape == (2, 3)
    assert dynarl.segment_softmax(dynarl.zeros(0, 3), [0, 0]).shape == (0, 3)
    assert dynarl.segment_sum(dynarl.zeros(0, 3), []).shape == (0, 3)
    x = dynarl.zeros(0, 3, requires_grad=True)
    (dynarl.segment_max(x, [0]) + dynarl.segment_mean(x, [0])).sum().backward()
    assert x.grad.shape == (0, 3)


def test_ties_share_the_gradient_and_large_numbers_do_not_overflow():
    x = dynarl.tensor([2.0, 2.0, 1.0, 2.0], requires_grad=True)
    dynarl.segment_max(x, [3, 1]).sum().backward()
    assert x.grad.tolist() == [0.5, 0.5, 0.0, 1.0]
    assert dynarl.segment_softmax(dynarl.tensor([1e4, 1e4, -1e4]), [2, 1]).tolist() == [0.5, 0.5, 1.0]


def test_integers():
    assert dynarl.segment_sum(dynarl.tensor([1, 2, 3]), [1, 2]).tolist() == [1, 5]
    assert dynarl.segment_mean(dynarl.tensor([1, 2, 3]), [1, 2]).tolist() == [1.0, 2.5]
    assert dynarl.segment_max(dynarl.tensor([-1, -2, -3]), [0, 3]).tolist() == [0, -1]


def test_rows_of_links():
    places = Places([2, 0, 2, 2], 4)
    x = RNG.normal(size=(4, 3))
    want = np.zeros((4, 3))
    np.add.at(want, places.index, x)
    np.testing.assert_allclose(sum_rows(dynarl.tensor(x), places=places).numpy(), want)
    np.testing.assert_array_equal(gather_rows(dynarl.tensor(x), places=places).numpy(), x[places.index])
    given = dynarl.tensor(x, requires_grad=True)
    both = lambda x: gather_rows(sum_rows(x, places=places).tanh(), places=places).square()  # noqa: E731
    assert dynarl.autograd.gradcheck(both, (given,))
    assert dynarl.autograd.gradgradcheck(both, (given,))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: dynarl.segment_sum(x, [1, 1]), r"segment_sum: lengths add up to 2 rows, got input \(3, 2\)"),
        (lambda x: dynarl.segment_max(x, [4, -1]), "segments: lengths must not be negative, got -1"),
        (lambda x: dynarl.segment_mean(x, [1.5, 1.5]), r"segments: lengths must be integers \[N\], got float64"),
        (lambda x: dynarl.segment_softmax(x, [[3]]), r"segments: lengths must be integers \[N\], got int64 of shape"),
        (lambda x: dynarl.segment_expand(x, [1, 1]), r"segment_expand: there are 2 lengths, got input \(3, 2\)"),
    ],
)
def test_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call(dynarl.ones(3, 2))
