"""Agents with action masks: learning, evaluation and predict keep to them, and values meet the closed form."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import dynarl
from dynarl.agents import DQN, PPO, SAC
from dynarl.agents.policies import ActorCritic
from dynarl.envs.masks import draw_allowed
from dynarl.envs.tasks.diagnostic import MaskedBandit

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


class Walk(gymnasium.Env):
    """Three steps of one of four actions; the mask changes at every step, and a forbidden action is an error.

    Action i pays i / 4. Action 3 is allowed only in the last step.
    """

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(4)
    masks = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 0]], bool)

    def __init__(self, end="terminated"):
        self.end = end

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.obs(), {"action_mask": self.masks[0]}

    def step(self, action):
        assert self.masks[self.at][action], f"step {self.at}: {action} is forbidden"
        self.at += 1
        over = self.at == 3
        ends = (over and self.end == "terminated", over and self.end == "truncated")
        return self.obs(), action / 4, *ends, {"action_mask": self.masks[self.at]}

    def obs(self):
        return np.eye(4, 3, dtype=np.float32)[self.at]


def walk_values(gamma):
    """V of the three states and, under truncation, of the one behind them: best allowed pay and what follows."""
    return 0.25 + gamma * (0.5 + gamma * 0.75), 0.5 + gamma * 0.75, 0.75


DQN_FAST = {
    "learning_rate": 5e-3, "learning_starts": 64, "train_freq": 1, "target_update_interval": 32,
    "epsilon_steps": 500, "buffer_size": 500, "gamma": 0.9, "hidden_sizes": (32,), "max_grad_norm": float("inf"),
}  # fmt: skip
FLAGS = [
    {},
    {"double": True, "dueling": True},
    {"prioritized": True, "n_step": 2},
    {"distributional": "c51", "v_min": 0.0, "v_max": 2.0, "num_envs": 2},
    {"distributional": "qr", "num_quantiles": 8, "n_step": 3},
    {"noisy": True, "double": True},
]


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_dqn_keeps_to_masks_and_its_values_bootstrap_over_them_alone(flags):
    """Without the mask in the target, action 3 of the second state (never taken) would be worth what it likes."""
    agent = DQN(Walk, seed=0, **{**DQN_FAST, **flags}).learn(1500)
    assert agent.evaluate(4).mean == pytest.approx(1.5)
    agent.evaluate(4, deterministic=False)
    obs = np.eye(3, dtype=np.float32)
    q = agent.head.expected(agent.policy(agent.network_input(obs)).array)
    value = np.where(Walk.masks[:3], q, -np.inf).max(axis=1)
    np.testing.assert_allclose(value, walk_values(0.9), atol=0.12)


@pytest.mark.parametrize("double", [False, True])
def test_dqns_target_looks_at_allowed_actions_alone(double):
    """The forbidden action has by far the largest Q, at a truncated end too."""
    agent = DQN(lambda: Walk("truncated"), seed=0, **DQN_FAST, double=double, n_step=2).learn(70)
    for network in (agent.policy, agent.target):
        bias = network.q[-1].bias.array
        bias[:] = [1.0, 2.0, 3.0, 100.0]
        network.q[-1].weight.array[...] = 0.0
    batch = agent.replay.sample(200, np.random.default_rng(0))
    # by how far s' is: two steps on, or the end of the episode
    at = batch.next_obs.argmax(axis=1) + 3 * (batch.next_obs.max(axis=1) == 0)
    best = np.array([2.0, 3.0, 100.0, 2.0])[at]
    np.testing.assert_allclose(agent.td_target(batch), batch.reward + batch.discount * best, rtol=1e-5)
    assert set(at.tolist()) == {2, 3}
    np.testing.assert_array_equal(batch.next_action_mask, Walk.masks[at])


@pytest.mark.parametrize("cls", [DQN, SAC])
@pytest.mark.parametrize("source", ["info", "method"])
def test_masked_bandit_of_value_based_agents(cls, source):
    own = {"epsilon_steps": 1000} if cls is DQN else {"target_entropy_scale": 0.1, "tau": 0.05, "alpha_init": 0.1}
    agent = cls(
        lambda: MaskedBandit(4, 1, source), seed=0, num_envs=4, learning_rate=3e-3, learning_starts=100,
        batch_size=64, hidden_sizes=(32,), buffer_size=3000, train_freq=1 if cls is SAC else 2, **own,
    ).learn(3000)  # fmt: skip
    best = [bandit_best(MaskedBandit(), seed) for seed in range(200)]
    assert agent.evaluate(200).mean > np.mean(best) - 0.04
    agent.evaluate(20, deterministic=False)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("cls", [DQN, SAC])
def test_vector_environments_of_value_based_agents(cls, mode):
    envs = SyncVectorEnv([Walk] * 3, autoreset_mode=mode)
    agent = cls(envs, seed=0, learning_starts=50, batch_size=16, buffer_size=200, hidden_sizes=(8,), n_step=2)
    agent.learn(400)
    batch = agent.replay.sample(300, np.random.default_rng(0))
    np.testing.assert_array_equal(batch.action_mask, Walk.masks[batch.obs.argmax(axis=1)])
    going = batch.discount > 0  # nothing is chosen in a terminal state
    np.testing.assert_array_equal(batch.next_action_mask[going], Walk.masks[batch.next_obs[going].argmax(axis=1)])


def test_discrete_sac_under_masks():
    """Probabilities, entropy and soft value of a state where two of four actions are allowed."""
    agent = SAC(Walk, seed=0, alpha=0.5, learning_starts=20, batch_size=16, buffer_size=200, hidden_sizes=(8,))
    agent.learn(60)
    batch = agent.sample()
    obs = agent.network_input(batch.obs)
    log_prob = agent.policy(agent.see(batch), 1)[1]
    prob = np.exp(log_prob.array)
    assert (prob[~batch.action_mask] == 0).all()
    np.testing.assert_allclose(prob.sum(axis=1), 1.0, rtol=1e-5)
    allowed = [np.flatnonzero(mask) for mask in batch.action_mask]
    entropy = -np.mean([(p[k] * np.log(p[k])).sum() for p, k in zip(prob, allowed)])
    assert agent.entropy(log_prob) == pytest.approx(entropy, rel=1e-4)
    q = agent.target_critics(obs).array.min(axis=0)
    value = [(p[k] * (r[k] - 0.5 * np.log(p[k]))).sum() for p, r, k in zip(prob, q, allowed)]
    np.testing.assert_allclose(agent.soft_value(obs, None, log_prob, 0.5), value, rtol=1e-4)
    metrics = agent.update(batch)
    assert all(np.isfinite(number) for number in metrics.values())
    assert all(np.isfinite(p.array).all() for p in agent.actor.parameters())


def test_the_target_entropy_counts_allowed_actions():
    agent = SAC(Walk, seed=0, learning_starts=20, batch_size=16, buffer_size=200, hidden_sizes=(8,)).learn(30)
    assert agent.target_entropy_of(agent.sample()) == pytest.approx(0.98 * np.log(2))
    fixed = SAC(Walk, target_entropy=0.3, learning_starts=20, batch_size=16, buffer_size=200).learn(30)
    assert fixed.target_entropy_of(fixed.sample()) == 0.3


@pytest.mark.parametrize("cls", [DQN, SAC])
def test_predict_of_value_based_agents(cls):
    agent = cls("dynarl/MaskedBandit-v0", buffer_size=500)
    for deterministic in (True, False):
        action, _ = agent.predict(np.ones((4, 4), np.float32), action_mask=np.eye(4), deterministic=deterministic)
        assert action.tolist() == [0, 1, 2, 3]
    assert agent.predict(np.ones(4, np.float32), action_mask=[0, 0, 1, 0])[0] == 2


@pytest.mark.parametrize("cls", [DQN, SAC])
def test_value_based_agents_resume_to_the_byte(cls, tmp_path):
    settings = {"learning_starts": 50, "batch_size": 16, "buffer_size": 200, "n_step": 2, "num_envs": 2}
    whole = cls("dynarl/MaskedBandit-v0", **settings).learn(256)
    part = cls("dynarl/MaskedBandit-v0", **settings).learn(128)
    resumed = cls.load(part.save(tmp_path / "c")).learn(128)
    assert "mask" in whole.state_dict()["replay"]
    flat = [dict(_leaves(agent.state_dict())) for agent in (whole, resumed)]
    assert flat[0].keys() == flat[1].keys()
    for name in flat[0]:
        np.testing.assert_array_equal(flat[0][name], flat[1][name], err_msg=name)


def _leaves(tree, at=""):
    for key, value in tree.items():
        yield from _leaves(value, f"{at}/{key}") if isinstance(value, dict) else [(f"{at}/{key}", value)]


def test_draws_are_even_over_what_is_allowed():
    masks = np.array([[1, 0, 1, 1], [0, 1, 0, 0]], bool)
    uniform = (np.arange(3000, dtype=np.float32) + 0.5) / 3000
    counts = [np.bincount(draw_allowed(uniform, np.repeat(mask[None], 3000, 0)), minlength=4) for mask in masks]
    np.testing.assert_array_equal(counts, [[1000, 0, 1000, 1000], [0, 3000, 0, 0]])
    edge = np.array([np.nextafter(np.float32(1), np.float32(0)), 0], np.float32)
    np.testing.assert_array_equal(draw_allowed(edge, masks[[0, 1]]), [3, 1])


class MaskedBox(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {"action_mask": np.ones(1, bool)}


class MaskedBoxByMethod(MaskedBox):
    def action_masks(self):
        return np.ones(1, bool)


BOX = r"action mask: the action space must be Discrete or MultiDiscrete, got Box.*; remove action_mask from the info"


@pytest.mark.parametrize("cls", [PPO, SAC])
def test_masks_of_box_actions_are_refused(cls):
    with pytest.raises(ValueError, match=BOX):
        cls(MaskedBoxByMethod)
    with pytest.raises(ValueError, match=BOX):  # it is in the info of the first reset alone
        cls(MaskedBox)
    with pytest.raises(ValueError, match=BOX):
        cls("Pendulum-v1").predict(np.zeros(3, np.float32), action_mask=[1])


def test_an_agent_that_would_ignore_masks_refuses_them(monkeypatch):
    monkeypatch.setattr(DQN, "takes_masks", False)
    with pytest.raises(ValueError, match="DQN: the environment masks actions, which this agent would ignore"):
        DQN("dynarl/MaskedBandit-v0").evaluate(1)
    with pytest.raises(ValueError, match="DQN: takes no action masks; PPO, DQN and SAC do"):
        DQN("CartPole-v1").predict(np.zeros(4, np.float32), action_mask=[1, 0])
