"""Replay against a list of transitions per environment and plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynarl.rollout import PrioritizedReplay, ReplayBuffer
from tests.helpers.replays import ACTION, OBS, chi_square, play


class Plain:
    """What a replay must hold: the newest transitions of each environment, in lists."""

    def __init__(self, capacity, num_envs, n_step, gamma):
        self.each, self.n_step, self.gamma = capacity // num_envs, n_step, gamma
        self.episodes = [[] for _ in range(num_envs)]

    def add(self, obs, action, reward, terminated, truncated, next_obs, valid):
        for i in np.flatnonzero(valid):
            row = (obs[i].copy(), action[i], reward[i], terminated[i], truncated[i], next_obs[i].copy())
            self.episodes[i] = [*self.episodes[i], row][-self.each :]

    def transitions(self):
        """Every transition by its observation's bytes: action, n-step reward, successor, discount."""
        found = {}
        for rows in self.episodes:
            for start, row in enumerate(rows):
                total, steps = 0.0, 0
                for later in rows[start : start + self.n_step]:
                    total += self.gamma**steps * later[2]
                    steps += 1
                    if later[3] or later[4]:
                        break
                found[row[0].tobytes()] = (row[1], total, later[5], 0.0 if later[3] else self.gamma**steps)
        return found


def mask_of(obs):
    """Masks [N, 5] that follow from the observations, so that each can be checked against its own."""
    return np.stack([np.frombuffer(row.tobytes(), np.uint8)[:5] % 2 == 0 for row in obs])


class Masked:
    """Gives a replay the masks of what it is given."""

    def __init__(self, replay):
        self.replay = replay

    def add(self, *step):
        self.replay.add(*step, action_mask=mask_of(step[0]), next_action_mask=mask_of(step[5]))


def assert_masks_hold(batch):
    np.testing.assert_array_equal(batch.action_mask, mask_of(batch.obs))
    np.testing.assert_array_equal(batch.next_action_mask, mask_of(batch.next_obs))


def assert_holds(batch, expected):
    for i, key in enumerate(batch.obs):
        action, reward, next_obs, discount = expected[key.tobytes()]
        assert batch.action[i] == action
        assert batch.reward[i] == pytest.approx(reward, abs=1e-5)
        assert batch.next_obs[i].tobytes() == next_obs.tobytes()
        assert batch.discount[i] == pytest.approx(discount, abs=1e-6)


@pytest.mark.parametrize("cls", [ReplayBuffer, PrioritizedReplay])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_every_boundary_against_plain_lists(cls, data):
    num_envs = data.draw(st.integers(1, 3))
    each = data.draw(st.integers(1, 9))
    n_step = data.draw(st.integers(1, min(4, each)))
    steps = data.draw(st.integers(1, 30))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    capacity = each * num_envs + data.draw(st.integers(0, num_envs - 1))
    replay = cls(capacity, num_envs, OBS, ACTION, n_step=n_step, gamma=0.9)
    plain = Plain(capacity, num_envs, n_step, 0.9)
    masked = data.draw(st.booleans())
    play([Masked(replay) if masked else replay, plain], rng, steps, num_envs,
         end=data.draw(st.sampled_from([0.0, 0.2, 0.7])),
         dummies=data.draw(st.booleans()))  # fmt: skip
    expected = plain.transitions()
    assert len(replay) == len(expected)
    if expected:
        # 30 draws for each transition: the chance to miss one is below 1e-11
        batch = replay.sample(30 * len(expected), rng)
        assert_holds(batch, expected)
        assert ("action_mask" in batch) == masked
        if masked:
            assert_masks_hold(batch)
        assert {obs.tobytes() for obs in batch.obs} == set(expected)


@pytest.mark.parametrize("cls", [ReplayBuffer, PrioritizedReplay])
@given(seed=st.integers(0, 2**32), dummies=st.booleans(), steps=st.integers(1, 40), masked=st.booleans())
@settings(max_examples=40, deadline=None)
def test_state_continues_to_the_byte(cls, seed, dummies, steps, masked):
    given = Masked if masked else lambda replay: replay
    ours, other = (cls(24, 2, OBS, ACTION, n_step=3, gamma=0.9) for _ in range(2))
    rng = np.random.default_rng(seed)
    play([given(ours)], rng, steps, 2, dummies=dummies)
    other.load_state_dict(ours.state_dict())
    play([given(ours), given(other)], rng, 15, 2, dummies=dummies)
    if len(ours):
        a, b = (replay.sample(50, np.random.default_rng(1)) for replay in (ours, other))
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_uniform_sampling_is_uniform():
    replay = ReplayBuffer(30, 3, OBS, ACTION)
    rng = np.random.default_rng(0)
    play([replay], rng, 57, 3, dummies=True)
    index = replay.sample(30_000, rng).index
    counts = np.unique(index, return_counts=True)[1]
    assert len(counts) == len(replay)
    assert chi_square(counts, 30_000 / len(counts)) < 3.0


def test_images_are_stored_once_and_successors_rebuilt():
    replay = ReplayBuffer(100, 1, ((3, 8, 8), np.uint8), ACTION)
    assert replay._obs.dtype == np.uint8
    assert replay.nbytes < 1.4 * 101 * (3 * 8 * 8 + 26)
    frames = np.arange(40, dtype=np.uint8)[:, None, None, None, None] * np.ones((1, 3, 8, 8), np.uint8)
    for t in range(30):
        end = np.array([t % 7 == 6])
        replay.add(frames[t], np.array([t]), np.zeros(1), end, ~end & False, frames[t + 1] + 100 * end[0], None)
    batch = replay.sample(400, np.random.default_rng(0))
    t = batch.action
    np.testing.assert_array_equal(batch.obs[:, 0, 0, 0], t)
    np.testing.assert_array_equal(batch.next_obs[:, 1, 2, 3], t + 1 + 100 * (t % 7 == 6))


def test_final_observations_are_reused():
    replay = ReplayBuffer(10, 1, OBS, ACTION)
    play([replay], np.random.default_rng(0), 1000, 1, end=0.5)
    assert len(replay._finals.obs) == 16


def test_cut_ends_open_episodes_where_they_are():
    replay = ReplayBuffer(20, 2, OBS, ACTION, n_step=3, gamma=0.5)
    one, flag = np.ones((2, 2), np.float32), np.zeros(2, bool)
    for t in range(2):
        replay.add(one * t, np.zeros(2), np.ones(2), flag, flag, one * (t + 1))
    replay.cut(np.array([True, False]))
    replay.add(one * 7, np.zeros(2), np.ones(2), flag, flag, one * 8)
    batch = replay.gather(np.array([2, 3]), np.ones(2))  # the second step of both environments
    np.testing.assert_array_equal(batch.next_obs[:, 0], [2.0, 8.0])
    np.testing.assert_array_equal(batch.reward, [1.0, 1.5])
    np.testing.assert_array_equal(batch.discount, [0.5, 0.25])
    replay.cut()
    replay.cut()  # nothing is open any more
    assert len(replay) == 6


def test_a_cut_keeps_the_mask_of_the_last_observation():
    replay = ReplayBuffer(20, 2, OBS, ACTION)
    play([Masked(replay)], np.random.default_rng(0), 4, 2, end=0.0)
    replay.cut()
    play([Masked(replay)], np.random.default_rng(1), 30, 2)
    assert_masks_hold(replay.sample(200, np.random.default_rng(2)))


def test_masks_are_given_at_every_step_or_never():
    replay = ReplayBuffer(20, 2, OBS, ACTION)
    play([replay], np.random.default_rng(0), 1, 2, end=0.0)
    play([Masked(replay)], np.random.default_rng(1), 1, 2)
    assert replay.sample(50, np.random.default_rng(2)).action_mask.all(axis=1).any()  # before: all were allowed
    with pytest.raises(ValueError, match="add requires action_mask and next_action_mask at every step"):
        play([replay], np.random.default_rng(1), 1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, 0), "num_envs must be at least 1, got 0"),
        ((3, 4), "capacity 3 holds no transition of each of 4 environments"),
        ((8, 2, 0), "n_step must lie between 1 and the 4 transitions kept of each environment, got 0"),
        ((8, 2, 5), "n_step must lie between 1 and the 4 transitions kept of each environment, got 5"),
        ((8, 2, 1, 1.5), r"gamma must lie in \[0, 1\], got 1.5"),
    ],
)
def test_bad_arguments(arguments, message):
    capacity, num_envs, *rest = arguments
    window = dict(zip(("n_step", "gamma"), rest))
    with pytest.raises(ValueError, match=f"ReplayBuffer: {message}"):
        ReplayBuffer(capacity, num_envs, OBS, ACTION, **window)


def test_too_little_memory_says_how_much_is_asked_for():
    with pytest.raises(MemoryError, match=r"ReplayBuffer: 1,000,000,000,001 rows of \[84, 84\] uint8 take .* GiB"):
        ReplayBuffer(10**12, 1, ((84, 84), np.uint8), ACTION)


def test_state_of_another_replay_is_refused():
    state = ReplayBuffer(8, 2, OBS, ACTION).state_dict()
    with pytest.raises(ValueError, match="the state is of 2 environments with 4 transitions each, this replay of 1"):
        ReplayBuffer(8, 1, OBS, ACTION).load_state_dict(state)
    with pytest.raises(ValueError, match=r"obs of the state is float32 \[2\] each, this replay's float32 \[3\]"):
        ReplayBuffer(8, 2, ((3,), np.float32), ACTION).load_state_dict(state)


@pytest.mark.parametrize("cls", [ReplayBuffer, PrioritizedReplay])
def test_empty_replay_cannot_be_sampled(cls):
    with pytest.raises(RuntimeError, match="sample: the replay must hold a transition, got 0"):
        cls(8, 2, OBS, ACTION).sample(4, np.random.default_rng(0))
