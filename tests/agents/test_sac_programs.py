"""SAC with actors written for one environment."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import dynarl
from dynarl import nn
from dynarl.agents import SAC
from dynarl.distributions import Categorical, Independent, Normal
from tests.helpers.user_policies import Rule
from tests.learning import learns, mean_return

QUICK = {"num_envs": 4, "batch_size": 16, "learning_starts": 32, "train_freq": 4, "learning_rate": 1e-3,
         "buffer_size": 400, "hidden_sizes": (16,)}  # fmt: skip


class Plain(nn.Module):
    def __init__(self, observation_space, action_space, size=16):
        super().__init__()
        self.body = nn.ModuleList([nn.Linear(observation_space.shape[0], size) for _ in range(2)])
        self.discrete = isinstance(action_space, spaces.Discrete)
        self.actions = int(action_space.n) if self.discrete else action_space.shape[0]
        self.head = nn.Linear(size, self.actions if self.discrete else 2 * self.actions)

    def features(self, obs):
        h = self.body[0](obs)
        if obs[0] > 0:
            h = self.body[1](obs)
        return h.relu()

    def distribution(self, head):
        if self.discrete:
            return Categorical(logits=head)
        return Independent(Normal(head[: self.actions], head[self.actions :].clamp(-5, 2).exp()), 1)

    def forward(self, obs):
        return self.distribution(self.head(self.features(obs)))


class Batch(Plain):
    takes_batch = True

    def features(self, obs):
        return dynarl.where(obs[:, :1] > 0, self.body[1](obs), self.body[0](obs)).relu()

    def distribution(self, head):
        if self.discrete:
            return Categorical(logits=head)
        return Normal(head[:, : self.actions], head[:, self.actions :].clamp(-5, 2).exp())


class Told(Plain):
    """Also dispatches on feedback; it has no state."""

    info_fields = ("level",)

    def initial_state(self):
        return ()

    def forward(self, obs, state, feedback):
        h = self.features(obs)
        if feedback.reward > 0 and not feedback.episode_start:
            h = h * 2
        for _ in range(int(feedback.info["level"])):
            h = h.tanh()
        head = self.head(h)
        if feedback.action[0] > 0:
            head = -head
        return self.distribution(head), ()


class Remembers(Plain):
    """Also remembers: a GRU's state, and how many steps it made."""

    def __init__(self, observation_space, action_space):
        super().__init__(observation_space, action_space)
        self.cell = nn.GRUCell(observation_space.shape[0], 16)

    def initial_state(self):
        return {"h": dynarl.zeros(16), "steps": 0}

    def forward(self, obs, state, feedback):
        h = self.cell(obs, state["h"])
        after = {"h": h, "steps": state["steps"] + 1}
        return self.distribution(self.head(h * 2 if state["steps"] % 2 else h)), after


class Box(Rule):
    """`Rule` with an action of 2 x 2 numbers, and info, but no masks."""

    def __init__(self):
        super().__init__()
        self.action_space = spaces.Box(-2, 2, (4,), np.float32)

    def step(self, action):
        assert action.shape == (4,)
        obs, _, _, truncated, info = super().step(0)
        return obs, float(self.np_random.normal() + action.sum()), bool(action[0] > 1.8), truncated, info

    def _info(self):
        return {"level": self.np_random.integers(4)}


@pytest.mark.parametrize("env", ["Pendulum-v1", "CartPole-v1", Rule])
def test_it_learns_as_a_network_would(env):
    """The same actor, once for one observation and once with a batch axis: masks, discrete and continuous."""
    agents = [SAC(env, policy=kind, seed=0, **QUICK).learn(64) for kind in (Plain, Batch)]
    assert agents[0].grad_steps >= 8
    for name in ("actor", "critics"):
        pairs = zip(*(getattr(agent.learner, name).parameters() for agent in agents))
        for one, other in pairs:
            np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), rtol=2e-3, atol=2e-5)
    assert agents[0].evaluate(2).mean == pytest.approx(agents[1].evaluate(2).mean, rel=1e-3)


@pytest.mark.parametrize("env", [Box, Rule])
def test_feedback_in_acting_and_learning_is_that_of_one_environment_after_the_other(env):
    found = []
    for wrap in (lambda p: p, lambda p: dynarl.batched(p, mode="loop")):
        probe = env()
        dynarl.manual_seed(0)
        policy = wrap(Told(probe.observation_space, probe.action_space))
        agent = SAC(env, policy=policy, seed=3, **QUICK).learn(128)
        found.append([p.detach().numpy() for p in agent.learner.actor.parameters()])
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-5)
    batch = agent.sample()
    obs, _, feedback = agent.actor.records.unpack(batch.obs, None)
    policy = agent.learner.policy
    features = policy.features(batch.obs)
    assert features.shape == (16, 3 + policy.num_feedback) == (16, 3 + 4 + 3 if env is Box else 3 + 3 + 3)
    same_obs, told = policy.split(features, None)
    np.testing.assert_array_equal(same_obs.numpy(), obs)
    for name in ("action", "reward", "episode_start"):
        np.testing.assert_array_equal(getattr(told, name).numpy(), getattr(feedback, name))
    np.testing.assert_array_equal(told.info["level"].numpy(), feedback.info["level"])


@pytest.mark.parametrize(("env", "policy"), [(Rule, Told), ("Pendulum-v1", Plain), (Rule, Remembers)])
def test_resume_to_the_byte(env, policy, tmp_path):
    straight = SAC(env, policy=policy, seed=4, **QUICK).learn(128).learn(64)
    SAC(env, policy=policy, seed=4, **QUICK).learn(128).save(tmp_path / "half")
    resumed = SAC.load(tmp_path / "half", env, policy=policy).learn(64)
    for p, q in zip(straight.learner.actor.parameters(), resumed.learner.actor.parameters()):
        np.testing.assert_array_equal(p.array, q.array)
    np.testing.assert_array_equal(straight.replay.state_dict()["obs"], resumed.replay.state_dict()["obs"])


def test_actions_are_scaled_for_the_environment():
    agent = SAC("Pendulum-v1", policy=Plain, seed=0, **QUICK)
    actions = [agent.predict(np.array([1.0, 0.0, float(i)], np.float32))[0] for i in range(40)]
    assert abs(np.array(actions)).max() > 1 and np.shape(actions[0]) == (1,)
    mode, state = agent.predict(np.array([1.0, 0.0, 0.0], np.float32), deterministic=True)
    np.testing.assert_allclose(mode, 2 * state.action[0], rtol=1e-4)


def parameters(said):
    return np.concatenate([said.mean.numpy(), said.log_std.numpy()], 1) if hasattr(said, "log_std") else said.numpy()


@pytest.mark.parametrize("env", [Box, Rule])
def test_what_is_said_along_a_sequence_is_what_was_said_in_acting(env):
    """With the parameters of acting, the state computed again is the stored one: at every step and in the successor."""
    agent = SAC(env, policy=Remembers, seed=1, **QUICK, sequence_length=4)
    for _ in range(80):
        agent.step_environments()
    batch = agent.sample()
    rows = np.flatnonzero(batch.kept)
    assert len(batch.action) == 16 and batch.kept.any()
    with dynarl.no_grad():
        seen = agent.learner.policy.inputs(batch, 0)
    assert len(seen.batch.action) == len(rows) == len(seen.obs)
    masks = batch.get("next_action_mask"), batch.get("action_mask")
    for said, inputs, stored, mask in zip(seen.policies, (seen.next_obs, seen.obs), (batch.next_obs, batch.obs), masks):
        obs, state, feedback = agent.actor.records.unpack(stored, mask)
        (distribution,), _ = agent.actor.runner.call(obs, state, feedback)
        wanted = parameters(agent.actor.actions.policy(distribution, feedback.action_mask))[rows]
        np.testing.assert_allclose(parameters(said), wanted, rtol=1e-4, atol=1e-5)
        shown = inputs.numpy()  # by the critics: observation, feedback, state
        np.testing.assert_allclose(shown[:, : obs.shape[1]], obs[rows])
        np.testing.assert_allclose(shown[:, -17:-1], state["h"][rows], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(shown[:, -1], state["steps"][rows])


def test_burnt_in_rows_are_not_learned_from_and_the_state_gets_gradients():
    agent = SAC("Pendulum-v1", policy=Remembers, seed=1, **QUICK, sequence_length=4, burn_in=3)
    for _ in range(60):
        agent.step_environments()
    batch = agent.sample()
    seen = agent.learner.policy.inputs(batch, 0)
    assert len(batch.action) == 4 * 7 and 0 < len(seen.obs) == batch.kept[4 * 3 :].sum()
    seen.policies[1].mean.sum().backward()
    assert abs(agent.learner.actor.program.program.cell.weight_hh.grad.numpy()).max() > 0


class RecallSign(gymnasium.Env):
    """A sign is shown at the start of 4 steps; the last action must name it: [0, 1] or a number of that sign."""

    def __init__(self, discrete=True):
        self.discrete, self.observation_space = discrete, spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.Discrete(2) if discrete else spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.sign, self.t = int(self.np_random.integers(2)), 0
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        over = self.t == 4
        right = action == self.sign if self.discrete else (action[0] > 0) == bool(self.sign)
        return self._obs(), float(over and right), over, False, {}

    def _obs(self):
        return np.array([2 * self.sign - 1 if self.t == 0 else 0, self.t == 3], np.float32)


RECALL = [
    learns(
        f"sac-memory-{'discrete' if discrete else 'box'}",
        partial(
            SAC, partial(RecallSign, discrete), policy=Remembers, num_envs=8, batch_size=128, sequence_length=4,
            learning_starts=200, train_freq=8, learning_rate=6e-3, gamma=0.9, buffer_size=5000, hidden_sizes=(32,),
            alpha=0.02,
        ),
        steps=4_000,
        scores=mean_return(0.95, static=0.5, episodes=50),
    )
    for discrete in (True, False)
]  # fmt: skip


@pytest.mark.learns
@pytest.mark.parametrize("case", RECALL, ids=str)
def test_memory_is_learned_through_the_state(case):
    case.check()


class Pixels(gymnasium.Env):
    observation_space, action_space = spaces.Box(0, 255, (40, 40, 3), np.uint8), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros((40, 40, 3), np.uint8), {"level": 0}


@pytest.mark.parametrize(
    ("env", "policy", "options", "error", "message"),
    [
        ("Pendulum-v1", Remembers, {"n_step": 2}, ValueError, "n_step 2: not with a policy that has a state"),
        ("Pendulum-v1", Remembers, {}, ValueError, "batch_size: must be at least sequence_length 32, got 16"),
        ("Pendulum-v1", Plain, {"use_sde": True}, ValueError, "policy: use_sde belongs to the ready-made actor"),
        ("Pendulum-v1", lambda: nn.Linear(3, 2), {}, TypeError, r"got Tensor where a Normal of shape \(1,\) is needed"),
        ("CartPole-v1", lambda: nn.Linear(4, 2), {}, TypeError, "got Tensor where a Categorical over 2 actions is"),
        (Pixels, lambda: Told(spaces.Box(0, 1, (3,)), spaces.Discrete(2)), {}, ValueError, "must need no encoder"),
    ],
)  # fmt: skip
def test_refused(env, policy, options, error, message):
    with pytest.raises(error, match=message):
        SAC(env, policy=policy, **{**QUICK, "sequence_length": 32, **options})
