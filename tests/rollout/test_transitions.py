"""Fragments in a replay: as if every step had been added by itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynarl.rollout import PrioritizedReplay, ReplayBuffer
from dynarl.rollout.packed import PackedRows
from dynarl.rollout.transition_collector import Transitions

OBS, ACTION = ((2,), np.float32), ((), np.int64)


def drawn(rng, rows):
    """Observations of a number and a byte."""
    return np.stack((rng.normal(size=rows), rng.integers(0, 256, rows)), axis=1).astype(np.float32)


def play(rng, steps, envs, masked):
    """Steps of `envs` environments with ends, and with dummy rows after some of them."""
    counter, dummy = drawn(rng, envs), np.zeros(envs, bool)
    for _ in range(steps):
        obs, valid = counter, ~dummy
        next_obs = drawn(rng, envs)
        terminated, truncated = (rng.random((2, envs)) < 0.15) & valid
        masks = {}
        if masked:
            masks = {"action_mask": rng.random((envs, 3)) < 0.5, "next_action_mask": rng.random((envs, 3)) < 0.5}
        action, reward = rng.integers(0, 3, envs), rng.normal(size=envs)
        yield obs, action, reward, terminated, truncated, next_obs, valid, masks
        ended = terminated | truncated
        dummy = ended & (rng.random(envs) < 0.5)  # the next row only resets
        counter = next_obs.copy()
        counter[ended] = drawn(rng, ended.sum())


def columns(row, part):
    *arrays, masks = row
    return [array[part] for array in arrays], {name: mask[part] for name, mask in masks.items()}


def kept(replay, seed=1):
    """All that can be sampled, transition by transition."""
    total = len(replay)
    index = replay._ring.locate(np.arange(total))
    batch = replay.gather(np.sort(index), np.ones(total, np.float32))
    return {name: batch[name] for name in batch if name != "weight"}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    n_step=st.integers(1, 3),
    masked=st.booleans(),
    prioritized=st.booleans(),
    split=st.booleans(),
    packed=st.booleans(),
)
def test_fragments_store_what_steps_store(seed, lengths, n_step, masked, prioritized, split, packed):
    rng, envs = np.random.default_rng(seed), 4
    make = PrioritizedReplay if prioritized else ReplayBuffer
    one, other = (
        make(9 * envs, envs, OBS, ACTION, n_step=n_step, gamma=0.9, packing=packing)
        for packing in (None, PackedRows([(1, False), (1, True)]) if packed else None)
    )
    groups = [np.array([0, 1]), np.array([2, 3])] if split else [np.arange(4)]
    rows = list(play(rng, sum(lengths), envs, masked))
    start = 0
    for length in lengths:
        part = rows[start : start + length]
        for *arrays, masks in part:
            one.add(*arrays, **masks)
        for group in groups:
            taken = Transitions(length)
            for row in part:
                arrays, masks = columns(row, group)
                taken.add(*arrays, **masks)
            fragment = taken.take()
            fragment["episode_start"] = np.zeros_like(fragment["valid"])
            fragment.env_ids = group
            other.add_fragment(fragment)
        start += length
        if len(one) == 0:
            continue
        for name, array in kept(one).items():
            np.testing.assert_array_equal(array, kept(other)[name], err_msg=name)
        if prioritized:
            one._refresh()
            other._refresh()
            np.testing.assert_array_equal(one._tree.priorities, other._tree.priorities)


def fragment(obs, *, envs=(0,), start=False, reward=1.0, ended=()):
    """A fragment of one environment whose observations count up from `obs`."""
    taken = Transitions(3)
    for t in range(3):
        at, next_obs = np.full((1, 2), obs + t, np.float32), np.full((1, 2), obs + t + 1, np.float32)
        end = np.array([t in ended])
        taken.add(at, np.zeros(1, np.int64), np.full(1, reward), end, end & False, next_obs, np.ones(1, bool))
    found = taken.take()
    found["episode_start"] = np.zeros((3, 1), bool)
    found["episode_start"][0] = start
    found.env_ids = np.array(envs)
    return found


def test_n_step_returns_reach_across_fragments():
    replay = ReplayBuffer(10, 1, OBS, ACTION, n_step=3, gamma=0.5)
    replay.add_fragment(fragment(0))
    last = replay.gather(np.array([2]), np.ones(1, np.float32))
    assert last.reward == [1.0] and last.discount == [0.5]
    replay.add_fragment(fragment(3))
    last = replay.gather(np.array([2]), np.ones(1, np.float32))
    assert last.reward == [1.75] and last.discount == [0.125]
    np.testing.assert_array_equal(last.next_obs, [[5, 5]])


def test_an_episode_that_was_lost_is_cut():
    """A worker that was replaced begins anew: nothing reaches from one incarnation into the next."""
    replay = ReplayBuffer(10, 1, OBS, ACTION, n_step=3, gamma=0.5)
    replay.add_fragment(fragment(0))
    replay.add_fragment(fragment(50, start=True))
    last = replay.gather(np.array([2]), np.ones(1, np.float32))
    assert last.reward == [1.0] and last.discount == [0.5]
    np.testing.assert_array_equal(last.next_obs, [[3, 3]])


def test_a_fragment_longer_than_the_ring():
    replay = ReplayBuffer(2, 1, OBS, ACTION)
    with pytest.raises(ValueError, match="a fragment of 3 steps is more than the 2 transitions kept"):
        replay.add_fragment(fragment(0))
