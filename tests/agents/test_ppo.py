"""PPO: values against closed forms, optimal actions in every action space, determinism, state, errors."""

import dataclasses
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import dynarl
from dynarl import nn
from dynarl.agents import PPO, PPOConfig
from dynarl.checkpoint import CheckpointError
from tests.learning import SHORT_CARTPOLE, learns, mean_return, relative_error

QUICK = {
    "num_envs": 4,
    "num_steps": 16,
    "batch_size": 32,
    "num_epochs": 4,
    "learning_rate": 1e-2,
    "hidden_sizes": (16,),
}


def value_of(agent, obs):
    return agent.actor.value(np.asarray(obs, agent.actor.encoder.layout.dtype))


def constant_reward(env_id, vectorization, seed):
    env = env_id
    if vectorization != "sync":
        mode = gymnasium.vector.AutoresetMode[vectorization]
        env = gymnasium.make_vec(env_id, num_envs=4, vector_kwargs={"autoreset_mode": mode}, vectorization_mode="sync")
    return PPO(env, seed=seed, gamma=0.8, gae_lambda=0.9, max_grad_norm=10.0, **QUICK)


VALUES = [
    learns(
        f"ppo-value-{name}-{vectorization}",
        partial(constant_reward, f"dynarl/{name}-v0", vectorization),
        steps=8_000,
        scores=relative_error(lambda agent: value_of(agent, agent.envs.obs[:1]), expected, 0.02),
    )
    for name, expected in (("ConstantReward", 1 / (1 - 0.8)), ("Truncated", 1 / (1 - 0.8)), ("Terminated", 1.0))
    for vectorization in ("sync", "NEXT_STEP", "SAME_STEP", "DISABLED")
]


@pytest.mark.learns
@pytest.mark.parametrize("case", VALUES, ids=str)
def test_value_settles_at_the_closed_form(case):
    """Merging truncation with termination would settle low; a dummy row in the loss would pull it off."""
    case.check().envs.close()


IDENTITIES = [
    learns(
        f"ppo-identity-{kind}",
        partial(PPO, f"dynarl/Identity{kind}-v0", **{**QUICK, "num_steps": 32, "gamma": 0.0}),
        steps=12_000,
        scores=mean_return(least, static=static, episodes=20, scale=32),  # 32 steps an episode
    )
    for kind, least, static in (
        ("Discrete", 0.98, 1 / 3),
        ("Box", -0.05, -0.67),
        ("MultiDiscrete", 0.98, 1 / 6),
        ("MultiBinary", 0.98, 1 / 8),
    )
]


@pytest.mark.learns
@pytest.mark.parametrize("case", IDENTITIES, ids=str)
def test_learns_the_identity(case):
    agent = case.check()
    obs = agent.envs.obs
    action, state = agent.predict(obs, deterministic=True)
    assert state is None and len(action) == len(obs)


CARTPOLE = {
    "num_steps": 32,
    "batch_size": 256,
    "num_epochs": 20,
    "gamma": 0.98,
    "gae_lambda": 0.8,
    "learning_rate": 1e-3,
    "learning_rate_schedule": "linear",
    "clip_range_schedule": "linear",
}
GATE = learns(
    "ppo-cartpole",
    partial(PPO, "CartPole-v1", **CARTPOLE),
    steps=50_000,
    scores=mean_return(450, static=22.0, episodes=20),
)


@pytest.mark.learns
def test_cartpole_gate():
    """Gate A: 50 000 steps reach a mean return of 450."""
    GATE.check()


def flat_bytes(tree):
    if isinstance(tree, dict):
        return b"".join(str(k).encode() + flat_bytes(tree[k]) for k in sorted(tree, key=str))
    if isinstance(tree, (list, tuple)):
        return b"".join(map(flat_bytes, tree))
    return tree.tobytes() if isinstance(tree, np.ndarray) else repr(tree).encode()


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCarContinuous-v0"])
def test_same_seed_same_bytes_and_resume_is_exact(env_id, tmp_path):
    options = {**QUICK, "normalize_obs": True, "normalize_reward": True, "ent_coef": 0.01}
    whole, again = (PPO(env_id, seed=3, **options).learn(640) for _ in range(2))
    assert flat_bytes(whole.state_dict()) == flat_bytes(again.state_dict())
    half = PPO(env_id, seed=3, **options).learn(320)
    path = half.save(tmp_path / "half")
    resumed = PPO.load(path)
    assert flat_bytes(resumed.state_dict()) == flat_bytes(half.state_dict())
    resumed.learn(320)
    assert flat_bytes(resumed.state_dict()) == flat_bytes(whole.state_dict())
    other = PPO(env_id, seed=4, **options).learn(320)
    assert flat_bytes(other.state_dict()["policy"]) != flat_bytes(half.state_dict()["policy"])


def test_no_global_random_state():
    dynarl.manual_seed(1)
    np.random.seed(1)
    a = PPO("CartPole-v1", seed=0, **QUICK).learn(256)
    dynarl.manual_seed(2)
    np.random.seed(2)
    before = np.random.get_state()[1].copy()
    b = PPO("CartPole-v1", seed=0, **QUICK).learn(256)
    assert flat_bytes(a.state_dict()) == flat_bytes(b.state_dict())
    np.testing.assert_array_equal(before, np.random.get_state()[1])


def test_first_epoch_has_ratio_one():
    agent = PPO("CartPole-v1", seed=0, **{**QUICK, "num_epochs": 1, "batch_size": 64})
    agent.learn(64)
    metrics = {}
    agent.learn(64, metrics.update)
    assert abs(metrics["train/approx_kl"]) < 1e-6 and metrics["train/clip_fraction"] == 0.0


def test_kl_stops():
    strict = {**QUICK, "num_epochs": 10}
    free = PPO("CartPole-v1", seed=0, **strict).learn(256)
    by_minibatch = PPO("CartPole-v1", seed=0, kl_target=1e-4, **strict).learn(256)
    by_epoch = PPO("CartPole-v1", seed=0, kl_target=1e-4, kl_action="stop_epoch", **strict).learn(256)
    assert by_minibatch.grad_steps < by_epoch.grad_steps < free.grad_steps
    steered = PPO("CartPole-v1", seed=0, kl_target=1e-5, kl_action="adapt_lr", **strict).learn(256)
    assert steered.optimizer.param_groups[0]["lr"] < QUICK["learning_rate"]


def test_remainder_rows_are_spread_evenly():
    agent = PPO("CartPole-v1", seed=0, **{**QUICK, "num_steps": 13, "batch_size": 25})  # 52 rows: 26 and 26
    sizes = []
    step = agent.learner.step
    agent.learner.step = lambda minibatch, *a, **k: sizes.append(len(minibatch.log_prob)) or step(minibatch, *a, **k)
    agent.learn(52)
    assert set(sizes) == {26} and len(sizes) == 2 * QUICK["num_epochs"]


def test_schedules_reach_the_metrics():
    seen = []
    agent = PPO("CartPole-v1", seed=0, learning_rate_schedule="linear", clip_range_schedule="linear", **QUICK)
    agent.learn(256, seen.append)
    rates = [m["train/learning_rate"] for m in seen]
    assert rates == pytest.approx([1e-2 * f for f in (1.0, 0.75, 0.5, 0.25)])
    assert [m["train/clip_range"] for m in seen] == pytest.approx([0.2 * f for f in (1.0, 0.75, 0.5, 0.25)])


def test_on_iteration_can_stop():
    agent = PPO("CartPole-v1", seed=0, **QUICK).learn(10_000, lambda metrics: False)
    assert agent.iteration == 1 and agent.env_steps == 64


def test_normalizers_are_part_of_the_policy(tmp_path):
    agent = PPO("Pendulum-v1", seed=0, normalize_obs=True, **QUICK).learn(320)
    frozen = agent.state_dict()["obs_normalizer"]
    obs = np.array([0.1, 0.2, 3.0], np.float32)
    action, _ = agent.predict(obs, deterministic=True)
    agent.evaluate(2)
    assert flat_bytes(agent.state_dict()["obs_normalizer"]) == flat_bytes(frozen)
    loaded = PPO.load(agent.save(tmp_path / "agent"))
    np.testing.assert_array_equal(loaded.predict(obs, deterministic=True)[0], action)


def test_predict_one_and_many():
    agent = PPO("CartPole-v1", seed=0, **QUICK)
    obs = np.zeros((5, 4), np.float32)
    many, _ = agent.predict(obs, deterministic=True)
    one, _ = agent.predict(obs[0], deterministic=True)
    assert many.shape == (5,) and one.shape == () and one == many[0]
    assert {int(agent.predict(obs[0])[0]) for _ in range(30)} == {0, 1}
    with pytest.raises(ValueError, match=r"predict: obs must have shape \(4,\)"):
        agent.predict(np.zeros(3))


class Features(nn.Module):
    def __init__(self, space):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(space.shape[0], 12), nn.ReLU())

    def forward(self, obs):
        return self.net(obs)


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 32)
        self.pi = nn.Linear(32, 2)
        self.v = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, obs):
        logits = self.pi(self.body(obs).tanh())
        return dynarl.distributions.Categorical(logits=logits), self.v(obs).squeeze(-1)


OWN = [
    learns(
        f"ppo-own-{name}",
        partial(PPO, "CartPole-v1", **SHORT_CARTPOLE, **options),
        steps=15_000,
        scores=mean_return(75, static=22.0, episodes=10),
    )
    for name, options in (("features", {"features": Features}), ("policy", {"policy": Whole}))
]


@pytest.mark.learns
@pytest.mark.parametrize("case", OWN, ids=str)
def test_own_networks(case):
    before = case.make(seed=0).policy.state_dict()
    after = case.check().policy.state_dict()
    assert all((after[k].numpy() != v.numpy()).any() for k, v in before.items())


def test_own_networks_must_fit():
    with pytest.raises(ValueError, match=r"features: must map observations \[B, 4\] to \[B, F\], got \(2, 4, 1\)"):
        PPO("CartPole-v1", features=nn.Unflatten(1, (4, 1)), **QUICK)
    with pytest.raises(
        TypeError, match=r"policy: Linear .* must return \(distribution, value\) for one environment, got Tensor"
    ):
        PPO("CartPole-v1", policy=nn.Linear(4, 2), **QUICK)


def make_cartpole():
    return gymnasium.make("CartPole-v1")


def test_what_an_env_may_be(tmp_path):
    for env in ("CartPole-v1", make_cartpole, make_cartpole(), gymnasium.make_vec("CartPole-v1", num_envs=4)):
        number = {"num_envs": 1} if isinstance(env, gymnasium.Env) else {}
        agent = PPO(env, seed=0, **{**QUICK, "batch_size": 16, **number}).learn(64)
        assert agent.evaluate(2).mean > 0
        path = agent.save(tmp_path / "agent")
        assert PPO.load(path, env=None if env != make_cartpole else env).env_steps == agent.env_steps
        agent.envs.close()


def test_config_errors():
    cases = [
        ({"batch_size": 65}, r"batch_size: 65 is larger than the 64 transitions of an iteration \(16 steps x 4 env"),
        ({"gamma": 1.5}, r"gamma: must lie in \[0, 1\], got 1.5"),
        ({"num_epochs": 0}, "num_epochs: must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate: must be above 0, got 0.0"),
        ({"clip_range_vf": -1.0}, "clip_range_vf: must be above 0, got -1.0"),
        ({"activation": "step"}, "activation: must be one of 'tanh', 'relu', 'silu', 'elu', got 'step'"),
        ({"hidden_sizes": (0,)}, r"hidden_sizes: must be at least 1 each, got \(0,\)"),
        (
            {"kl_target": 0.01, "kl_action": "adapt_lr", "learning_rate_schedule": "linear"},
            "kl_action: 'adapt_lr' sets the",
        ),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            PPO("CartPole-v1", **{**QUICK, **options})
    with pytest.raises(TypeError, match="PPO: unknown field 'gama'; did you mean 'gamma'"):
        PPO("CartPole-v1", gama=0.9)
    with pytest.raises(ValueError, match="learn: total_steps must be at least 1, got 0"):
        PPO("CartPole-v1", **QUICK).learn(0)
    with pytest.raises(ValueError, match="play: episodes must be at least 1, got 0"):
        PPO("CartPole-v1", **QUICK).evaluate(0)


class OneOfEnv(gymnasium.Env):
    observation_space = spaces.OneOf((spaces.Discrete(2), spaces.Box(-1, 1, (2,))))
    action_space = spaces.Discrete(2)


def test_unsupported_spaces_say_what_is_supported():
    with pytest.raises(ValueError, match=r"observation space: supported are Box, .*, got OneOf"):
        PPO(OneOfEnv, **QUICK)


def test_load_refuses_what_does_not_fit(tmp_path):
    path = PPO("CartPole-v1", seed=0, **QUICK).learn(64).save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match="observation_space differs"):
        PPO.load(path, env="Acrobot-v1")

    class Other(PPO):
        algorithm = "other"

    with pytest.raises(CheckpointError, match="was written by 'ppo', not by 'other'"):
        Other.load(path)


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PPOConfig().gamma = 0.5
    assert PPO("CartPole-v1", config=PPOConfig(**QUICK), gamma=0.5).config.gamma == 0.5
