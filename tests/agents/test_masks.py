"""PPO with action masks: learning, evaluation and predict keep to them, and values meet the closed form."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import dynarl
from dynarl.agents import DQN, PPO
from dynarl.agents.policies import ActorCritic
from dynarl.envs.known import MaskedBandit

FAST = {"num_envs": 8, "num_steps": 32, "batch_size": 64, "num_epochs": 4, "learning_rate": 3e-3}


@pytest.mark.parametrize("source", ["info", "method"])
@pytest.mark.parametrize("components", [1, 2])
def test_masked_bandit(source, components):
    """A forbidden arm raises in the environment, so that to finish at all means that none was played."""

    def bandit():
        return MaskedBandit(4, components, source)

    agent = PPO(bandit, seed=0, ent_coef=0.0, **FAST).learn(12_000)
    best = [bandit_best(bandit(), seed) for seed in range(200)]
    assert agent.evaluate(200).mean > np.mean(best) - 0.04
    agent.evaluate(20, deterministic=False)
    env = bandit()
    obs = np.stack([env.reset(seed=seed)[0] for seed in range(50)])
    np.testing.assert_allclose(agent.value(obs), best[:50], atol=0.12)


def bandit_best(env, seed):
    env.reset(seed=seed)
    return env.best()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_vector_environments(mode):
    envs = SyncVectorEnv([lambda: MaskedBandit(4)] * 4, autoreset_mode=mode)
    agent = PPO(envs, seed=0, **{**FAST, "num_envs": 4, "num_steps": 64}).learn(600)
    assert agent.env_steps >= 600


def test_predict():
    agent = PPO("dynarl/MaskedBandit-v0", **FAST)
    obs = np.ones(4, np.float32)
    for arm in range(4):
        mask = np.eye(4, dtype=bool)[arm]
        assert agent.predict(obs, action_mask=mask)[0] == arm
        assert agent.predict(obs, action_mask=mask, deterministic=True)[0] == arm
    action, _ = agent.predict(np.ones((4, 4), np.float32), action_mask=np.eye(4))
    assert action.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="predict: the action mask must have 4 entries"):
        agent.predict(obs, action_mask=[1, 1])


def test_a_masked_policy():
    policy = ActorCritic(gymnasium.spaces.Box(-1, 1, (3,)), gymnasium.spaces.Discrete(3))
    obs, mask = dynarl.randn(5, 3), dynarl.tensor(np.array([[True, False, True]] * 5))
    distribution, _ = policy(obs, mask)
    plain, _ = policy(obs)
    np.testing.assert_array_equal(distribution.probs.detach().numpy()[:, 1], 0.0)
    kept = plain.probs.detach().numpy()[:, [0, 2]]
    renormalised = kept / kept.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(distribution.probs.detach().numpy()[:, [0, 2]], renormalised, rtol=1e-5)
    (distribution.entropy().mean() + distribution.log_prob(dynarl.tensor([0, 2, 0, 2, 0])).mean()).backward()
    gradients = policy.actor[-1].weight.grad.numpy()
    assert np.isfinite(gradients).all() and (gradients[1] == 0).all() and (gradients[0] != 0).any()


def test_resuming(tmp_path):
    whole = PPO("dynarl/MaskedBandit-v0", **FAST).learn(1024)
    part = PPO("dynarl/MaskedBandit-v0", **FAST).learn(512)
    resumed = PPO.load(part.save(tmp_path / "c")).learn(512)
    for a, b in zip(whole.policy.parameters(), resumed.policy.parameters()):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_an_agent_that_would_ignore_masks_refuses_them():
    if DQN.takes_masks:
        pytest.skip("DQN takes masks")
    with pytest.raises(ValueError, match="DQN: the environment masks actions, which this agent would ignore"):
        DQN("dynarl/MaskedBandit-v0").evaluate(1)
    with pytest.raises(ValueError, match="DQN: takes no action masks; PPO does"):
        DQN("CartPole-v1").predict(np.zeros(4, np.float32), action_mask=[1, 0])
