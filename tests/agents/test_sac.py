"""SAC: values against closed forms, optimal actions, the ratio of updates to data, gSDE, resume, errors."""

import math
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import dynarl
from dynarl.agents import PPO, SAC, SACConfig
from dynarl.envs.tasks.diagnostic import Chain, IdentityEnv
from dynarl.rollout import NoiseStream
from tests.learning import error, learns, mean_return, relative_error

QUICK = {
    "hidden_sizes": (16,),
    "batch_size": 32,
    "buffer_size": 2_000,
    "learning_starts": 50,
    "learning_rate": 1e-2,
    "tau": 0.1,
}


class BoxChain(Chain):
    """A chain of known rewards whose actions, which do nothing, are a Box."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.action_space = spaces.Box(-2.0, 2.0, (2,), np.float32)


def q_values(agent, action=None):
    """Q_i of the first observation, [C] or for Discrete [C, K]."""
    obs = agent.actor.encoder(agent.envs.obs[:1])
    with dynarl.no_grad():
        if action is None:
            return agent.critics(obs).array[:, 0]
        return agent.critics(obs, dynarl.tensor([action])).array[:, 0, 0]


def first_q(agent):
    """Q of the first observation of an episode."""
    agent.envs.reset()
    return q_values(agent, [0.3, -0.5])


VALUES = [
    learns(
        f"sac-value-{name}-{n_step}",
        partial(SAC, partial(BoxChain, **kwargs), gamma=0.8, alpha=1e-6, n_step=n_step, num_envs=2, **QUICK),
        steps=1_200,
        scores=relative_error(first_q, expected, 0.02),
    )
    for name, kwargs, expected in (
        ("stay", {"rewards": (1.0,), "end": "stay"}, 1 / (1 - 0.8)),
        ("truncated", {"rewards": (1.0,) * 5, "end": "truncated", "show_state": False}, 1 / (1 - 0.8)),
        ("terminated", {"rewards": (1.0,), "end": "terminated"}, 1.0),
        ("two", {"rewards": (1.0, 2.0), "end": "terminated"}, 1.0 + 0.8 * 2.0),
    )
    for n_step in (1, 3)
]


@pytest.mark.learns
@pytest.mark.parametrize("case", VALUES, ids=str)
def test_value_settles_at_the_closed_form(case):
    """A constant reward is worth 1 / (1 - gamma), also where episodes are truncated: truncation bootstraps."""
    case.check()


# Actions that do nothing: pi is uniform, V = (r + alpha log 2) / (1 - gamma), Q = r + gamma V.
SOFT = learns(
    "sac-soft-value",
    partial(SAC, "dynarl/ConstantReward-v0", gamma=0.8, alpha=0.5, **QUICK),
    steps=1_200,
    scores=relative_error(q_values, 1 + 0.8 * (1 + 0.5 * math.log(2)) / (1 - 0.8), 0.02),
)


@pytest.mark.learns
def test_discrete_soft_value_counts_the_entropy():
    SOFT.check()


ENTROPY = learns(
    "sac-entropy",
    partial(SAC, "dynarl/IdentityDiscrete-v0", gamma=0.0, target_entropy_scale=0.5, **QUICK),
    steps=1_100,
    scores=error(
        lambda agent: agent.learner.update(agent.sample())["train/entropy"],
        0.5 * math.log(3), 1e-3, what="entropy",
    ),
)  # fmt: skip


def test_gradient_of_the_temperature():
    agent = ENTROPY.make(seed=0).learn(100)
    learner, target_entropy = agent.learner, agent.learner.objective.target_entropy()
    assert target_entropy == pytest.approx(0.5 * math.log(3))
    metrics = learner.update(agent.sample())
    assert learner.log_alpha._leaf.grad.item() == pytest.approx(metrics["train/entropy"] - target_entropy, abs=1e-6)


@pytest.mark.learns
def test_temperature_keeps_the_target_entropy():
    """Discrete: the entropy of the policy moves to the target; the gradient of log alpha is their difference."""
    ENTROPY.check()


def test_target_entropy():
    assert SAC("Pendulum-v1", seed=0).learner.objective.target_entropy() == -1.0
    assert SAC(lambda: BoxChain(), seed=0).learner.objective.target_entropy() == -2.0
    assert SAC(lambda: BoxChain(), seed=0, target_entropy=-0.5).learner.objective.target_entropy() == -0.5


IDENTITIES = [
    learns(
        f"sac-identity-{kind}",
        partial(SAC, f"dynarl/Identity{kind}-v0", gamma=0.0, **{**QUICK, "hidden_sizes": (32, 32)}),
        steps=steps,
        scores=mean_return(least, static=static, episodes=10, scale=32),
    )
    for kind, steps, least, static in (("Box", 2_000, -0.05, -0.67), ("Discrete", 600, 0.95, 1 / 3))
]
SHIFTED = learns(
    "sac-identity-start",
    partial(SAC, lambda: IdentityEnv(spaces.Discrete(3, start=5), 16), gamma=0.0, **QUICK),
    steps=600,
    scores=mean_return(0.95, static=1 / 3, episodes=5, scale=16),
)


@pytest.mark.learns
@pytest.mark.parametrize("case", IDENTITIES, ids=str)
def test_finds_the_best_action(case):
    case.check()


@pytest.mark.learns
def test_discrete_start_is_not_zero():
    assert SHIFTED.check().predict(6, deterministic=True)[0] == 6


def test_update_moves_each_network_by_its_own_loss():
    agent = SAC("Pendulum-v1", seed=0, **QUICK).learn(100)
    names = ("actor", "critics", "target_critics")
    before = {n: {k: np.array(v) for k, v in getattr(agent.learner, n).state_dict().items()} for n in names}
    agent.learner.update(agent.sample())
    for n in names:
        after = getattr(agent.learner, n).state_dict()
        assert any(not np.array_equal(before[n][k], after[k]) for k in after), n
    # Polyak: Q' <- tau Q + (1 - tau) Q'
    for k, target in agent.target_critics.state_dict().items():
        expected = 0.1 * np.asarray(agent.critics.state_dict()[k]) + 0.9 * before["target_critics"][k]
        np.testing.assert_allclose(target, expected, rtol=1e-5, atol=1e-6)


def test_the_actors_gradient_does_not_reach_the_critics():
    """After an update the critics hold the gradient of their own loss alone."""
    agent = SAC("Pendulum-v1", seed=0, **QUICK).learn(100)
    batch, learner = agent.sample(), agent.learner
    inputs, objective = learner.policy.inputs(batch, 0), learner.objective
    with dynarl.no_grad():
        sample = objective.sample(learner.policy.at_next_obs(inputs), batch.next_noise)
        next_value = objective.soft_value(learner.target_critics, inputs.next_obs, sample, learner.alpha)
        target = batch.reward + batch.discount * next_value
    learner.critic_optimizer.zero_grad()
    q = objective.q(learner.critics, inputs.obs, batch.action)
    ((q - dynarl.tensor(target)) ** 2).mean(-1).sum().mul(0.5).backward()
    expected = [p.grad.numpy().copy() for p in agent.critics.parameters()]
    learner.update(batch)
    for p, g in zip(agent.critics.parameters(), expected):
        np.testing.assert_allclose(p.grad, g, rtol=1e-3, atol=1e-5)


def test_actions_are_scaled_outside_the_density():
    agent = SAC("Pendulum-v1", seed=0, **QUICK).learn(60)
    assert np.abs(agent.replay.sample(32, np.random.default_rng(0)).action).max() <= 1.0
    actions = np.array([[-1.0], [0.0], [1.0]], np.float32)
    np.testing.assert_allclose(agent.actor.env_action(actions), [[-2.0], [0.0], [2.0]])
    assert agent.predict(np.zeros(3, np.float32))[0].shape == (1,)
    assert agent.predict(np.zeros((4, 3), np.float32))[0].shape == (4, 1)


@pytest.mark.parametrize("kind", ["Box", "Discrete"])
def test_warmup_is_uniform_over_the_action_space(kind):
    agent = SAC(f"dynarl/Identity{kind}-v0", seed=0, num_envs=4, **{**QUICK, "learning_starts": 1_000})
    for _ in range(200):
        agent.step_environments()
    actions = agent.replay.sample(2_000, np.random.default_rng(0)).action
    if kind == "Discrete":
        np.testing.assert_allclose(np.bincount(actions) / 2_000, 1 / 3, atol=0.06)
    else:
        np.testing.assert_allclose(np.histogram(actions, 4, (-1, 1))[0] / 4_000, 0.25, atol=0.05)
    assert agent.grad_steps == 0 and agent.owed == 0


@pytest.mark.parametrize(("num_envs", "train_freq", "gradient_steps"), [(1, 1, 1), (4, 1, 1), (3, 4, 2), (2, 3, 7)])
def test_ratio_of_updates_to_data(num_envs, train_freq, gradient_steps):
    """gradient_steps / train_freq updates per transition after learning_starts, however many environments."""
    shape = {"num_envs": num_envs, "train_freq": train_freq, "gradient_steps": gradient_steps}
    agent = SAC("Pendulum-v1", seed=0, **shape, **QUICK).learn(120)
    paid = -(-50 // num_envs) * num_envs  # the first steps that end beyond learning_starts pay for themselves
    paid -= num_envs if paid > 50 else 0
    assert agent.grad_steps == (agent.env_steps - paid) * gradient_steps // train_freq


def in_vector_environments(mode, seed):
    options = {"autoreset_mode": gymnasium.vector.AutoresetMode[mode]}
    envs = gymnasium.make_vec("dynarl/Truncated-v0", num_envs=3, vectorization_mode="sync", vector_kwargs=options)
    return SAC(envs, seed=seed, gamma=0.8, alpha=1e-6, **QUICK)


VECTORS = [
    learns(
        f"sac-value-{mode}",
        partial(in_vector_environments, mode),
        steps=900,
        scores=relative_error(q_values, 5.0, 0.03),
    )
    for mode in ("NEXT_STEP", "SAME_STEP", "DISABLED")
]


@pytest.mark.learns
@pytest.mark.parametrize("case", VECTORS, ids=str)
def test_vector_environments_store_no_dummy_rows(case):
    agent = case.check()
    assert len(agent.replay) == agent.env_steps


# -- state-dependent exploration ----------------------------------------------------------------------------------


def test_sde_noise_is_constant_between_resamplings():
    agent = SAC("Pendulum-v1", seed=0, num_envs=2, use_sde=True, sde_sample_freq=4, **QUICK)
    noise = agent.stepper.exploration.noise
    drawn = [noise(t).copy() for t in range(12)]
    for t in range(12):
        assert np.array_equal(drawn[t], drawn[t // 4 * 4])
    assert not np.array_equal(drawn[3], drawn[4]) and not np.array_equal(drawn[0][0], drawn[0][1])
    assert agent.actor.noise_size == 16 * 1
    obs = np.ones((2, 3), np.float32)
    one, other = (agent.actor.act(obs, drawn[t], explore=True).action for t in (0, 1))
    np.testing.assert_array_equal(one, other)
    assert SAC("Pendulum-v1", seed=0, use_sde=True, train_freq=6, **QUICK).actor.noise_period == 6


@pytest.mark.parametrize("freq", [-1, 8])
def test_ppo_explores_by_state_dependent_noise(freq):
    agent = PPO("Pendulum-v1", seed=0, num_envs=2, num_steps=16, batch_size=16, use_sde=True, sde_sample_freq=freq)
    assert agent.actor.noise_period == (16 if freq == -1 else 8) and agent.actor.noise_size == 64
    noise = [n.copy() for n in agent.collector._noise.block(0, 16)]
    assert np.array_equal(noise[0], noise[7]) and np.array_equal(noise[0], noise[8]) == (freq == -1)
    agent.learn(64)
    assert agent.policy.log_std.shape == (64, 1)
    assert np.abs(agent.policy.log_std.detach().numpy()).max() > 0  # its gradient arrived


def test_ppo_sde_log_prob_of_the_rollout_is_the_policys():
    agent = PPO("Pendulum-v1", seed=0, num_envs=2, num_steps=16, batch_size=16, use_sde=True, log_std_init=-2.0)
    fragment = agent.collector.collect()
    rows = fragment.flatten()
    with dynarl.no_grad():
        distribution, _ = agent.policy(agent.actor.encoder(rows.obs))
        found = distribution.log_prob(dynarl.tensor(rows.action)).numpy()
    np.testing.assert_allclose(found, rows.log_prob, rtol=1e-4, atol=1e-4)


def test_noise_does_not_depend_on_how_it_is_asked():
    ids = np.array([3, 5])
    one, other = (NoiseStream(0, "x", ids, kind="normal", size=3, period=2) for _ in range(2))
    together = one.block(5, 9)
    for t in (13, 7, 5, 12):
        np.testing.assert_array_equal(together[t - 5], other.at(t))
    alone = NoiseStream(0, "x", ids[1:], kind="normal", size=3, period=2)
    np.testing.assert_array_equal(alone.at(9)[0], together[4][1])
    with pytest.raises(ValueError, match="kind must be 'uniform' or 'normal', got 'cauchy'"):
        NoiseStream(0, "x", ids, kind="cauchy", size=1)
    with pytest.raises(ValueError, match="period must be at least 1, got 0"):
        NoiseStream(0, "x", ids, kind="normal", size=1, period=0)


# -- state --------------------------------------------------------------------------------------------------------


def leaves(tree, path=""):
    if isinstance(tree, dict):
        return [leaf for k, v in tree.items() for leaf in leaves(v, f"{path}/{k}")]
    if isinstance(tree, (list, tuple)):
        return [leaf for i, v in enumerate(tree) for leaf in leaves(v, f"{path}/{i}")]
    return [(path, tree)]


def assert_same(a, b):
    mine, other = leaves(a), leaves(b)
    assert [path for path, _ in mine] == [path for path, _ in other]
    for (path, x), (_, y) in zip(mine, other):
        assert np.array_equal(np.asarray(x), np.asarray(y), equal_nan=np.asarray(x).dtype.kind == "f"), path


@pytest.mark.parametrize(
    "kwargs",
    [
        {"env": "Pendulum-v1", "num_envs": 2, "n_step": 3, "train_freq": 3},
        {"env": "Pendulum-v1", "use_sde": True, "sde_sample_freq": 7},
        {"env": "CartPole-v1", "num_envs": 3, "alpha": 0.1},
    ],
)
def test_resumes_to_the_bit(kwargs, tmp_path):
    """Training 600 steps, or 300, a checkpoint with its replay, and 300 more: the same state."""
    whole = SAC(seed=3, **kwargs, **QUICK).learn(600)
    half = SAC(seed=3, **kwargs, **QUICK).learn(300)
    half.save(tmp_path / "checkpoint")
    loaded = SAC.load(tmp_path / "checkpoint")
    assert len(loaded.replay) == len(half.replay)
    loaded.learn(600 - loaded.env_steps)
    assert_same(whole.state_dict(), loaded.state_dict())


def test_same_seed_same_run_and_other_seed_another():
    runs = [SAC("Pendulum-v1", seed=s, **QUICK).learn(120).state_dict() for s in (0, 0, 1)]
    assert_same(runs[0], runs[1])
    assert not np.array_equal(runs[0]["actor"]["head.weight"], runs[2]["actor"]["head.weight"])


def test_integer_observations_are_stored_as_they_are():
    agent = SAC("dynarl/IdentityDiscrete-v0", seed=0, **QUICK)
    assert agent.replay._obs.dtype == np.int64
    assert SAC("Pendulum-v1", seed=0, **QUICK).replay._obs.dtype == np.float32


# -- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_critics": 0}, "num_critics: must be at least 1, got 0"),
        ({"n_step": 0}, "n_step: must be at least 1, got 0"),
        ({"gamma": 1.5}, r"gamma: must lie in \[0, 1\], got 1.5"),
        ({"tau": 0.0}, "tau: must be above 0, got 0.0"),
        ({"alpha": -1.0}, "alpha: must be above 0, got -1.0"),
        ({"activation": "silu"}, "activation: must be one of 'relu', 'tanh', got 'silu'"),
        ({"learning_starts": -1}, "learning_starts: must be at least 0, got -1"),
        ({"buffer_size": 10}, "buffer_size: a replay of 10 transitions is smaller than batch_size 256"),
        (
            {"buffer_size": 256, "num_envs": 128, "n_step": 3},
            "buffer_size: 256 transitions of num_envs 128 are fewer than n_step 3 of each",
        ),
        ({"hidden_sizes": (0,)}, r"hidden_sizes: must be at least 1 each, got \(0,\)"),
        ({"log_std_min": 3.0}, "log_std_min: must be below log_std_max 2.0, got 3.0"),
        ({"sde_sample_freq": 4}, "sde_sample_freq: must be at least 1 with use_sde, else -1, got 4 and use_sde False"),
        ({"sde_sample_freq": 0, "use_sde": True}, "sde_sample_freq: must be at least 1 with use_sde"),
    ],
)
def test_config_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        SACConfig(**fields)


class Spaced(IdentityEnv):
    """An environment with actions of any space."""

    def __init__(self, action_space):
        super().__init__(spaces.Discrete(3))
        self.action_space = action_space


def test_unsupported_actions_are_refused_with_what_is_supported():
    for kind in ("MultiBinary", "MultiDiscrete"):
        with pytest.raises(ValueError, match=rf"supported action spaces are bounded Box and Discrete, got {kind}"):
            SAC(f"dynarl/Identity{kind}-v0", seed=0)
    with pytest.raises(ValueError, match=r"a Box of actions must be bounded, got Box\(-inf, inf"):
        SAC(lambda: Spaced(spaces.Box(-np.inf, np.inf, (1,), np.float32)), seed=0)
    with pytest.raises(ValueError, match="use_sde: state-dependent exploration is for Box actions, got Discrete"):
        SAC("CartPole-v1", seed=0, use_sde=True)
    with pytest.raises(ValueError, match="use_sde: state-dependent exploration is for Box actions, got Discrete"):
        PPO("CartPole-v1", seed=0, use_sde=True)
    with pytest.raises(ValueError, match="sde_sample_freq: must be at least 1 with use_sde, else -1, got 4"):
        PPO("Pendulum-v1", seed=0, sde_sample_freq=4)
    with pytest.raises(TypeError, match="SAC: unknown field 'lr'"):
        SAC("Pendulum-v1", seed=0, lr=1e-3)


def test_learning_must_start_before_the_end():
    agent = SAC("Pendulum-v1", seed=0, learning_starts=1_000)
    with pytest.raises(ValueError, match="learning_starts: 1000 is not reached in 900 steps"):
        agent.learn(900)
    with pytest.raises(ValueError, match="total_steps must be at least 1, got 0"):
        SAC("Pendulum-v1", seed=0, learning_starts=0).learn(0)


def test_a_checkpoint_of_another_replay_is_refused():
    agent = SAC("Pendulum-v1", seed=0, **QUICK).learn(60)
    other = SAC("Pendulum-v1", seed=0, **{**QUICK, "buffer_size": 100})
    with pytest.raises(ValueError, match="ReplayBuffer: the state is of 1 environments with 2000 transitions"):
        other.load_state_dict(agent.state_dict())


PENDULUM = learns(
    "sac-pendulum",
    partial(SAC, "Pendulum-v1", learning_rate=1e-3, hidden_sizes=(64, 64), batch_size=128, buffer_size=10_000),
    steps=5_000,
    scores=mean_return(-500, static=-1200.0, episodes=10),
)


@pytest.mark.learns
def test_learns_pendulum():
    """A gate of some seconds: random play is at -1200, 5000 steps of a small network reach -500."""
    PENDULUM.check()
