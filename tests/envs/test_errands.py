"""Errands: the optimum in closed form, what looking ahead less far gets, the town, exact state."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dynarl.envs.checker import check
from dynarl.envs.tasks.errands import Errands, town
from tests.helpers.exact_state import assert_exact_state

NAME = "dynarl/Errands-v0"


def play(sight, episodes):
    """The mean return of who walks straight to goals within `sight` steps and tosses a coin for others."""
    env, returns, rng = gymnasium.make(NAME), [], np.random.default_rng(0)
    leads, steps = env.unwrapped.leads, env.unwrapped.steps
    for episode in range(episodes):
        obs, info = env.reset(seed=episode)
        total, over = 0.0, False
        assert info["new_goal"] == 1.0
        while not over:
            place, goal = obs[:32].argmax(), obs[32:].argmax()
            left = steps[leads[:, place], goal] + 1
            action = left.argmin() if left.min() <= sight else rng.integers(2)
            obs, reward, terminated, over, info = env.step(action)
            assert not terminated and info["new_goal"] == (leads[action, place] == goal) == (reward > 0)
            total += reward
        returns.append(total)
    return np.mean(returns), np.std(returns) / np.sqrt(episodes)


def test_who_sees_as_far_as_any_goal_reaches_the_optimum():
    mean, error = play(5, 300)
    assert mean == pytest.approx(1.0, abs=4 * error) and error < 0.01


@pytest.mark.parametrize(("sight", "value"), [(1, 0.24), (2, 0.50), (3, 0.75), (4, 0.93)])
def test_who_sees_less_far_falls_short(sight, value):
    mean, error = play(sight, 200)
    assert mean == pytest.approx(value, abs=4 * error) and error < 0.02


def test_the_town_is_always_the_same():
    leads, steps = town(32, 2, 5)
    np.testing.assert_array_equal(leads, town(32, 2, 5)[0])
    for place in range(32):
        assert set(range(6)) <= set(steps[place])
        np.testing.assert_array_equal(steps[leads[:, place]].min(0)[steps[place] == 3], 2)


def test_goals_are_those_of_one_step_each_where_that_is_the_farthest():
    assert Errands(farthest=1, count=7).goals == pytest.approx(7.0)
    assert Errands(farthest=2, count=2).goals == pytest.approx(1.25)  # 1 1: two, 1 2 and 2: one


def test_checks():
    check_env(gymnasium.make(NAME).unwrapped, skip_render_check=True)
    assert not [finding for finding in check(NAME, show=False) if finding.level != "hint"]


def test_exact_state():
    assert_exact_state(NAME, np.zeros((100, 2), np.int64), cut=50)


def test_refusals():
    with pytest.raises(ValueError, match=r"Errands: places and ways must be at least 2.* got places 32, ways 1"):
        Errands(ways=1)
    with pytest.raises(ValueError, match=r"Errands: no town of 16 places and 4 ways has other places 15 steps"):
        Errands(places=16, ways=4, farthest=15)
