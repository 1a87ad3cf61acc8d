"""Corridors with a sign at their beginning: the optimum, what is left without memory, exact state."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dynarl.envs.checker import check
from dynarl.envs.tasks.corridors import Corridors
from tests.helpers.exact_state import assert_exact_state

NAME = "dynarl/Corridors-v0"


def play(remembers, episodes):
    """The mean return of who looks for the colour of the last sign, or, without memory, for colour 0."""
    env, returns = gymnasium.make(NAME), []
    for episode in range(episodes):
        obs, info = env.reset(seed=episode)
        colour, total, over = 0, 0.0, False
        while not over:
            doors, sign = obs[:16].reshape(4, 4), obs[16:]
            assert info["at_junction"] == sign.any() == (not doors.any())
            if remembers and sign.any():
                colour = sign.argmax()
            obs, reward, terminated, over, info = env.step(doors[:, colour].argmax())
            total += reward
            assert not terminated
        returns.append(total)
    return np.mean(returns), np.std(returns) / np.sqrt(episodes)


def test_who_remembers_the_sign_reaches_the_optimum():
    assert play(True, 20) == pytest.approx((1.0, 0.0))


def test_without_memory_halls_and_every_fourth_door_are_right():
    """Of rooms and halls 1 / 4.5 are halls, a little more for the episode begins with one."""
    mean, error = play(False, 300)
    assert mean == pytest.approx(-0.15, abs=4 * error) and error < 0.02


def test_checks():
    check_env(gymnasium.make(NAME).unwrapped, skip_render_check=True)
    assert not [finding for finding in check(NAME, show=False) if finding.level != "hint"]


def test_exact_state():
    assert_exact_state(NAME, np.zeros((100, 2), np.int64), cut=50)


def test_refusals():
    with pytest.raises(ValueError, match="Corridors: longest must be at least 2 and count 1, got 1 and 40"):
        Corridors(longest=1)
