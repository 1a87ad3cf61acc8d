"""The environments with known answers, played out."""

import gymnasium
import numpy as np
import pytest

from dynarl.envs import make
from dynarl.envs.tasks import register_tasks
from dynarl.envs.tasks.diagnostic import Chain

GAMMA = 0.9


def discounted(env_id, steps=400):
    """The mean discounted return from an episode's start, going on after truncation as if nothing was."""
    envs = make(env_id, 1)
    envs.reset()
    rewards, stops = [], []
    for _ in range(steps):
        step = envs.step(np.zeros(1, np.int64))
        rewards.append(step.reward[0])
        stops.append(step.terminated[0])
    total = 0.0
    for reward, stop in zip(reversed(rewards), reversed(stops)):
        total = reward + GAMMA * total * (not stop)
    return total


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ConstantReward", 1 / (1 - GAMMA)),
        ("Truncated", 1 / (1 - GAMMA)),
        ("Terminated", 1.0),
        ("TwoStateChain", 1 + 2 * GAMMA),
    ],
)
def test_values(name, value):
    assert discounted(f"dynarl/{name}-v0") == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("kind", ["Discrete", "Box", "MultiDiscrete", "MultiBinary"])
def test_acting_as_observed_is_best(kind):
    envs = make(f"dynarl/Identity{kind}-v0", 3)
    obs = envs.reset()
    best, total = 0.0 if kind == "Box" else 1.0, 0.0
    for t in range(64):
        step = envs.step(obs)
        np.testing.assert_array_equal(step.reward, best)
        assert step.truncated.all() == (t % 32 == 31) and not step.terminated.any()
        obs = envs.obs
    for _ in range(30):
        total += envs.step(np.zeros_like(obs)).reward.mean()
    assert total / 30 < best - 0.1


def test_observation_value():
    envs = make("dynarl/ObservationValue-v0", 50)
    obs = envs.reset()
    step = envs.step(np.zeros(50, np.int64))
    np.testing.assert_array_equal(step.reward, obs[:, 0])
    assert step.terminated.all() and set(obs[:, 0].tolist()) == {-1.0, 1.0}


def test_registering_twice_and_bad_end():
    before = gymnasium.registry["dynarl/Truncated-v0"]
    register_tasks()
    assert gymnasium.registry["dynarl/Truncated-v0"] is before
    with pytest.raises(ValueError, match="Chain: end must be 'terminated', 'truncated' or 'stay', got 'x'"):
        Chain(end="x")
