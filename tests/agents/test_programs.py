"""Policies written for one environment: batched by the agent, with feedback, state, masks and randomness."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import dynarl
from dynarl import nn
from dynarl.agents import PPO, PPOConfig
from dynarl.agents.policies import POLICIES, ActorCritic, named_policy, register_policy
from dynarl.batching.guard.guard import Guard
from dynarl.distributions import Categorical
from tests.helpers.user_policies import QUICK, Everything, Rule, ratios
from tests.learning import SHORT_CARTPOLE, learns, mean_return


@pytest.mark.parametrize("sequence_length", [None, 4, 1])
def test_learning_is_that_of_one_environment_after_the_other(sequence_length):
    """Acting, values at truncations, gradients: parameters after updates against mode="loop"."""
    found = []
    for wrap in (lambda p: p, lambda p: dynarl.batched(p, mode="loop")):
        dynarl.manual_seed(0)
        agent = PPO(Rule, policy=wrap(Everything()), seed=3, sequence_length=sequence_length, **QUICK)
        agent.learn(128)
        found.append([p.detach().numpy() for p in agent.policy.parameters()])
    assert agent.policy.run.last.groups == 0
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("sequence_length", [None, 8, 2, 1])
@pytest.mark.parametrize("mode", ["sync", "NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_first_epoch_ratio_is_one(mode, sequence_length):
    env = Rule
    if mode != "sync":
        env = gymnasium.vector.SyncVectorEnv([Rule] * 4, autoreset_mode=gymnasium.vector.AutoresetMode[mode])
    agent = PPO(env, policy=Everything, seed=1, sequence_length=sequence_length, **QUICK)
    agent.learn(64)
    for _ in range(2):
        np.testing.assert_allclose(ratios(agent), 1.0, atol=1e-5)


def test_resume_to_the_byte(tmp_path):
    class Drawing(Everything):
        def forward(self, obs, state, feedback):
            distribution, value, state = super().forward(obs, state, feedback)
            if dynarl.rand(()) < 0.5:
                value = value * 0.5
            return distribution, value, state

    options = {"policy": Drawing, "sequence_length": 4, **QUICK}
    straight = PPO(Rule, seed=4, **options).learn(4 * 64)
    half = PPO(Rule, seed=4, **options).learn(2 * 64)
    half.save(tmp_path / "half")
    with pytest.raises(ValueError, match="was made with the policy Drawing, pass policy="):
        PPO.load(tmp_path / "half", Rule)
    resumed = PPO.load(tmp_path / "half", Rule, policy=Drawing).learn(2 * 64)
    one, other = straight.collector.collect(), resumed.collector.collect()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    for p, q in zip(straight.policy.parameters(), resumed.policy.parameters()):
        np.testing.assert_array_equal(p.array, q.array)


def test_predict_and_evaluate_branch_on_feedback(monkeypatch):
    monkeypatch.setattr(Guard, "undo", lambda self: [])  # the program notes what it sees in a list around it
    agent = PPO(Rule, policy=Everything, seed=0, **QUICK).learn(64)
    seen = []

    def forward(obs, state, feedback):
        seen.append((state["steps"].item(), feedback.reward.item(), feedback.info["level"].item()))
        return Everything.forward(agent.policy.program, obs, state, feedback)

    assert agent.evaluate(4) is not None
    agent.policy.program.forward = forward
    mask, obs = np.ones(3, bool), np.zeros(3, np.float32)
    _, state = agent.predict(obs, action_mask=mask, info={"level": [2]})
    agent.predict(obs, state, reward=1.5, action_mask=mask, info={"level": [1]}, deterministic=True)
    assert seen == [(0, 0.0, 2.0), (1, 1.5, 1.0)]


class Halves(nn.Module):
    """A program without a state."""

    def __init__(self, observation_space, action_space, *, size=8):
        super().__init__()
        self.body = nn.ModuleList([nn.Linear(observation_space.shape[0], size) for _ in range(2)])
        self.head, self.value = nn.Linear(size, action_space.n), nn.Linear(size, 1)

    def forward(self, obs):
        h = self.body[0](obs).tanh()
        if obs[2] > 0:
            h = self.body[1](obs).tanh()
        return Categorical(logits=self.head(h)), self.value(h)


class Masked(Halves):
    def forward(self, obs, action_mask):
        distribution, value = super().forward(obs)
        return Categorical(logits=dynarl.where(action_mask, distribution.logits, -1e8)), value


def test_programs_without_a_state_learn_from_all_rows_at_once():
    agent = PPO("CartPole-v1", policy=Halves, policy_kwargs={"size": 5}, seed=0, **QUICK).learn(64)
    assert agent.policy.program.head.weight.shape == (2, 5)
    assert agent.actor.runner.sequence_length == 1
    np.testing.assert_allclose(ratios(agent), 1.0, atol=1e-5)
    assert agent.policy.run.last.root.size == 16
    masked = PPO(Rule, policy=Masked, seed=0, **QUICK).learn(64)
    np.testing.assert_allclose(ratios(masked), 1.0, atol=1e-5)
    assert agent.evaluate(3).mean > 0 and masked.evaluate(3) is not None


CARTPOLE = learns(
    "programs-cartpole",
    partial(
        PPO, "CartPole-v1", policy=Halves, policy_kwargs={"size": 32}, **SHORT_CARTPOLE,
    ),
    steps=15_000,
    scores=mean_return(75, static=22.0, episodes=10),
)  # fmt: skip


@pytest.mark.learns
def test_cartpole_is_learned():
    CARTPOLE.check()


def test_the_policy_is_made_by_the_seed(tmp_path):
    def made(**options):
        return [p.detach().numpy() for p in PPO("CartPole-v1", policy=Halves, **options, **QUICK).policy.parameters()]

    for one, same, other in zip(made(seed=1), made(seed=1), made(seed=2)):
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()
    register_policy("halves", Halves)
    try:
        agent = PPO("CartPole-v1", policy="halves", policy_kwargs={"size": 6}, seed=1, **QUICK)
        assert agent.config.policy == "halves"
        again = PPO.load(agent.save(tmp_path / "named"))
        assert again.policy.program.head.weight.shape == (2, 6)
        with pytest.raises(ValueError, match="the name 'halves' is taken"):
            register_policy("halves", Masked)
    finally:
        del POLICIES["halves"]


def test_feedback_without_a_state():
    class Feeling(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 2)

        def initial_state(self):
            return ()

        def forward(self, obs, state, feedback):
            scale = 2.0 if feedback.action[0] > 0 else 1.0
            return Categorical(logits=self.head(obs) * scale), obs[0] * self.head.bias[0], ()

    agent = PPO("CartPole-v1", policy=Feeling, seed=0, **QUICK).learn(64)
    assert agent.actor.runner.sequence_length == 1
    np.testing.assert_allclose(ratios(agent), 1.0, atol=1e-5)


def test_compute_is_reported():
    found = []
    PPO("CartPole-v1", policy=Halves, seed=0, **QUICK).learn(64, on_iteration=found.append)
    metrics = found[0]
    assert (metrics["batching/path_lengths"] == 1).all() and metrics["batching/path_length"] == 1
    assert metrics["batching/path_lengths"].shape == (64,)
    assert 1 <= metrics["batching/acting_cohorts"] <= 2 and metrics["batching/learning_cohorts"] == 2
    assert metrics["batching/operations_per_row"] > metrics["batching/acting_kernels_per_row"]
    assert metrics["batching/learning_kernels_per_row"] < metrics["batching/acting_kernels_per_row"]


class Fixed(nn.Module):
    """Returns what it is told to, for one environment."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.w = kind, nn.Linear(4, 2)

    def forward(self, obs):
        distribution = Categorical(logits=self.w(obs))
        match self.kind:
            case "axis":
                return Categorical(logits=self.w(obs.unsqueeze(0))), obs[:1]
            case "value":
                return distribution, obs
            case "one":
                return distribution
            case "batch":
                return Categorical(logits=self.w(obs)), obs[:, 0]


class Arguments(nn.Module):
    def __init__(self, kind="three"):
        super().__init__()
        if kind == "state":
            self.initial_state = tuple
        self.forward = {"three": lambda obs, state, feedback: 0, "state": lambda obs: 0, "none": lambda: 0}[kind]


@pytest.mark.parametrize(
    ("policy", "error", "message"),
    [
        (Fixed("axis"), TypeError, r"Fixed \(.*test_programs.py:\d+\) must return \(distribution, value\) for one"),
        (Fixed("value"), TypeError, r"got a distribution of batch_shape \(\) and a value of shape \(4,\)"),
        (Fixed("one"), TypeError, "for one environment, got Categorical"),
        (Arguments("three"), TypeError, r"forward\(obs, state, feedback\), so it must have initial_state\(\)"),
        (Arguments("state"), TypeError, r"its forward must take \(obs, state, feedback\), got \(obs\)"),
        (Arguments("none"), TypeError, r"has forward\(\), so it must take \(obs\)"),
        (lambda a: nn.Linear(4, 2), TypeError, r"must take \(observation_space, action_space\) or nothing"),
        (lambda: 3, TypeError, "must make a dynarl.nn.Module, got int"),
        (3, TypeError, "must be a dynarl.nn.Module, a class or function that makes one, or a name, got 3"),
        ("nobody", ValueError, "'nobody' is no registered policy, those are"),
        ("os:system", ValueError, "pass the class itself"),
    ],
)  # fmt: skip
def test_wrong_policies(policy, error, message):
    with pytest.raises(error, match=message):
        PPO("CartPole-v1", policy=policy, **QUICK)


def test_errors_stand_on_the_user_s_line():
    with pytest.raises(IndexError) as caught:
        PPO("CartPole-v1", policy=Fixed("batch"), **QUICK)
    assert any("takes_batch = True" in note for note in caught.value.__notes__)
    assert any(entry.path.name == "test_programs.py" and "obs[:, 0]" in str(entry.statement)
               for entry in caught.traceback)  # fmt: skip


def test_wrong_options():
    with pytest.raises(ValueError, match="sequence_length: must divide num_steps 16, got 3"):
        PPOConfig(num_steps=16, batch_size=16, sequence_length=3)
    with pytest.raises(ValueError, match="sequence_length: 4 is for policies with a state, this has none"):
        PPO("CartPole-v1", sequence_length=4, **QUICK)
    with pytest.raises(ValueError, match="recurrent: 'gru' is for the ready-made policy, got policy 'act'"):
        PPOConfig(recurrent="gru", policy="act")
    with pytest.raises(ValueError, match=r"policy_kwargs: \{'size': 3\} are for a policy that is made here"):
        PPO("CartPole-v1", policy=Fixed("one"), policy_kwargs={"size": 3}, **QUICK)
    with pytest.raises(ValueError, match="features: are for the ready-made policy"):
        PPO("CartPole-v1", policy=Halves, features=nn.Linear(4, 4), **QUICK)
    with pytest.raises(TypeError, match=r"the forward of Halves .* must take \(obs, action_mask\)"):
        PPO(Rule, policy=Halves, seed=0, **QUICK).learn(64)
    with pytest.raises(ValueError, match="a name must not be empty and must not contain ':'"):
        register_policy("a:b", Halves)
    register_policy("lazy", "collections:OrderedDict")
    try:
        assert named_policy("lazy").__name__ == "OrderedDict"
    finally:
        del POLICIES["lazy"]


class Growing(nn.Module):
    """A state whose dtype changes on the way."""

    def __init__(self):
        super().__init__()
        self.w = nn.Linear(4, 2)

    def initial_state(self):
        return (0,)

    def forward(self, obs, state, feedback):
        return Categorical(logits=self.w(obs)), obs[0], (state[0] + 0.5,)


def test_a_state_keeps_its_dtype():
    with pytest.raises(TypeError, match=r"int64 in initial_state\(\) cannot hold float"):
        PPO("CartPole-v1", policy=Growing, **QUICK)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (2,), np.float32),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(-1, 1, (2,), np.float32)),
    ],
)
def test_every_kind_of_action(space):
    """The distributions of the ready-made actor-critic, of one observation and branching, have the ratio 1."""

    class Env(Rule):
        def __init__(self):
            super().__init__()
            self.action_space = space

        def step(self, action):
            assert space.contains(action) or isinstance(space, spaces.Box | spaces.Dict)
            return super().step(0)

        def _info(self):
            return {}

    class Any(nn.Module):
        def __init__(self, observation_space, action_space):
            super().__init__()
            self.inner = ActorCritic(observation_space, action_space, hidden_sizes=(8,))

        def forward(self, obs):
            head = self.inner.actor(obs)
            if obs[0] > 0:
                head = head * 2
            return self.inner.distribution(head), self.inner.critic(obs)

    agent = PPO(Env, policy=Any, seed=0, **QUICK).learn(128)
    np.testing.assert_allclose(ratios(agent), 1.0, atol=1e-5)
    assert agent.evaluate(2) is not None


def test_lockstep_flag_is_part_of_the_state(tmp_path):
    agent = PPO("CartPole-v1", policy=Halves, seed=0, **QUICK)
    agent.policy.run.uses_lockstep = True
    again = PPO.load(agent.save(tmp_path / "lockstep"), policy=Halves)
    assert again.policy.run.uses_lockstep
