"""V-trace against its recursion in float64, n-step returns, and GAE."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynarl.agents.ppo.returns import discounted_returns, gae
from dynarl.agents.ppo.vtrace import vtrace
from tests.helpers.fragments import fragment

SEEDS = st.integers(0, 2**32 - 1)
GAMMA = st.floats(0, 1)


def consistent(f):
    """The value of the state reached is that of the next row, where the episode goes on."""
    goes_on = ~(f["terminated"] | f["truncated"])[:-1]
    f["next_value"][:-1][goes_on] = f["value"][1:][goes_on]
    return f


def log_probs(rng, shape):
    return {
        "log_prob": rng.normal(size=shape).astype(np.float32),
        "behaviour_log_prob": rng.normal(size=shape).astype(np.float32),
    }


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS, steps=st.integers(1, 7), gamma=GAMMA, lambda_=GAMMA, rho_bar=st.floats(0.1, 3), c_bar=st.floats(0.1, 3)
)
def test_is_the_recursion(seed, steps, gamma, lambda_, rho_bar, c_bar):
    rng = np.random.default_rng(seed)
    f, logs = consistent(fragment(rng, steps, 2)), log_probs(rng, (steps, 2))
    found = vtrace(**f, **logs, gamma=gamma, gae_lambda=lambda_, rho_bar=rho_bar, c_bar=c_bar)
    for n in range(2):
        target = following_value = None
        for t in reversed(range(steps)):
            reward, value, next_value = (float(f[name][t, n]) for name in ("reward", "value", "next_value"))
            weight = math.exp(float(logs["log_prob"][t, n]) - float(logs["behaviour_log_prob"][t, n]))
            rho, c = min(rho_bar, weight), lambda_ * min(c_bar, weight)
            if f["terminated"][t, n]:
                next_value = 0.0
            delta = rho * (reward + gamma * next_value - value)
            cut = target is None or f["terminated"][t, n] or f["truncated"][t, n]
            next_target = next_value if cut else target
            advantage = rho * (reward + gamma * (lambda_ * next_target + (1 - lambda_) * next_value) - value)
            target = value + delta + (0.0 if cut else gamma * c * (target - following_value))
            following_value = value
            assert found.returns[t, n] == pytest.approx(target, abs=1e-3)
            assert found.advantages[t, n] == pytest.approx(advantage, abs=1e-3)
            assert found.rho[t, n] == pytest.approx(rho, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, steps=st.integers(1, 8), gamma=GAMMA, bar=st.sampled_from([1.0, 2.0, math.inf]))
def test_with_equal_policies_it_is_the_n_step_return(seed, steps, gamma, bar):
    rng = np.random.default_rng(seed)
    f, logs = consistent(fragment(rng, steps, 2)), log_probs(rng, (steps, 2))
    logs["behaviour_log_prob"] = logs["log_prob"]
    found = vtrace(**f, **logs, gamma=gamma, rho_bar=bar, c_bar=bar)
    del f["value"]
    np.testing.assert_allclose(found.returns, discounted_returns(**f, gamma=gamma), rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, steps=st.integers(1, 8), gamma=GAMMA, lambda_=GAMMA)
def test_with_equal_policies_it_is_gae(seed, steps, gamma, lambda_):
    rng = np.random.default_rng(seed)
    f, logs = fragment(rng, steps, 2), log_probs(rng, (steps, 2))
    logs["behaviour_log_prob"] = logs["log_prob"]
    found = vtrace(**f, **logs, gamma=gamma, gae_lambda=lambda_)
    advantages, returns = gae(**f, gamma=gamma, gae_lambda=lambda_)
    np.testing.assert_allclose(found.advantages, advantages, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.returns, returns, rtol=1e-4, atol=1e-4)


def test_dummy_rows_change_nothing():
    rng = np.random.default_rng(0)
    f, logs = fragment(rng, 6, 1), log_probs(rng, (6, 1))
    f["truncated"][:], f["terminated"][:] = False, False
    f["truncated"][2] = True
    plain = vtrace(**f, **logs, gamma=0.9)
    rows = [0, 1, 2, 2, 3, 4, 5]  # a dummy row after the end of the episode
    dummied = {name: array[rows].copy() for name, array in (f | logs).items()}
    dummied["reward"][3], dummied["truncated"][3] = 99.0, False
    valid = np.ones((7, 1), bool)
    valid[3] = False
    found = vtrace(**dummied, gamma=0.9, valid=valid)
    for a, b in zip(plain, found):
        np.testing.assert_array_equal(a, b[valid[:, 0]])
    assert found.advantages[3] == 0


def test_expected_update_is_that_of_the_learning_policy():
    """One step, two actions, no clipping: rho-weighted targets average to the learning policy's value."""
    pi, mu, reward = np.array([0.9, 0.1]), np.array([0.3, 0.7]), np.array([2.0, -1.0])
    no = np.zeros((1, 2), bool)
    zero = np.zeros((1, 2), np.float32)
    logs = {"log_prob": np.log(pi)[None], "behaviour_log_prob": np.log(mu)[None]}
    found = vtrace(reward[None], zero, zero, ~no, no, **logs, gamma=0.9, rho_bar=math.inf)
    assert (mu * found.returns[0]).sum() == pytest.approx((pi * reward).sum(), rel=1e-6)
    clipped = vtrace(reward[None], zero, zero, ~no, no, **logs, gamma=0.9)
    # eq. 5: the fixed point is that of min(mu, pi), scaled to be a policy
    assert (mu * clipped.returns[0]).sum() == pytest.approx((np.minimum(mu, pi) * reward).sum(), rel=1e-6)


def test_huge_ratios_do_not_overflow():
    one = np.ones((2, 1), np.float32)
    no = np.zeros((2, 1), bool)
    logs = {"log_prob": 0 * one, "behaviour_log_prob": -2000 * one}
    found = vtrace(one, one, one, no, no, **logs, gamma=0.9)
    assert np.isfinite(found.advantages).all() and (found.rho == 1).all()


def test_limits_must_be_positive():
    one, no = np.ones((1, 1)), np.zeros((1, 1), bool)
    with pytest.raises(ValueError, match=r"rho_bar and c_bar must be positive, got 0.0 and 1.0"):
        vtrace(one, one, one, no, no, log_prob=one, behaviour_log_prob=one, gamma=1.0, rho_bar=0.0)
