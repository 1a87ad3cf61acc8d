"""Advantages and returns against the recursion written out, and against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynarl.agents.ppo.returns import discounted_returns, explained_variance, gae
from tests.helpers.fragments import fragment


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 7),
    envs=st.integers(1, 3),
    gamma=st.floats(0, 1),
    gae_lambda=st.floats(0, 1),
)
def test_gae_is_the_recursion(seed, steps, envs, gamma, gae_lambda):
    f = fragment(np.random.default_rng(seed), steps, envs)
    advantages, returns = gae(**f, gamma=gamma, gae_lambda=gae_lambda)
    for n in range(envs):
        following = 0.0
        for t in reversed(range(steps)):
            bootstrap = 0.0 if f["terminated"][t, n] else float(f["next_value"][t, n])
            delta = float(f["reward"][t, n]) + gamma * bootstrap - float(f["value"][t, n])
            ended = f["terminated"][t, n] or f["truncated"][t, n]
            following = delta + (0.0 if ended else gamma * gae_lambda * following)
            assert advantages[t, n] == pytest.approx(following, abs=1e-4)
            assert returns[t, n] == pytest.approx(following + f["value"][t, n], abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 8), gamma=st.floats(0, 1))
def test_lambda_one_is_the_discounted_return(seed, steps, gamma):
    """With consistent next values, GAE(1) + V is the return, whatever V is."""
    f = fragment(np.random.default_rng(seed), steps, 2)
    inner = ~(f["terminated"] | f["truncated"])[:-1]
    f["next_value"][:-1][inner] = f["value"][1:][inner]
    returns = gae(**f, gamma=gamma, gae_lambda=1.0)[1]
    del f["value"]
    np.testing.assert_allclose(returns, discounted_returns(**f, gamma=gamma), rtol=1e-4, atol=1e-4)


def test_termination_drops_the_bootstrap_and_truncation_keeps_it():
    ones = np.ones((1, 3), np.float32)
    ended = {"terminated": np.array([[True, False, True]]), "truncated": np.array([[False, True, True]])}
    advantages, _ = gae(ones, 0 * ones, 10 * ones, **ended, gamma=0.9, gae_lambda=0.95)
    np.testing.assert_allclose(advantages, [[1.0, 10.0, 1.0]])  # terminated wins where both are true


def test_dummy_rows_change_nothing():
    rng = np.random.default_rng(0)
    f = fragment(rng, 6, 1)
    f["truncated"][:], f["terminated"][:] = False, False
    f["terminated"][2] = True
    plain = gae(**f, gamma=0.9, gae_lambda=0.8)
    rows = [0, 1, 2, 2, 3, 4, 5]  # a dummy row after the end of the episode
    with_dummy = {name: array[rows].copy() for name, array in f.items()}
    with_dummy["reward"][3], with_dummy["terminated"][3] = 99.0, False
    valid = np.ones((7, 1), bool)
    valid[3] = False
    dummied = gae(**with_dummy, gamma=0.9, gae_lambda=0.8, valid=valid)
    for a, b in zip(plain, dummied):
        np.testing.assert_array_equal(a, b[valid[:, 0]])
    assert dummied[0][3] == 0


def test_explained_variance():
    target = np.array([1.0, 2.0, 3.0])
    assert explained_variance(target, target) == 1.0
    assert explained_variance(np.full(3, 2.0), target) == 0.0
    assert explained_variance(-target, target) < 0
    assert np.isnan(explained_variance(target, np.ones(3)))
