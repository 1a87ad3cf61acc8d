"""The rule that moves on when it likes: the optimum in closed form, what a guess gets, exact state."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dynarl.envs.checker import check
from dynarl.envs.tasks.nonstationary import FeedbackSwitch
from tests.helpers.exact_state import assert_exact_state

NAME = "dynarl/FeedbackSwitch-v0"


def play(moves_on, episodes):
    """The mean return, and its standard error, of who believes in a rule and moves on where `moves_on(reward)`."""
    env, returns = gymnasium.make(NAME), []
    for episode in range(episodes):
        obs, _ = env.reset(seed=episode)
        rule, total, over, count = 0, 0.0, False, 0
        while not over:
            obs, reward, terminated, over, _ = env.step((obs.argmax() + rule) % 3)
            rule, total, count = rule + moves_on(reward), total + reward, count + 1
        assert count == 50 and not terminated
        returns.append(total)
    return np.mean(returns), np.std(returns) / np.sqrt(episodes)


def test_who_listens_reaches_the_optimum():
    mean, error = play(lambda reward: reward < 0, 400)
    assert FeedbackSwitch().optimum == pytest.approx(0.902)
    assert mean == pytest.approx(0.902, abs=4 * error) and error < 0.01


def test_who_does_not_listen_is_no_better_than_a_guess_in_the_end():
    mean, _ = play(lambda reward: False, 400)
    assert -1 / 3 < mean < 0.2
    mean, _ = play(lambda reward: reward > 0, 400)
    assert mean < 0.0


def test_without_switches_nothing_is_lost():
    assert FeedbackSwitch(switch=0.0).optimum == 1.0


def test_checks():
    check_env(gymnasium.make(NAME).unwrapped, skip_render_check=True)
    assert not [finding for finding in check(NAME, show=False) if finding.level != "hint"]


def test_exact_state():
    assert_exact_state(NAME, np.zeros((120, 2), np.int64), cut=60)


def test_refusals():
    with pytest.raises(ValueError, match=r"FeedbackSwitch: rules must be at least 2.*got 3, 50 and 0.5"):
        FeedbackSwitch(switch=0.5)
