"""Actions that mix kinds: PPO learns them, and what reaches the environment lies in its space."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dynarl.agents import PPO, SAC
from dynarl.envs import action_layout, make
from dynarl.envs.spaces import env_action_map
from dynarl.envs.tasks.diagnostic import IdentityEnv
from tests.learning import learns, mean_return

FAST = {"num_envs": 8, "num_steps": 32, "batch_size": 64, "num_epochs": 8, "learning_rate": 3e-3, "gamma": 0.0}
NESTED = spaces.Dict(
    b=spaces.Tuple((spaces.MultiBinary(2), spaces.Box(-2.0, 2.0, (2, 2), np.float32))),
    a=spaces.Discrete(3, start=5),
)


IDENTITIES = [
    learns(
        f"mixed-{name}",
        partial(PPO, f"dynarl/{name}-v0", hidden_sizes=(32,), log_std_init=-1.0, **FAST),
        steps=15_000,
        scores=mean_return(least, static=static, episodes=20, scale=32),
    )
    for name, least, static in (("IdentityMixed", 0.75, -0.33), ("IdentityMixedTuple", 1.75, 0.33))
]


@pytest.mark.learns
@pytest.mark.parametrize("case", IDENTITIES, ids=str)
def test_learns(case):
    agent = case.check()
    env = gymnasium.make(case.make.args[0])
    obs, _ = env.reset(seed=3)
    action, _ = agent.predict(obs, deterministic=True)
    assert env.action_space.contains(action)
    assert env.step(action)[1] > case.scores[0].least - 0.25


def test_what_reaches_the_environment():
    shape, dtype = action_layout(NESTED)
    assert (shape, dtype) == ((1 + 2 + 4,), np.float32)
    stored = np.array([[1, 0, 1, -9, 0.5, 1, 9], [2, 1, 1, 0, 0, 0, 0]], np.float32)
    first, second = env_action_map(NESTED)(stored)
    assert list(first) == list(NESTED.spaces)
    assert NESTED.contains(first) and NESTED.contains(second)
    assert first["a"] == 6 and second["a"] == 7
    assert first["b"][0].tolist() == [0, 1]
    assert first["b"][1].tolist() == [[-2.0, 0.5], [1.0, 2.0]]


@pytest.mark.parametrize("mode", ["sync", *AutoresetMode])
def test_nested_actions_in_every_kind_of_environment(mode):
    def one():
        return IdentityEnv(NESTED, length=7)

    env = one if mode == "sync" else SyncVectorEnv([one] * 3, autoreset_mode=mode)
    agent = PPO(env, **{**FAST, "num_envs": 3}).learn(200)
    assert agent.env_steps >= 200
    obs = make(one, 2).reset()
    assert obs.shape == (2, 3 + 2 + 4)


def test_predict_and_save(tmp_path):
    agent = PPO("dynarl/IdentityMixed-v0", **FAST).learn(512)
    batch = [agent.observation_space.sample() for _ in range(4)]
    stacked = {key: np.stack([one[key] for one in batch]) for key in batch[0]}
    actions, _ = agent.predict(stacked, deterministic=True)
    again = PPO.load(agent.save(tmp_path / "c"))
    for one, action in zip(batch, actions):
        assert agent.action_space.contains(action)
        single, _ = again.predict(one, deterministic=True)
        assert single["choice"] == action["choice"]
        np.testing.assert_allclose(single["amount"], action["amount"], rtol=1e-5, atol=1e-6)


def test_what_does_not_support_them_says_so():
    with pytest.raises(ValueError, match="Discrete"):
        SAC("dynarl/IdentityMixed-v0")
    with pytest.raises(ValueError, match="use_sde: state-dependent exploration is for Box actions"):
        PPO("dynarl/IdentityMixed-v0", use_sde=True)
