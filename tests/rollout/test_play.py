"""Whole episodes, the same number from every environment."""

import gymnasium
import numpy as np
import pytest

from dynarl.envs import make
from dynarl.rollout import play
from tests.helpers.scripted import MODES, scripted_environments


@pytest.mark.parametrize("mode", MODES)
def test_short_episodes_are_not_preferred(mode):
    scripts = [[(1, True, False)], [(9, False, True)]]
    returns, lengths = play(scripted_environments(scripts, mode), lambda obs, start, reward: np.zeros(2, np.int64), 5)
    assert lengths.tolist() == [1, 1, 1, 9, 9]
    assert returns[0] == 11.0 and returns[3] == 9 * 110 + 45


def test_the_policy_is_told_of_starts():
    starts = []
    play(
        make("dynarl/TwoStateChain-v0"),
        lambda obs, start, reward: starts.append(start[0]) or np.zeros(1, np.int64),
        2,
    )
    assert starts == [True, False, True, False]


def test_one_endless_episode_is_refused_beside_others_that_end():
    made = []

    def one():
        made.append(gymnasium.make("CartPole-v1", max_episode_steps=3 if not made else 10**9))
        return made[-1]

    def act(obs, episode_start, reward):
        assert calls.append(0) is None and len(calls) <= 200
        return (obs[:, 2] + obs[:, 3] > 0).astype(np.int64)  # balances the pole

    calls = []
    with pytest.raises(RuntimeError, match="within 100 steps, environment 1 did not"):
        play(make(one, 2), act, 2, max_episode_steps=100)


def test_refusals():
    envs = make("dynarl/ConstantReward-v0")
    with pytest.raises(ValueError, match="play: episodes must be at least 1, got 0"):
        play(envs, lambda obs, start, reward: np.zeros(1, np.int64), 0)
    with pytest.raises(
        RuntimeError, match="play: an episode must end within 50 steps, environment 0 did not; give the environment a"
    ):
        play(envs, lambda obs, start, reward: np.zeros(1, np.int64), 1, max_episode_steps=50)
