"""Observations of varying size in fragments and replays: the same as numbers would be, at every boundary."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TransformObservation
from hypothesis import given, settings
from hypothesis import strategies as st

from dynarl.checkpoint import encoding
from dynarl.envs import SyncEnvironments, VectorEnvironments
from dynarl.ragged_rows import RaggedRow, row_array
from dynarl.rollout import Collector, PrioritizedReplay, ReplayBuffer
from tests.helpers.replays import play
from tests.helpers.scripted import MODES, Scripted
from tests.helpers.scripted_fragments import Linear, scripts

SPACE = spaces.Sequence(spaces.Box(-1e6, 1e6, (3,), np.float32))
ROWS, NUMBERS, ACTION = ((), np.dtype(object)), ((2,), np.float32), ((), np.int64)


def times(obs):
    """An observation [env, episode, t] as env + t elements, all equal to it."""
    return tuple(obs for _ in range(int(obs[0] + obs[2])))


class OfRows(Linear):
    """`Linear` of what the elements say."""

    def value(self, obs):
        return super().value(numbers(obs))

    def act(self, obs, noise, *, explore, action_mask=None):
        return super().act(numbers(obs), noise, explore=explore)


def numbers(rows):
    """The observations [n, 3] that rows were made of."""
    return np.array([row.parts[0][0] for row in rows.reshape(-1)]).reshape(-1, 3)


def environments(written, mode, *, ragged):
    def one(i, script):
        box = Scripted(i + 1, script)
        return TransformObservation(box, times, SPACE) if ragged else box

    made = [partial(one, i, script) for i, script in enumerate(written)]
    if mode == "single":
        return SyncEnvironments([function() for function in made])
    return VectorEnvironments(SyncVectorEnv(made, autoreset_mode=AutoresetMode[mode.upper()]))


@settings(deadline=None, max_examples=40)
@given(written=scripts, num_steps=st.integers(1, 9), count=st.integers(1, 3))
@pytest.mark.parametrize("mode", MODES)
def test_fragments_are_those_of_numbers(mode, written, num_steps, count):
    ours = Collector(environments(written, mode, ragged=True), OfRows(), num_steps=num_steps)
    theirs = Collector(environments(written, mode, ragged=False), Linear(), num_steps=num_steps)
    for _ in range(count):
        rows, box = ours.collect(), theirs.collect()
        kept = rows.copy()
        for name in box:
            if name != "obs":
                np.testing.assert_array_equal(rows[name], box[name], err_msg=name)
        pairs = [(rows["obs"], box["obs"]), (kept.flatten().obs, box.flatten().obs)]
        pairs += [(getattr(rows, name), getattr(box, name)) for name in ("last_obs", "final_obs")]
        for got, want in [*pairs, (rows.build_next_obs(), box.build_next_obs())]:
            assert got.shape == want.shape[:-1]
            np.testing.assert_array_equal(numbers(got), want.reshape(-1, 3))
            lengths = [len(row.parts[0]) for row in got.reshape(-1)]
            np.testing.assert_array_equal(lengths, (want[..., 0] + want[..., 2]).reshape(-1))


class Both:
    """Writes the same steps into a replay of numbers and into one of rows that repeat them 0 to 3 times."""

    def __init__(self, cls, capacity, num_envs, n_step):
        self.numbers, self.rows = (
            cls(capacity, num_envs, layout, ACTION, n_step=n_step, gamma=0.9) for layout in (NUMBERS, ROWS)
        )

    def add(self, obs, action, reward, terminated, truncated, next_obs, valid):
        rest = action, reward, terminated, truncated
        self.numbers.add(obs, *rest, next_obs, valid)
        self.rows.add(self.as_rows(obs), *rest, self.as_rows(next_obs), valid)

    @staticmethod
    def as_rows(obs):
        return row_array(RaggedRow([np.repeat(one[None], one[0] * 1e6 % 4, axis=0), one.copy()]) for one in obs)

    def assert_alike(self, seed=1):
        assert len(self.rows) == len(self.numbers)
        if len(self.rows):
            a, b = (replay.sample(200, np.random.default_rng(seed)) for replay in (self.numbers, self.rows))
            for name in ("action", "reward", "discount", "index", "weight"):
                np.testing.assert_array_equal(a[name], b[name])
            for name in ("obs", "next_obs"):
                assert b[name].dtype == object and (self.as_rows(a[name]) == b[name]).all()


@pytest.mark.parametrize("cls", [ReplayBuffer, PrioritizedReplay])
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_replays_hold_rows_as_they_hold_numbers(cls, data):
    num_envs, each = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    both = Both(cls, each * num_envs, num_envs, data.draw(st.integers(1, min(4, each))))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    end, dummies = data.draw(st.sampled_from([0.0, 0.2, 0.7])), data.draw(st.booleans())
    play([both], rng, data.draw(st.integers(1, 30)), num_envs, end=end, dummies=dummies)
    both.assert_alike()
    if data.draw(st.booleans()):
        for replay in (both.rows, both.numbers):
            replay.cut()
    # what is saved is arrays, no pickle, and goes on as the original does
    saved = encoding.encode(both.rows.state_dict(), "replay", arrays := {})
    assert all(array.dtype != object for array in arrays.values())
    both.rows = cls(each * num_envs, num_envs, ROWS, ACTION, n_step=both.rows.n_step, gamma=0.9)
    both.rows.load_state_dict(encoding.decode(saved, arrays))
    both.assert_alike()
    play([both], rng, data.draw(st.integers(0, 12)), num_envs, end=end, dummies=dummies)
    both.assert_alike()


def test_memory_follows_the_data():
    def filled(length):
        replay, flags = ReplayBuffer(100, 1, ROWS, ACTION), np.zeros(1, bool)
        obs = [row_array([RaggedRow([np.zeros((length, 4), np.float32)])]) for _ in range(301)]
        for now, after in pairwise(obs):
            replay.add(now, np.zeros(1, int), np.zeros(1), flags, flags, after)
        return replay.nbytes

    # of 301 observations 101 are kept, each once
    assert filled(1000) - filled(10) == 101 * 990 * 16
