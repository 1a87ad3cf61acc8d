"""DQN on environments with known values, its bookkeeping, and exact resume."""

import dataclasses
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from dynarl.agents import DQN, DQNConfig
from dynarl.agents.dqn.exploration import exploration_noise
from dynarl.agents.dqn.q_distribution import MeanQ
from dynarl.autograd import tensor
from dynarl.envs import SyncEnvironments
from dynarl.envs.tasks.diagnostic import Chain
from dynarl.train import cli
from tests.learning import Score, error, learns, mean_return

QUICK = {
    "hidden_sizes": (16,),
    "learning_rate": 1e-2,
    "learning_starts": 50,
    "train_freq": 2,
    "target_update_interval": 20,
    "epsilon_steps": 500,
    "buffer_size": 1000,
    "gamma": 0.5,
}
C51 = {"distributional": "c51", "num_atoms": 41, "v_min": -1.0, "v_max": 4.0}
VARIANTS = {
    "plain": {},
    "double": {"double": True},
    "dueling": {"dueling": True},
    "prioritized": {"prioritized": True},
    "n_step": {"n_step": 3},
    "noisy": {"noisy": True},
    "c51": C51,
    "qr": {"distributional": "qr", "num_quantiles": 8},
    "polyak": {"target_update_interval": 1, "tau": 0.05},
    "vector": {"num_envs": 4},
    "rainbow": {**C51, "double": True, "dueling": True, "prioritized": True, "n_step": 3, "noisy": True},
    "qr_all": {
        "distributional": "qr", "num_quantiles": 8, "double": True, "dueling": True, "prioritized": True,
        "n_step": 2, "num_envs": 3,
    },
}  # fmt: skip
# V of the first states with gamma 0.5
ANSWERS = {
    "ConstantReward": ([[1.0]], [2.0]),
    "Truncated": ([[1.0, 0.0, 0.0, 0.0, 0.0]], [2.0]),
    "Terminated": ([[1.0]], [1.0]),
    "TwoStateChain": ([[1.0, 0.0], [0.0, 1.0]], [2.0, 2.0]),
    "ObservationValue": ([[-1.0], [1.0]], [-1.0, 1.0]),
}


def values(agent, obs):
    agent.policy.set_noise(None)
    output = agent.policy(agent.actor.encoder(np.array(obs, np.float32)))
    return agent.learner.q_distribution.expected(output.array)


CHAINS = [
    learns(
        f"dqn-value-{name}-{variant}",
        partial(DQN, f"dynarl/{name}-v0", **{**QUICK, **VARIANTS[variant]}),
        steps=1500,
        scores=error(partial(values, obs=obs), np.array(expected)[:, None], 0.06),
    )
    for name, (obs, expected) in ANSWERS.items()
    for variant in VARIANTS
]


@pytest.mark.learns
@pytest.mark.parametrize("case", CHAINS, ids=str)
def test_values_against_closed_forms(case):
    """Every action has the state's value, whatever was done; 12 % off would be termination and truncation merged."""
    case.check()


IDENTITIES = [
    learns(
        f"dqn-identity-{variant}",
        partial(DQN, "dynarl/IdentityDiscrete-v0", **{**QUICK, **VARIANTS[variant], "gamma": 0.2}),
        steps=1500,
        scores=mean_return(1.0, static=1 / 3, episodes=10, scale=32),
    )
    for variant in ("plain", "rainbow", "qr_all")
]


@pytest.mark.learns
@pytest.mark.parametrize("case", IDENTITIES, ids=str)
def test_identity_is_learned(case):
    case.check()


class Coin(gymnasium.Env):
    """Half of the episodes pay -1, half 1, and the observation does not tell which."""

    observation_space, action_space = gymnasium.spaces.Box(0, 1, (1,)), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), self.np_random.choice((-1.0, 1.0)), True, False, {}


def outputs(agent):
    return agent.policy(tensor(np.zeros((1, 1), np.float32))).array[0, 0]


def sorted_quantiles(agent):
    return np.sort(outputs(agent))


def masses(agent):
    """Return the probabilities around -1 and around 1."""
    p = np.exp(outputs(agent) - outputs(agent).max())
    support = np.linspace(-1, 4, 41)
    return np.array([p[support < -0.9].sum(), p[abs(support - 1) < 0.2].sum()]) / p.sum()


# The Huber quantile loss (kappa 1) is least where (1 - tau) min(1 + q, 1) = tau min(1 - q, 1), for q inside +-1.
TAU = (np.arange(4) + 0.5) / 4
QUANTILES = (2 * TAU - 1) / np.maximum(TAU, 1 - TAU)
RETURNS = [
    learns(
        "dqn-quantiles",
        partial(
            DQN,
            Coin,
            distributional="qr",
            num_quantiles=4,
            **{**QUICK, "batch_size": 128, "learning_rate": 3e-3, "buffer_size": 3000},
        ),
        steps=2500,
        scores=[
            error(sorted_quantiles, QUANTILES, 0.2, what="quantiles"),
            Score("gap", lambda agent: np.diff(sorted_quantiles(agent)).min(), 0.2, 0.0),
        ],
    ),
    learns(
        "dqn-c51",
        partial(DQN, Coin, **C51, **{**QUICK, "batch_size": 64}),
        steps=1500,
        scores=error(masses, np.array([0.5, 0.5]), 0.15, what="probability"),
    ),
]


@pytest.mark.learns
@pytest.mark.parametrize("case", RETURNS, ids=str)
def test_the_distribution_is_that_of_the_returns(case):
    case.check()


@pytest.mark.parametrize("num_envs", [1, 3, 8])
@pytest.mark.parametrize(("train_freq", "gradient_steps"), [(4, 1), (1, 2), (32, 16)])
def test_update_to_data_ratio_is_kept(num_envs, train_freq, gradient_steps):
    settings = {**QUICK, "train_freq": train_freq, "gradient_steps": gradient_steps, "num_envs": num_envs}
    agent = DQN("dynarl/Truncated-v0", **{**settings, "learning_starts": 96})
    agent.learn(300)
    made = agent.env_steps - 96
    assert abs(agent.grad_steps - made * gradient_steps / train_freq) <= gradient_steps * (1 + num_envs / train_freq)


def test_epsilon_follows_environment_steps():
    agent = DQN("dynarl/Truncated-v0", num_envs=4, **{**QUICK, "epsilon_final": 0.1, "epsilon_steps": 200})
    assert agent.epsilon == 1.0
    agent.env_steps = 49
    assert agent.epsilon == 1.0  # learning has not started
    agent.env_steps = 100
    assert agent.epsilon == pytest.approx(0.55)
    agent.env_steps = 1000
    assert agent.epsilon == 0.1
    noise = exploration_noise(np.random.default_rng(0).random((4000, 2), np.float32), 0.5)
    obs = np.ones((4000, 5), np.float32)
    greedy = agent.actor.act(obs[:1], None, explore=False).action[0]
    other = (agent.actor.act(obs, noise, explore=True).action != greedy).mean()
    assert other == pytest.approx(0.25, abs=0.03)


def test_noisy_agent_explores_by_noise_alone():
    agent = DQN("dynarl/IdentityDiscrete-v0", noisy=True, **QUICK)
    agent.env_steps = 100
    assert agent.epsilon == 0.0
    obs = np.zeros(1, np.int64)
    agent.policy.set_noise(None)
    before = agent.actor.act(obs, None, explore=False).action
    assert (agent.actor.act(obs, None, explore=False).action == before).all()
    outputs = []
    for step in range(3):
        assert agent.stepper.exploration.random_actions(step, None) is None
        agent.actor.act(obs, agent.stepper.exploration.noise(step), explore=True)
        outputs.append(agent.policy(agent.actor.encoder(obs)).array)
    assert not np.array_equal(outputs[0], outputs[1])
    action, state = agent.predict(np.int64(1), "kept", deterministic=False)
    assert agent.action_space.contains(action) and state == "kept"


def test_target_network_updates():
    agent = DQN("dynarl/Truncated-v0", tau=0.25, **QUICK)
    online, target = (np.concatenate([p.array.ravel() for p in n.parameters()]) for n in (agent.policy, agent.target))
    np.testing.assert_array_equal(online, target)
    for p in agent.policy.parameters():
        p.array += 1.0
    agent.learner.update_target()
    now = np.concatenate([p.array.ravel() for p in agent.target.parameters()])
    np.testing.assert_allclose(now, online + 0.25, atol=1e-6)
    agent.learner.update_target(2)
    now = np.concatenate([p.array.ravel() for p in agent.target.parameters()])
    np.testing.assert_allclose(now, online + 1 - 0.75**3, atol=1e-6)
    assert not {id(p) for g in agent.optimizer.param_groups for p in g["params"]} & {
        id(p) for p in agent.target.parameters()
    }


def test_double_q_learning_lets_the_online_network_choose():
    chooser, valuer = np.array([[1.0, 2.0, 0.0]]), np.array([[7.0, 5.0, 9.0]])
    for double, expected in ((False, 1 + 0.5 * 9.0), (True, 1 + 0.5 * 5.0)):
        agent = DQN("dynarl/IdentityDiscrete-v0", double=double, **{**QUICK, "hidden_sizes": ()})
        for network, bias in ((agent.policy, chooser), (agent.target, valuer)):
            weight, b = network.parameters()
            weight.array[...], b.array[...] = 0.0, bias[0]
        agent.step_environments()
        batch = agent.replay.gather(np.array([0]), np.ones(1, np.float32))
        batch["reward"], batch["discount"] = np.ones(1, np.float32), np.full(1, 0.5, np.float32)
        values = agent.learner.evaluate(batch, 0)
        target = MeanQ().target(batch.reward, batch.discount, values.next_q, values.chooser, None)
        assert target == pytest.approx(expected)


def flat(tree, path=""):
    if isinstance(tree, dict):
        return {k: v for key, item in tree.items() for k, v in flat(item, f"{path}/{key}").items()}
    if isinstance(tree, list):
        return {k: v for i, item in enumerate(tree) for k, v in flat(item, f"{path}/{i}").items()}
    return {path: tree}


@pytest.mark.parametrize("variant", ["plain", "vector", "rainbow", "qr_all"])
def test_resume_is_exact(tmp_path, variant):
    settings = {**QUICK, **VARIANTS[variant], "buffer_size": 300, "target_update_interval": 30}
    straight, first = (DQN("CartPole-v1", seed=3, **settings) for _ in range(2))
    records = []
    straight.learn(512, records.append)
    first.learn(256)
    second = DQN.load(first.save(tmp_path / "checkpoint"))
    continued = []
    second.learn(512 - second.env_steps, continued.append)
    assert second.env_steps == straight.env_steps
    ours, theirs = flat(straight.state_dict()), flat(second.state_dict())
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert records[-len(continued) :] == continued


def test_resume_without_exact_environments_cuts_open_episodes():
    class Opaque(Chain):
        get_state = set_state = None

        def __init__(self):
            super().__init__((1.0,) * 50, "truncated")

    def agent():
        made = DQN(Opaque, **QUICK)
        assert isinstance(made.envs, SyncEnvironments)
        return made

    first, second = agent(), agent()
    first.envs.exact_state = second.envs.exact_state = False
    first.learn(64)
    second.load_state_dict(first.state_dict())
    newest = (second.replay._ring.head[0] - 1) % second.replay.rows
    assert second.replay._ended[newest] and not second.replay._terminated[newest]
    second.learn(64)


def test_agents_of_one_seed_are_equal_and_of_two_differ():
    found = []
    for seed in (5, 5, 6):
        agent = DQN("dynarl/IdentityDiscrete-v0", seed=seed, **QUICK)
        agent.learn(128)
        found.append(np.concatenate([p.array.ravel() for p in agent.policy.parameters()]))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_training_is_indifferent_to_evaluation():
    agents = [DQN("CartPole-v1", seed=2, **{**QUICK, **VARIANTS["rainbow"]}) for _ in range(2)]
    agents[0].learn(128).learn(128)
    agents[1].learn(128)
    agents[1].evaluate(3)
    agents[1].predict(np.zeros(4, np.float32), deterministic=True)
    agents[1].learn(128)
    for a, b in zip(*(list(agent.policy.parameters()) for agent in agents)):
        np.testing.assert_array_equal(a.array, b.array)


@pytest.mark.parametrize("variant", VARIANTS)
def test_updates_together_are_updates_one_by_one(variant, monkeypatch):
    monkeypatch.setattr("dynarl.agents.dqn.agent._TOGETHER", 96)  # three batches at a time
    agents = [DQN("CartPole-v1", **{**QUICK, **VARIANTS[variant]}).learn(128) for _ in range(2)]
    together = [agents[0].learner.update(batch) for batch in agents[0].samples(5)]
    alone = [agents[1].learner.update(batch) for _ in range(5) for batch in agents[1].samples(1)]
    assert together[-1] == pytest.approx(alone[-1], rel=1e-4)
    assert agents[0].grad_steps == agents[1].grad_steps
    assert agents[0].rng.random() == agents[1].rng.random()
    for a, b in zip(*(list(agent.policy.parameters()) for agent in agents)):
        np.testing.assert_allclose(a.array, b.array, rtol=1e-3, atol=1e-5)


def test_dummy_rows_are_neither_counted_nor_stored():
    class NextStep(gymnasium.vector.SyncVectorEnv):
        pass

    make = [lambda: Chain((1.0, 1.0, 1.0), "truncated", show_state=False)] * 2
    agent = DQN(NextStep(make), **QUICK)
    agent.learn(120)
    assert agent.env_steps < agent.vector_steps * 2
    assert len(agent.replay) == agent.env_steps
    kept = agent.replay.sample(300, np.random.default_rng(0))
    np.testing.assert_array_equal(kept.reward, 1.0)  # a dummy row pays 0


def test_features_of_the_user():
    from dynarl import nn

    agent = DQN("CartPole-v1", features=nn.Linear(4, 3), **QUICK)
    assert agent.policy.features is not agent.target.features
    agent.learn(128)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"n_step": 0}, "n_step: must be at least 1, got 0"),
        ({"buffer_size": 31}, "buffer_size: 31 is smaller than a batch of batch_size 32"),
        (
            {"buffer_size": 32, "num_envs": 8, "n_step": 5},
            "buffer_size: 32 is too small for windows of n_step 5 steps in each",
        ),
        ({"train_freq": 0}, "train_freq: must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate: must be above 0, got 0.0"),
        ({"tau": 1.5}, r"tau: must lie in \[0, 1\], got 1.5"),
        ({"epsilon_final": -0.1}, r"epsilon_final: must lie in \[0, 1\], got -0.1"),
        ({"v_min": 1.0, "v_max": 1.0}, "v_min: must be below v_max, got 1.0 and 1.0"),
        ({"hidden_sizes": (4, 0)}, r"hidden_sizes: must be at least 1 each, got \(4, 0\)"),
        ({"distributional": "iqn"}, "distributional: must be one of 'none', 'c51', 'qr', got 'iqn'"),
        ({"activation": "sine"}, "activation: must be one of 'tanh', .* got 'sine'"),
    ],
)
def test_impossible_settings(overrides, message):
    with pytest.raises(ValueError, match=message):
        DQNConfig(**overrides)


def test_old_field_names_are_migrated():
    fields, messages = DQNConfig.migrate({"duelling": True, "gamma": 0.9})
    assert DQNConfig(**fields).dueling and messages == ["duelling is now called dueling"]
    assert DQNConfig.migrate({"dueling": True}) == ({"dueling": True}, [])


def test_config_is_frozen_and_explains_itself():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DQNConfig().gamma = 0.5
    with pytest.raises(TypeError, match="DQN: unknown field 'gama'; did you mean 'gamma'"):
        DQN("CartPole-v1", gama=0.9)


def test_other_action_spaces_are_refused():
    message = "DQN: supports Discrete actions, got Box.*; SAC and PPO take Box actions"
    with pytest.raises(ValueError, match=message):
        DQN("dynarl/IdentityBox-v0")
    with pytest.raises(ValueError, match="PPO also MultiDiscrete and MultiBinary"):
        DQN("dynarl/IdentityMultiDiscrete-v0")


def test_learning_must_start_before_the_end():
    agent = DQN("CartPole-v1", learning_starts=1000)
    with pytest.raises(ValueError, match="learning_starts: 1000 is not reached in 500 steps"):
        agent.learn(500)


def test_the_script_says_so_too(tmp_path, capsys):
    arguments = ["--total-steps", "500", "--learning-starts", "1000", "--run-dir", str(tmp_path / "run")]
    assert cli.main(DQN, arguments) == 2
    assert "learning_starts: 1000 is not reached in 500 steps" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["acrobot", "cartpole", "lunarlander", "mountaincar"])
def test_configs_are_understood(name, capsys):
    path = Path(__file__).parents[2] / "configs" / "dqn" / f"{name}.yaml"
    assert cli.main(DQN, [str(path), "--help"]) == 0
    assert "--target-update-interval" in capsys.readouterr().out


# As in configs/dqn/cartpole.yaml with a smaller network, 3-step returns and smaller steps: seconds instead of 20.
CARTPOLE = learns(
    "dqn-cartpole",
    partial(
        DQN, "CartPole-v1", hidden_sizes=(64, 64), n_step=3, learning_rate=1e-3, batch_size=64, train_freq=256,
        gradient_steps=128, target_update_interval=10, epsilon_steps=8000, epsilon_final=0.04,
    ),
    steps=20_000,
    scores=mean_return(150, static=22.0, episodes=10),
)  # fmt: skip


@pytest.mark.learns
def test_cartpole_is_learned():
    CARTPOLE.check()


@pytest.mark.parametrize("variant", ["plain", "prioritized", "rainbow", "qr_all"])
def test_on_the_device(device, variant):
    agent = DQN("dynarl/TwoStateChain-v0", device=device, **{**QUICK, **VARIANTS[variant]})
    agent.learn(128)
    assert agent.grad_steps > 0
    assert agent.evaluate(2).mean == 3.0
    again = DQN("dynarl/TwoStateChain-v0", device=device, **{**QUICK, **VARIANTS[variant]})
    again.load_state_dict(agent.state_dict())
    again.learn(64)


class Constant(gymnasium.Env):
    """Reward 1 for ever: Q is 1 / (1 - gamma)."""

    observation_space, action_space = gymnasium.spaces.Box(0, 1, (1,), np.float32), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.full(1, 0.5, np.float32), {}

    def step(self, action):
        return np.full(1, 0.5, np.float32), 1.0, False, True, {}


def test_returns_outside_the_support_of_c51_are_named():
    settings = {
        "distributional": "c51", "learning_rate": 1e-2, "learning_starts": 50, "target_update_interval": 20,
        "train_freq": 1, "num_envs": 1,
    }  # fmt: skip
    with pytest.warns(UserWarning, match=r"v_min, v_max: the support of C51 is \[-10\.0, 10\.0\].* are cut off"):
        DQN(Constant, gamma=0.99, **settings).learn(600)
    DQN(Constant, gamma=0.8, **settings).learn(600)  # Q is 5: no warning
