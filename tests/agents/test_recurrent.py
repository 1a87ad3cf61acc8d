"""PPO with policies that have a state: ratios, states in learning, values, resume, predict, memory tasks, errors."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import dynarl
from dynarl import nn
from dynarl.agents import PPO, PPOConfig
from dynarl.agents.policies.recurrent import RecurrentActorCritic
from dynarl.agents.ppo.actor import own_policy
from dynarl.agents.user_policy.runner import PolicyState
from dynarl.autograd import Parameter
from dynarl.distributions import Categorical
from tests.learning import learns, mean_return, relative_error

QUICK = {
    "num_envs": 4,
    "num_steps": 16,
    "batch_size": 32,
    "num_epochs": 4,
    "learning_rate": 1e-2,
    "hidden_sizes": (16,),
}
MODES = ["sync", "NEXT_STEP", "SAME_STEP", "DISABLED"]


def environment(env_id, mode):
    if mode == "sync":
        return env_id
    kind = gymnasium.vector.AutoresetMode[mode]
    return gymnasium.make_vec(env_id, num_envs=4, vector_kwargs={"autoreset_mode": kind}, vectorization_mode="sync")


class Feeling(nn.Module):
    """Batched policy with a learned initial state that also looks at all of its feedback, one step at a time."""

    takes_batch = True

    def __init__(self, obs_size=2, actions=3, size=4, dtype=None):
        super().__init__()
        self.first = Parameter(dynarl.full((size,), 0.3, dtype=dtype))
        self.cell = nn.GRUCell(obs_size + actions + 2, size, dtype=dtype)
        self.head, self.critic = nn.Linear(size, actions, dtype=dtype), nn.Linear(size, 1, dtype=dtype)

    def initial_state(self):
        return {"h": self.first}

    def forward(self, obs, state, feedback):
        said = dynarl.stack([feedback.reward, feedback.episode_start.float()], 1)
        h = self.cell(dynarl.cat([obs, feedback.action, said], 1).to(self.first.dtype), state["h"])
        return Categorical(logits=self.head(h)), self.critic(h).reshape(-1), {"h": h}


def first_ratios(agent):
    """The ratios of the first epoch, before any step, of every minibatch."""
    fragment = agent.collector.collect()
    for name in ("advantages", "returns"):
        fragment[name] = np.ones_like(fragment.value)
    batch = agent.learner.rows.batch(fragment)
    found = []
    for env in ([0, 2], [1, 3]):
        minibatch = agent.learner.rows.minibatch(batch, np.array(env))
        log_prob, value, entropy, _ = agent.learner.rows.evaluate(minibatch, with_entropy=True)
        assert len(log_prob) == len(minibatch.log_prob) == fragment.valid[:, env].sum()
        assert entropy.shape == ()
        found.append(np.exp(log_prob.detach().numpy() - minibatch.log_prob))
        np.testing.assert_allclose(value.detach().numpy(), minibatch.value, rtol=1e-5, atol=1e-6)
    return np.concatenate(found)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("recurrent", ["lstm", "gru", "own"])
def test_first_epoch_ratio_is_one(recurrent, mode):
    policy = Feeling() if recurrent == "own" else None
    agent = PPO(
        environment("dynarl/TMaze-v0", mode), policy=policy, seed=1, **QUICK,
        recurrent="none" if policy else recurrent,
    )  # fmt: skip
    agent.learn(200)
    for _ in range(4):  # through truncations (30 steps) and terminations, from states in the middle of episodes
        np.testing.assert_allclose(first_ratios(agent), 1.0, atol=1e-6)


@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
def test_fused_sequence_is_the_loop_of_steps(recurrent):
    """Losses and all gradients of `sequence` against calling the policy step by step, in float64."""
    agent = PPO("dynarl/TMaze-v0", seed=2, recurrent=recurrent, **QUICK).learn(200)
    fragment = agent.collector.collect()
    policy = own_policy(agent.observation_space, agent.action_space, agent.config, None).double()
    policy.load_state_dict(agent.policy.state_dict())
    agent.actor.policy = agent.actor.runner.policy.policy = agent.actor.runner.policy.module = policy
    for name in ("advantages", "returns"):
        fragment[name] = np.random.default_rng(0).normal(size=fragment.value.shape).astype(np.float32)
    batch = agent.learner.rows.batch(fragment)
    batch["input"] = batch.input.astype(np.float64)
    minibatch = agent.learner.rows.minibatch(batch, np.array([3, 1]))
    assert fragment.episode_start[1:].any()
    minibatch["state"] = tuple(tuple(part.astype(np.float64) for part in one) for one in minibatch.state)
    results = []
    fused = RecurrentActorCritic.sequence
    for _ in range(2):
        agent.policy.zero_grad()
        losses = list(agent.learner.loss_terms(minibatch)[0].values())
        sum(losses).backward()
        results.append([loss.item() for loss in losses] + [p.grad.numpy().copy() for p in agent.policy.parameters()])
        agent.policy.__class__ = type("Stepwise", (RecurrentActorCritic,), {"sequence": property(_absent)})
    assert RecurrentActorCritic.sequence is fused
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def _absent(self):
    raise AttributeError("sequence")


def test_learned_initial_state_gets_a_gradient():
    agent = PPO("dynarl/TMaze-v0", policy=Feeling(), seed=0, **QUICK)
    before = agent.policy.first.detach().numpy().copy()
    agent.learn(64)
    assert not np.array_equal(agent.policy.first.detach().numpy(), before)


def mean_value(agent):
    fragment = agent.collector.collect()
    return fragment.value[fragment.valid].mean()


def with_memory(env_id, mode, seed):
    return PPO(
        environment(env_id, mode), seed=seed, gamma=0.8, gae_lambda=0.9, max_grad_norm=10.0, recurrent="gru",
        recurrent_hidden_size=8, **QUICK,
    )  # fmt: skip


VALUES = [
    learns(
        f"recurrent-value-{name}-{mode}",
        partial(with_memory, f"dynarl/{name}-v0", mode),
        steps=8_000,
        scores=relative_error(mean_value, expected, 0.03),
    )
    for name, expected in (("Truncated", 5.0), ("Terminated", 1.0))
    for mode in MODES
]


@pytest.mark.learns
@pytest.mark.parametrize("case", VALUES, ids=str)
def test_value_settles_at_the_closed_form(case):
    """Resetting the state before V of a truncated successor, or a dummy row in the loss, would pull it off."""
    case.check().envs.close()


@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
@pytest.mark.parametrize("env_id", ["dynarl/TMaze-v0", "Pendulum-v1", "CartPole-v1"])
def test_resume_to_the_byte(env_id, recurrent, tmp_path):
    options = {**QUICK, "recurrent": recurrent, "normalize_reward": True}
    straight = PPO(env_id, seed=4, **options).learn(4 * 64)
    half = PPO(env_id, seed=4, **options).learn(2 * 64)
    half.save(tmp_path / "half")
    resumed = PPO.load(tmp_path / "half").learn(2 * 64)
    for p, q in zip(straight.policy.parameters(), resumed.policy.parameters()):
        np.testing.assert_array_equal(p.array, q.array)
    one, other = straight.collector.collect(), resumed.collector.collect()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_predict_carries_the_state_and_resets_it():
    agent = PPO("dynarl/TMaze-v0", seed=0, recurrent="lstm", **QUICK).learn(128)
    obs = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], np.float32)
    state, history = None, []
    for row in obs:
        action, state = agent.predict(row, state, deterministic=True)
        history.append(state.state)
    assert isinstance(state, PolicyState) and np.shape(action) == ()
    _, again = agent.predict(obs[:1], state, episode_start=[True], deterministic=True)
    for got, want in zip(again.state[0], history[0][0]):
        np.testing.assert_array_equal(got, want)
    _, two = agent.predict(np.stack([obs[1], obs[1]]), None, deterministic=True)
    assert len(two.action) == 2
    with pytest.raises(ValueError, match="predict: state must be what the last call returned for 2 observations"):
        agent.predict(obs[:2], state)
    with pytest.raises(ValueError, match="or None, got str"):
        agent.predict(obs[:2], "state")


class Copy(nn.Module):
    """Value and action say what the feedback was: to see what predict and evaluate pass."""

    info_fields = ()
    takes_batch = True

    def __init__(self):
        super().__init__()
        self.seen = []
        self.weight = Parameter(dynarl.zeros(2))

    def initial_state(self):
        return ()

    def forward(self, obs, state, feedback):
        self.seen.append(feedback)
        return Categorical(logits=self.weight.expand(len(obs), 2)), obs[:, 0] + self.weight[0], ()


def test_feedback_in_predict_and_evaluate():
    agent = PPO("CartPole-v1", policy=Copy(), seed=0, num_envs=2, num_steps=8, batch_size=8)
    agent.policy.seen.clear()
    obs = np.zeros(4, np.float32)
    action, state = agent.predict(obs)
    agent.predict(obs, state, reward=2.5)
    first, second = agent.policy.seen
    assert first.episode_start.numpy().all() and not first.action.numpy().any() and not first.reward.numpy().any()
    assert second.reward.numpy() == [2.5] and second.action.numpy()[0, action] == 1
    agent.policy.seen.clear()
    agent.evaluate(2)
    starts = [seen.episode_start.numpy() for seen in agent.policy.seen]
    rewards = [seen.reward.numpy() for seen in agent.policy.seen]
    assert starts[0].all() and not rewards[0].any()
    assert all((r == np.where(s, 0, 1)).all() for s, r in zip(starts[1:], rewards[1:]))


def test_features_in_front_of_the_memory():
    agent = PPO("dynarl/TMaze-v0", seed=0, recurrent="gru", features=nn.Sequential(nn.Linear(2, 8), nn.Tanh()), **QUICK)
    agent.learn(128)
    np.testing.assert_allclose(first_ratios(agent), 1.0, atol=1e-6)


class Echo(gymnasium.Env):
    """It pays to repeat the number shown at the start only; at every step a mask forbids one other action."""

    def __init__(self):
        self.observation_space, self.action_space = spaces.Box(0, 3, (1,), np.float32), spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.target, self.t = int(self.np_random.integers(3)), 0
        return self._obs(), {"action_mask": self._mask()}

    def step(self, action):
        assert self._mask()[action]
        self.t += 1
        return self._obs(), float(action == self.target), False, self.t == 5, {"action_mask": self._mask()}

    def _obs(self):
        return np.array([self.target if self.t == 0 else 0], np.float32)

    def _mask(self):
        return np.arange(4) != (self.target + 1 + self.t % 2) % 4


MASKED = learns(
    "recurrent-masks",
    partial(
        PPO,
        Echo,
        recurrent="gru",
        recurrent_hidden_size=16,
        ent_coef=0.02,
        learning_rate_schedule="linear",
        **QUICK,
    ),
    steps=10_000,
    scores=mean_return(0.95, static=1 / 3, episodes=20, scale=5),
)


@pytest.mark.learns
def test_masks_and_memory():
    """Only allowed actions are taken, the ratio of the first epoch is 1, and masks and memory solve it together."""
    np.testing.assert_allclose(first_ratios(MASKED.check()), 1.0, atol=1e-6)


@pytest.mark.parametrize("mode", MODES[1:])
def test_masks_and_memory_in_vector_environments(mode):
    env = gymnasium.vector.SyncVectorEnv([Echo] * 4, autoreset_mode=gymnasium.vector.AutoresetMode[mode])
    agent = PPO(env, seed=0, recurrent="gru", recurrent_hidden_size=16, **QUICK).learn(128)
    np.testing.assert_allclose(first_ratios(agent), 1.0, atol=1e-6)


TMAZE = {
    "num_envs": 16, "num_steps": 32, "batch_size": 128, "num_epochs": 8, "learning_rate": 3e-3,
    "hidden_sizes": (32,), "gamma": 0.95, "ent_coef": 0.02, "learning_rate_schedule": "linear",
    "clip_range_schedule": "linear",
}  # fmt: skip
TURNS = learns(
    "recurrent-tmaze",
    partial(
        PPO, partial(gymnasium.make, "dynarl/TMaze-v0", length=4), recurrent="gru", recurrent_hidden_size=32, **TMAZE
    ),
    steps=20_000,
    scores=mean_return(0.95, static=0.5, episodes=50),
)


@pytest.mark.learns
def test_memory_decides_the_tmaze():
    """With memory the turn at the end is right; without, every other one is."""
    TURNS.check()
    blind = PPO(partial(gymnasium.make, "dynarl/TMaze-v0", length=4), seed=0, **TMAZE)
    assert blind.learn(20_000).evaluate(50).mean <= 0.7


class Wrong(Copy):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def initial_state(self):
        return {"number": "zero", "none": None}.get(self.kind, dynarl.zeros(3))

    def forward(self, obs, state, feedback):
        distribution, value, _ = super().forward(obs, (), feedback)
        match self.kind:
            case "two":
                return distribution, value
            case "value":
                return distribution, value.reshape(-1, 1), state
            case "shape":
                return distribution, value, state[:, :2]
            case "structure":
                return distribution, value, (state,)
        return distribution, value, state


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("number", TypeError, r"initial_state\(\) must return tensors and numbers in tuples and dicts, got str"),
        ("two", TypeError, r"must return \(distribution, value, next_state\) for a batch, got tuple of 2"),
        ("value", ValueError, r"the value of 2 observations must have shape \(2,\), got \(2, 1\)"),
        ("shape", ValueError, r"a state must keep its shape, for 2 environments \(2, 3\), got \(2, 2\)"),
        ("structure", ValueError, "a state must keep the structure of initial_state"),
    ],
)
def test_wrong_policies(kind, error, message):
    with pytest.raises(error, match=message):
        PPO("CartPole-v1", policy=Wrong(kind))


def test_wrong_options():
    with pytest.raises(ValueError, match="so it must be at least 128, got 64; a smaller sequence_length"):
        PPO("CartPole-v1", recurrent="lstm", batch_size=64)
    with pytest.raises(ValueError, match="recurrent: must be one of"):
        PPOConfig(recurrent="rnn")
    with pytest.raises(ValueError, match="recurrent: 'gru' policies have no state-dependent exploration"):
        PPOConfig(recurrent="gru", use_sde=True)
    with pytest.raises(ValueError, match="recurrent: must be 'lstm' or 'gru', got 'none'"):
        RecurrentActorCritic(gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(2), recurrent="none")
