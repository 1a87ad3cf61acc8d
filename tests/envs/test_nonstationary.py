"""What was known is suddenly worth nothing: optima in closed form, what those get who do not notice, exact state."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dynarl.envs.checker import check
from dynarl.envs.tasks.nonstationary import CommonestSuit, Runaway
from tests.helpers.exact_state import assert_exact_state

NAMES = ("Runaway", "CommonestSuit")


def hide_and_seek(surprised, episodes):
    """The mean return, and its standard error, of who goes on to the next hideout where `surprised(reward, expected)`.

    `expected` is what a right answer would have paid.
    """
    env, returns = gymnasium.make("dynarl/Runaway-v0"), []
    wind, count, width = env.unwrapped.wind, env.unwrapped.count, env.unwrapped.nodes + 1
    for episode in range(episodes):
        obs, _ = env.reset(seed=episode)
        at, total, over = int(obs[: width - 1].argmax()), 0.0, False
        while not over:
            expected = (1.0 + wind * obs[width - 1]) / count
            obs, reward, terminated, over, _ = env.step(at)
            total += reward
            rows, found = obs.reshape(width, width)[1:], not surprised(reward, expected)
            while not found:
                at, found = int(rows[at, :-1].argmax()), rows[at, -1] > 0
        assert not terminated
        returns.append(total)
    return np.mean(returns), np.std(returns) / np.sqrt(episodes)


def test_runaway_is_found_by_who_is_surprised():
    mean, error = hide_and_seek(lambda reward, expected: reward < expected - 0.01, 400)
    assert Runaway().optimum == pytest.approx(0.81)
    assert mean == pytest.approx(0.81, abs=4 * error) and error < 0.02


@pytest.mark.parametrize(
    ("surprised", "got"),
    [
        (lambda reward, expected: False, 0.0),
        (lambda reward, expected: True, -0.29),
        (lambda reward, expected: reward < 0, 0.13),
    ],
)
def test_runaway_is_lost_by_others(surprised, got):
    mean, error = hide_and_seek(surprised, 400)
    assert mean == pytest.approx(got, abs=0.06) and error < 0.04


def test_winds_undo_each_other():
    env, paid = Runaway(switch=0.0), 0.0
    obs, _ = env.reset(seed=0)
    at, winds = int(obs[: env.nodes].argmax()), []
    for _ in range(env.count):
        winds.append(obs[env.nodes])
        obs, reward, *_ = env.step(at)
        paid += reward
    assert paid == pytest.approx(1.0) and np.std(winds) > 0.3
    np.testing.assert_allclose(winds[0::2], np.negative(winds[1::2]))


def count_suits(heeds, episodes):
    env, returns = gymnasium.make("dynarl/CommonestSuit-v0"), []
    for episode in range(episodes):
        obs, info = env.reset(seed=episode)
        seen, total, over = obs.copy(), 0.0, False
        assert info == {"shuffled": 1.0}
        while not over:
            obs, reward, terminated, over, info = env.step(int(seen.argmax()))
            seen, total = seen * (not (heeds and info["shuffled"])) + obs, total + reward
        assert not terminated
        returns.append(total)
    return np.mean(returns)


def test_suits_are_counted_by_who_forgets():
    assert count_suits(True, 50) == pytest.approx(1.0)
    assert count_suits(False, 200) == pytest.approx(0.66, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_checks(name):
    check_env(gymnasium.make(f"dynarl/{name}-v0").unwrapped, skip_render_check=True)
    assert not [finding for finding in check(f"dynarl/{name}-v0", show=False) if finding.level != "hint"]


@pytest.mark.parametrize("name", NAMES)
def test_exact_state(name):
    assert_exact_state(f"dynarl/{name}-v0", np.zeros((93, 2), np.int64), cut=33)


def test_refusals():
    with pytest.raises(ValueError, match=r"Runaway: hideouts must lie in \[2, nodes\].*got 1 of 6, 0.1, 2.0 and 20"):
        Runaway(hideouts=1)
    with pytest.raises(ValueError, match=r"CommonestSuit: suits must be at least 2.*got 4, 40 and 1.5"):
        CommonestSuit(shuffle=1.5)
