"""Prioritised replay and its sum tree: distribution, weights, and what is never drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynarl.rollout import PrioritizedReplay
from dynarl.rollout.sum_tree import SumTree
from tests.helpers.replays import ACTION, OBS, chi_square, play


@given(
    size=st.integers(1, 70),
    changes=st.lists(st.tuples(st.integers(0, 69), st.floats(0, 1e6, allow_subnormal=False)), max_size=60),
    one_by_one=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_sum_tree_against_a_plain_array(size, changes, one_by_one):
    tree, plain = SumTree(size), np.zeros(size)
    changes = [(i % size, p) for i, p in changes]
    for i, p in changes:
        plain[i] = p
    index = np.array(list(dict(changes)), np.int64)
    for part in np.split(index, len(index)) if one_by_one and len(index) else [index]:
        tree.set(part, plain[part])
    np.testing.assert_array_equal(tree.priorities, plain)
    assert tree.total == pytest.approx(plain.sum(), rel=1e-12)
    if tree.total > 0:
        value = np.linspace(0, tree.total, 200)  # the total itself lies outside: rounding may bring it there
        found = tree.find(value)
        assert (plain[found] > 0).all()
        # strictly inside a leaf's interval there is one answer
        stop = np.cumsum(plain)
        gap = 1e-9 * tree.total
        safe = (value > (stop - plain)[found] - gap) & (value < stop[found] + gap)
        assert safe.all()


def test_rounding_never_leads_to_a_priority_of_zero():
    tree = SumTree(8)
    tree.set(np.arange(3), np.array([0.1, 0.2, 0.3]))
    above = np.full(5, np.nextafter(tree.total, np.inf))
    np.testing.assert_array_equal(tree.find(above), 2)
    tree.set(np.arange(8), np.array([0.0, 0, 0, 1e-300, 0, 1e300, 0, 0]))
    assert set(tree.find(np.array([0.0, 1e-301, 1e300, 2e300])).tolist()) <= {3, 5}


def test_sum_tree_needs_a_leaf():
    with pytest.raises(ValueError, match="SumTree: size must be at least 1, got 0"):
        SumTree(0)


def filled(steps=70, capacity=60, num_envs=3, *, alpha=0.7, dummies=True, seed=0):
    replay = PrioritizedReplay(capacity, num_envs, OBS, ACTION, alpha=alpha)
    play([replay], np.random.default_rng(seed), steps, num_envs, dummies=dummies)
    return replay


def held(replay):
    return np.unique(replay.sample(4000, np.random.default_rng(9)).index)


def test_draws_follow_the_priorities():
    replay, rng = filled(), np.random.default_rng(1)
    index = held(replay)
    assert len(index) == len(replay)
    error = rng.normal(size=len(index)) * 3
    replay.update_priorities(index, error)
    p = (abs(error) + 1e-6) ** 0.7
    drawn = np.concatenate([replay.sample(32, rng).index for _ in range(2000)])
    counts = np.array([(drawn == i).sum() for i in index])
    assert counts.sum() == len(drawn)
    assert chi_square(counts, len(drawn) * p / p.sum()) < 3.0


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_importance_weights(beta):
    replay, rng = filled(), np.random.default_rng(1)
    index = held(replay)
    error = rng.normal(size=len(index))
    replay.update_priorities(index, error)
    p = (abs(error) + 1e-6) ** 0.7
    chance = dict(zip(index.tolist(), p / p.sum()))
    batch = replay.sample(16, rng, beta)
    weight = np.array([(len(replay) * chance[i]) ** -beta for i in batch.index.tolist()])
    np.testing.assert_allclose(batch.weight, weight / weight.max(), rtol=1e-5)
    assert batch.weight.dtype == np.float32


def test_new_transitions_get_the_largest_priority():
    replay = PrioritizedReplay(1000, 1, OBS, ACTION, alpha=1.0)
    rng = np.random.default_rng(0)
    play([replay], rng, 50, 1)
    replay.update_priorities(np.arange(50), np.full(50, 0.001))
    replay.update_priorities(np.array([7]), np.array([-5.0]))
    play([replay], rng, 1, 1)
    drawn = replay.sample(10_000, rng).index
    assert np.isin(drawn, [7, 50]).mean() > 0.98
    assert (drawn == 50).mean() == pytest.approx(0.5, abs=0.01)


@given(seed=st.integers(0, 2**32), dummies=st.booleans(), num_envs=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_only_what_is_held_has_priority(seed, dummies, num_envs):
    """Also when priorities arrive for transitions that steps stored since have dropped."""
    replay, rng = PrioritizedReplay(12, num_envs, OBS, ACTION), np.random.default_rng(seed)
    play([replay], rng, 3, num_envs)
    for _ in range(12):
        batch = replay.sample(8, rng)
        play([replay], rng, int(rng.integers(0, 9)), num_envs, dummies=dummies)
        replay.update_priorities(batch.index, rng.normal(size=8) * 10.0 ** rng.integers(-8, 8))
        replay._refresh()
        priorities = replay._tree.priorities
        assert np.count_nonzero(priorities) == len(replay)
        heads = replay._ring.head * num_envs + np.arange(num_envs)
        assert (priorities[heads] == 0).all()
        assert replay._tree.total == pytest.approx(priorities.sum(), rel=1e-12)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [({"alpha": 1.5}, r"alpha must lie in \[0, 1\], got 1.5"), ({"eps": 0.0}, "eps must be positive, got 0.0")],
)
def test_bad_arguments(overrides, message):
    with pytest.raises(ValueError, match=f"PrioritizedReplay: {message}"):
        PrioritizedReplay(8, 1, OBS, ACTION, **overrides)


def test_errors_that_are_no_numbers_are_refused():
    replay = filled()
    with pytest.raises(FloatingPointError, match="update_priorities: TD errors must be finite"):
        replay.update_priorities(np.array([0, 1]), np.array([1.0, np.nan]))
