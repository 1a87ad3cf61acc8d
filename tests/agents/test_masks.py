"""Agents with action masks: learning, evaluation and predict keep to them, and values meet the closed form."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import dynarl
from dynarl.agents import DQN, PPO, SAC
from dynarl.agents.policies import ActorCritic
from dynarl.envs.masks import draw_allowed
from dynarl.envs.tasks.diagnostic import MaskedBandit
from tests.learning import Score, error, learns, mean_return

FAST = {"num_envs": 8, "num_steps": 32, "batch_size": 64, "num_epochs": 4, "learning_rate": 3e-3}


def episodes_of(components, count=200):
    """Return what is seen in each of some episodes, [count, arms], and what the best allowed arms pay."""
    envs = [MaskedBandit(4, components) for _ in range(count)]
    obs = np.stack([env.reset(seed=seed)[0] for seed, env in enumerate(envs)])
    return obs, np.array([env.best() for env in envs])


def regret(components):
    """Return the score that is what the agent's arms pay less than the best allowed ones, negative."""
    obs, best = episodes_of(components)

    def find(agent):
        action, _ = agent.predict(obs, action_mask=obs > 0, deterministic=True)
        return (action.reshape(len(obs), -1).mean(1) / 4 - best).mean()

    return Score("-regret", find, -0.02, -0.24)  # `static` plays allowed arms at random


def best_value(components):
    obs, best = episodes_of(components, 50)
    return error(lambda agent: agent.actor.value(obs), best, 0.12)


BANDITS = [
    learns(
        f"masks-ppo-{source}-{components}",
        partial(PPO, partial(MaskedBandit, 4, components, source), ent_coef=0.0, **FAST),
        steps=12_000,
        scores=[regret(components), best_value(components)],
    )
    for source in ("info", "method")
    for components in (1, 2)
]


@pytest.mark.learns
@pytest.mark.parametrize("case", BANDITS, ids=str)
def test_masked_bandit(case):
    """A forbidden arm raises in the environment, so that to finish at all means that none was played."""
    case.check().evaluate(20, deterministic=False)


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
FLAGS = {
    "plain": {},
    "double": {"double": True, "dueling": True},
    "prioritized": {"prioritized": True, "n_step": 2},
    "c51": {"distributional": "c51", "v_min": 0.0, "v_max": 2.0, "num_envs": 2},
    "qr": {"distributional": "qr", "num_quantiles": 8, "n_step": 3},
    "noisy": {"noisy": True, "double": True},
}


def allowed_value(agent):
    """Return the largest Q over the allowed actions of the three states."""
    q = agent.learner.q_distribution.expected(agent.policy(agent.actor.encoder(np.eye(3, dtype=np.float32))).array)
    return np.where(Walk.masks[:3], q, -np.inf).max(axis=1)


WALKS = [
    learns(
        f"masks-dqn-{name}",
        partial(DQN, Walk, **{**DQN_FAST, **flags}),
        steps=1500,
        scores=[
            mean_return(1.499, static=0.875, episodes=4),  # `static` plays allowed actions at random
            error(allowed_value, np.array(walk_values(0.9)), 0.15),
        ],
    )
    for name, flags in FLAGS.items()
]


@pytest.mark.learns
@pytest.mark.parametrize("case", WALKS, ids=str)
def test_dqn_keeps_to_masks_and_its_values_bootstrap_over_them_alone(case):
    """Without the mask in the target, action 3 of the second state (never taken) would be worth what it likes."""
    case.check().evaluate(4, deterministic=False)


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
    values, mask = agent.learner.evaluate(batch, 0), batch.next_action_mask
    td_target = agent.learner.q_distribution.target(batch.reward, batch.discount, values.next_q, values.chooser, mask)
    np.testing.assert_allclose(td_target, batch.reward + batch.discount * best, rtol=1e-5)
    assert set(at.tolist()) == {2, 3}
    np.testing.assert_array_equal(batch.next_action_mask, Walk.masks[at])


VALUE_BASED = [
    learns(
        f"masks-bandit-{cls.algorithm}-{source}",
        partial(
            cls, partial(MaskedBandit, 4, 1, source), num_envs=4, learning_rate=3e-3, learning_starts=100,
            batch_size=64, hidden_sizes=(32,), buffer_size=3000, **own,
        ),
        steps=3000,
        scores=regret(1),
    )
    for cls, own in (
        (DQN, {"train_freq": 2, "epsilon_steps": 1000}),
        (SAC, {"train_freq": 1, "target_entropy_scale": 0.1, "tau": 0.05, "alpha_init": 0.1}),
    )
    for source in ("info", "method")
]  # fmt: skip


@pytest.mark.learns
@pytest.mark.parametrize("case", VALUE_BASED, ids=str)
def test_masked_bandit_of_value_based_agents(case):
    case.check().evaluate(20, deterministic=False)


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
    batch, learner = agent.sample(), agent.learner
    inputs = learner.policy.inputs(batch, 0)
    sample = learner.objective.sample(learner.policy.at_obs(inputs), None)
    log_prob = sample.log_prob
    prob = np.exp(log_prob.array)
    assert (prob[~batch.action_mask] == 0).all()
    np.testing.assert_allclose(prob.sum(axis=1), 1.0, rtol=1e-5)
    allowed = [np.flatnonzero(mask) for mask in batch.action_mask]
    entropy = -np.mean([(p[k] * np.log(p[k])).sum() for p, k in zip(prob, allowed)])
    assert learner.objective.entropy(sample) == pytest.approx(entropy, rel=1e-4)
    q = agent.target_critics(inputs.obs).array.min(axis=0)
    value = [(p[k] * (r[k] - 0.5 * np.log(p[k]))).sum() for p, r, k in zip(prob, q, allowed)]
    found = learner.objective.soft_value(learner.target_critics, inputs.obs, sample, 0.5)
    np.testing.assert_allclose(found, value, rtol=1e-4)
    metrics = learner.update(batch)
    assert all(np.isfinite(number) for number in metrics.values())
    assert all(np.isfinite(p.array).all() for p in learner.actor.parameters())


def test_the_target_entropy_counts_allowed_actions():
    agent = SAC(Walk, seed=0, learning_starts=20, batch_size=16, buffer_size=200, hidden_sizes=(8,)).learn(30)
    assert agent.learner.objective.target_entropy(agent.sample()) == pytest.approx(0.98 * np.log(2))
    fixed = SAC(Walk, target_entropy=0.3, learning_starts=20, batch_size=16, buffer_size=200).learn(30)
    assert fixed.learner.objective.target_entropy(fixed.sample()) == 0.3


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
