"""Environments that ask for memory: their optima, what is shown, exact state, refusals."""

import gymnasium
import numpy as np
import pytest

from dynarl.envs.tasks.memory_tasks import RepeatPrevious, TMaze
from tests.helpers.exact_state import assert_exact_state


def play(env, policy, seed):
    obs, _ = env.reset(seed=seed)
    seen, total, over = [obs], 0.0, False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(policy(seen))
        seen.append(obs)
        total, over = total + reward, terminated or truncated
    return total, seen, terminated


def test_tmaze_optimum_and_guess():
    env = gymnasium.make("dynarl/TMaze-v0")
    walk = lambda turn: lambda seen: turn(seen) if seen[-1][1] else 0  # noqa: E731
    best = [play(env, walk(lambda seen: 2 if seen[0][0] > 0 else 1), seed) for seed in range(20)]
    assert all(total == 1.0 and len(seen) == 11 and over for total, seen, over in best)
    assert {seen[0][0] for _, seen, _ in best} == {-1.0, 1.0}
    assert all(not obs[0] for _, seen, _ in best for obs in seen[1:-1])
    guesses = [play(env, walk(lambda seen: 1), seed)[0] for seed in range(400)]
    assert np.mean(guesses) == pytest.approx(0.5, abs=0.1)
    total, seen, terminated = play(env, lambda seen: 1, 0)
    assert total == pytest.approx(-3.0) and len(seen) == 31 and not terminated


def test_repeat_previous_optimum_and_chance():
    env = gymnasium.make("dynarl/RepeatPrevious-v0")
    best = [play(env, lambda seen: seen[-5] if len(seen) > 4 else 0, seed) for seed in range(5)]
    assert all(total == pytest.approx(1.0) and len(seen) == 53 and over for total, seen, over in best)
    chance = [play(env, lambda seen: seen[-1], seed)[0] for seed in range(200)]
    assert np.mean(chance) == pytest.approx(-0.5, abs=0.1)


def test_cartpole_shows_positions_only():
    env, whole = gymnasium.make("dynarl/CartPoleNoVelocity-v0"), gymnasium.make("CartPole-v1")
    assert env.observation_space.shape == (2,) and env.spec.max_episode_steps == 500
    np.testing.assert_array_equal(env.reset(seed=3)[0], whole.reset(seed=3)[0][[0, 2]])
    for action in (0, 1, 1):
        np.testing.assert_array_equal(env.step(action)[0], whole.step(action)[0][[0, 2]])


@pytest.mark.parametrize("name", ["CartPoleNoVelocity", "TMaze", "RepeatPrevious"])
def test_exact_state(name):
    actions = np.random.default_rng(0).integers(0, 2, (30, 2))
    assert_exact_state(f"dynarl/{name}-v0", actions, cut=15)


def test_refusals():
    with pytest.raises(ValueError, match="TMaze: length must be at least 2, got 1"):
        TMaze(1)
    with pytest.raises(ValueError, match=r"RepeatPrevious: k must lie in \[1, 52\), got 52"):
        RepeatPrevious(52)
