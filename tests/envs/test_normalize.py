"""Running statistics against NumPy over everything at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynarl.envs import ObservationNormalizer, RewardNormalizer, RunningMeanStd


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 20), min_size=1, max_size=6), seed=st.integers(0, 100))
def test_merged_statistics_are_those_of_all_rows(sizes, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(1e3, 3, (size, 2)) for size in sizes]
    stats, merged = RunningMeanStd((2,)), RunningMeanStd((2,))
    for part in parts:
        stats.update(part)
        one = RunningMeanStd((2,))
        one.update(part)
        merged.merge(one)
    rows = np.concatenate(parts)
    for s in (stats, merged):
        assert s.count == len(rows)
        if len(rows):
            np.testing.assert_allclose(s.mean, rows.mean(0), rtol=1e-12)
            np.testing.assert_allclose(s.var, rows.var(0), rtol=1e-6, atol=1e-9)


def test_only_valid_rows_count():
    rng = np.random.default_rng(0)
    obs, valid = rng.normal(size=(7, 3, 2)), rng.random((7, 3)) < 0.6
    one, other = RunningMeanStd((2,)), RunningMeanStd((2,))
    one.update(np.where(valid[..., None], obs, 1e9), valid)
    other.update(obs[valid])
    assert one.mean.tobytes() == other.mean.tobytes() and one.var.tobytes() == other.var.tobytes()
    one.update(obs, np.zeros((7, 3), bool))
    assert one.count == valid.sum()


def test_observations_are_centred_scaled_and_clipped():
    rng = np.random.default_rng(0)
    normalize = ObservationNormalizer((2,))
    obs = rng.normal([5, -1], [2, 1e-3], (500, 4, 2)).astype(np.float32)
    np.testing.assert_array_equal(normalize(obs[0, 0] / 10), obs[0, 0] / 10)  # nothing seen: as it is
    normalize.update(obs)
    out = normalize(obs)
    assert out.dtype == np.float32 and out.shape == obs.shape
    np.testing.assert_allclose(out.mean((0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(out.std((0, 1)), 1, atol=0.01)
    np.testing.assert_array_equal(normalize(np.array([1e6, -1e6])), [10, -10])


def test_frozen_in_evaluation():
    normalize, scale = ObservationNormalizer((1,)), RewardNormalizer(1, gamma=0.9)
    normalize.frozen = scale.frozen = True
    normalize.update(np.ones((3, 1, 1)))
    scale.update(np.ones((3, 1)), np.zeros((3, 1), bool), np.zeros((3, 1), bool))
    assert normalize.stats.count == scale.stats.count == 0


@settings(deadline=None)
@given(seed=st.integers(0, 1000), cut=st.integers(0, 12))
def test_rewards_against_a_loop(seed, cut):
    rng = np.random.default_rng(seed)
    reward = rng.normal(1, 2, (12, 3)).astype(np.float32)
    terminated, truncated = rng.random((2, 12, 3)) < 0.2
    valid = rng.random((12, 3)) < 0.8
    scale = RewardNormalizer(3, gamma=0.9)
    for part in (slice(0, cut), slice(cut, 12)):
        scale.update(reward[part], terminated[part], truncated[part], valid[part])
    returns = []
    for n in range(3):
        running = 0.0
        for t in range(12):
            if valid[t, n]:
                running = 0.9 * running + float(reward[t, n])
                returns.append(running)
            if terminated[t, n] or truncated[t, n]:
                running = 0.0
    if returns:
        np.testing.assert_allclose(scale.stats.var, np.var(returns), rtol=1e-10, atol=1e-12)
        expected = np.clip(reward / np.sqrt(np.var(returns) + 1e-8), -10, 10)
        np.testing.assert_allclose(scale(reward), expected, rtol=1e-5)


def test_states_round_trip():
    rng = np.random.default_rng(0)
    no = np.zeros((5, 2), bool)
    one, other = RewardNormalizer(2, gamma=0.9), RewardNormalizer(2, gamma=0.9)
    one.update(rng.normal(size=(5, 2)), no, no)
    other.load_state_dict(one.state_dict())
    more = rng.normal(size=(5, 2))
    one.update(more, no, no)
    other.update(more, no, no)
    assert one(more).tobytes() == other(more).tobytes()
    obs = ObservationNormalizer((2,))
    obs.update(more)
    twin = ObservationNormalizer((2,))
    twin.load_state_dict(obs.state_dict())
    assert twin(more).tobytes() == obs(more).tobytes()


def test_refusals():
    with pytest.raises(ValueError, match=r"RunningMeanStd: rows must be \[\.\.\., \(2,\)\], got \(4, 3\)"):
        RunningMeanStd((2,)).update(np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"the state must have shape \(2,\), got \(3,\)"):
        RunningMeanStd((2,)).load_state_dict(RunningMeanStd((3,)).state_dict())
    scale = RewardNormalizer(2, gamma=0.9)
    with pytest.raises(ValueError, match=r"rewards must be \[T, 2\], got \[5, 3\]"):
        scale.update(np.zeros((5, 3)), np.zeros((5, 3), bool), np.zeros((5, 3), bool))
    with pytest.raises(ValueError, match="the state must be of 2 environments, got 3"):
        scale.load_state_dict(RewardNormalizer(3, gamma=0.9).state_dict())
