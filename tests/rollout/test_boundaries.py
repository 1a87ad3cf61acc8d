"""Every row of a fragment against brute force, in every autoreset mode."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynarl.rollout import Collector
from tests.helpers.scripted import MODES, brute_force, scripted_environments
from tests.helpers.scripted_fragments import Linear, rows_of, scripts


@settings(deadline=None, max_examples=60)
@given(scripts=scripts, num_steps=st.integers(1, 9), count=st.integers(1, 4))
@pytest.mark.parametrize("mode", MODES)
def test_rows_are_what_happened(mode, scripts, num_steps, count):
    policy = Linear()
    collector = Collector(scripted_environments(scripts, mode), policy, num_steps=num_steps)
    fragments = [collector.collect(k).copy() for k in range(count)]
    assert policy.forwards == count * (num_steps + 1), "one forward a step and one at the end"
    returns, lengths = [], []
    for n, script in enumerate(scripts):
        rows = rows_of(fragments, n)
        expected = brute_force(n, script, len(rows["reward"]))
        for name in ("obs", "next_obs", "reward", "terminated", "truncated", "episode_start"):
            want = np.array([getattr(row, name) for row in expected])
            np.testing.assert_array_equal(rows[name], want.reshape(rows[name].shape), err_msg=name)
        next_value = np.where(rows["terminated"], 0, policy.value(rows["next_obs"]))
        np.testing.assert_array_equal(rows["next_value"], next_value)
        np.testing.assert_array_equal(rows["value"], policy.value(rows["obs"]))
        np.testing.assert_array_equal(rows["log_prob"], -rows["value"])
        total, length = 0.0, 0
        for row in expected:
            total, length = total + row.reward, length + 1
            if row.terminated or row.truncated:
                returns.append(total)
                lengths.append(length)
                total, length = 0.0, 0
    got = [np.concatenate([getattr(f, name) for f in fragments]) for name in ("episode_return", "episode_length")]
    assert sorted(got[0].tolist()) == sorted(returns)
    assert sorted(got[1].tolist()) == sorted(lengths)
    if mode != "next_step":
        assert all(fragment.valid.all() for fragment in fragments)
    for k, fragment in enumerate(fragments):
        assert fragment.policy_version == k
        assert fragment.first_step == k * num_steps
        assert fragment.num_valid == fragment.valid.sum() == len(fragment.flatten().reward)


@pytest.mark.parametrize("mode", MODES[1:])
def test_modes_agree_with_single_environments(mode):
    scripts = [[(3, True, False), (2, False, True)], [(1, False, True)], [(40, True, False)]]
    whole = []
    for kind in ("single", mode):
        collector = Collector(scripted_environments(scripts, kind), Linear(), num_steps=50)
        fragment = collector.collect()
        whole.append([rows_of([fragment], n) for n in range(3)])
    for single, other in zip(*whole):
        size = len(other["reward"])
        for name, array in other.items():
            last = size - 1 if name == "next_value" else size  # the cuts are at different rows
            np.testing.assert_array_equal(array[:last], single[name][:last], err_msg=name)


def test_a_dummy_row_follows_each_end():
    env = scripted_environments([[(2, False, True)]], "next_step")
    env.reset()
    valid, starts = [], []
    for _ in range(6):
        starts.append(bool(env.episode_start[0]))
        step = env.step(np.zeros(1, np.int64))
        valid.append(bool(step.valid[0]))
        if not valid[-1]:
            assert step.reward[0] == 0 and not step.terminated[0] and not step.truncated[0]
    assert valid == [True, True, False, True, True, False]
    assert starts == [True, False, False, True, False, False]
