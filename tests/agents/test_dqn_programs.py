"""DQN with Q-functions written for one environment: feedback and state in rollouts, replay and learning."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import dynarl
from dynarl import nn
from dynarl.agents import DQN
from dynarl.agents.off_policy.records import RecordLayout
from dynarl.rollout import Feedback, ReplayBuffer, map_state
from tests.helpers.user_policies import Everything, Rule
from tests.learning import learns, mean_return

QUICK = {"num_envs": 4, "batch_size": 16, "learning_starts": 32, "train_freq": 4, "learning_rate": 1e-3,
         "target_update_interval": 32, "buffer_size": 400, "sequence_length": 4}  # fmt: skip


class Q(Everything):
    """`Everything` as a Q-function."""

    def forward(self, obs, state, feedback):
        distribution, _, state = super().forward(obs, state, feedback)
        return distribution.logits.clamp(-50, 50), state


class Plain(nn.Module):
    def __init__(self, observation_space, action_space):
        super().__init__()
        self.body = nn.ModuleList([nn.Linear(observation_space.shape[0], 32) for _ in range(2)])
        self.head = nn.Linear(32, action_space.n)

    def forward(self, obs):
        h = self.body[0](obs)
        if obs[2] > 0:
            h = self.body[1](obs)
        return self.head(h.relu())


@pytest.mark.parametrize("burn_in", [0, 2])
def test_learning_is_that_of_one_environment_after_the_other(burn_in):
    found = []
    for wrap in (lambda p: p, lambda p: dynarl.batched(p, mode="loop")):
        dynarl.manual_seed(0)
        agent = DQN(Rule, policy=wrap(Q()), seed=3, double=True, burn_in=burn_in, **QUICK).learn(192)
        found.append([p.detach().numpy() for p in agent.policy.parameters()])
    assert agent.grad_steps > 20
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"prioritized": True, "n_step": 3}, {"double": True}])
def test_without_a_state_it_learns_as_a_network_would(options):
    """The same function, once written for one observation and once with a batch axis."""

    class Batch(Plain):
        takes_batch = True

        def forward(self, obs):
            h = dynarl.where(obs[:, 2:3] > 0, self.body[1](obs), self.body[0](obs))
            return self.head(h.relu())

    agents = [DQN("CartPole-v1", policy=kind, seed=0, **QUICK, **options).learn(256) for kind in (Plain, Batch)]
    for one, other in zip(*(agent.policy.parameters() for agent in agents)):
        np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), rtol=1e-3, atol=1e-5)
    assert agents[0].replay.sample(2, np.random.default_rng(0)).obs.shape == (2, 4)
    assert agents[0].evaluate(2).mean > 0


def played(env, steps):
    """An agent that acted without learning."""
    agent = DQN(env, policy=Q, seed=1, double=True, **QUICK)
    for _ in range(steps):
        agent.step_environments()
    return agent


def test_values_along_a_sequence_are_those_of_acting():
    """With the parameters of acting, the unrolled state is the stored one: at every step and in the successor."""
    agent = played(Rule, 80)
    rng = np.random.default_rng(0)
    batch = agent.sequences.draw(agent.replay, 30 * 4, rng)
    assert 0 < batch.kept.mean() < 1  # episodes end inside
    values = agent.learner.evaluate(batch, 0)
    output, chooser = values.q(slice(None)), values.chooser
    obs, state, feedback = agent.actor.records.unpack(batch.obs, batch.action_mask)
    (q,), _ = agent.actor.runner.call(obs, state, feedback)
    np.testing.assert_allclose(output.detach().numpy()[batch.kept], q.numpy()[batch.kept], rtol=1e-4, atol=1e-5)
    obs, state, feedback = agent.actor.records.unpack(batch.next_obs, batch.next_action_mask)
    (q,), _ = agent.actor.runner.call(obs, state, feedback)
    np.testing.assert_allclose(chooser[batch.kept], q.numpy()[batch.kept], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(values.next_q, chooser, rtol=1e-5)  # no update yet: the target is a copy
    assert not feedback.episode_start.any() and (feedback.reward[batch.kept] == batch.reward[batch.kept]).all()


class Recall(gymnasium.Env):
    """A sign is shown at the start of 4 steps; the last action must name it."""

    def __init__(self):
        self.observation_space, self.action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.sign, self.t = int(self.np_random.integers(2)), 0
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        over = self.t == 4
        return self._obs(), float(over and action == self.sign), over, False, {}

    def _obs(self):
        return np.array([2 * self.sign - 1 if self.t == 0 else 0, self.t == 3], np.float32)

    def get_state(self):
        return {"sign": self.sign, "t": self.t}

    def set_state(self, state):
        self.sign, self.t = int(state["sign"]), int(state["t"])


class Remember(nn.Module):
    def __init__(self, size=16):
        super().__init__()
        self.cell, self.head, self.size = nn.GRUCell(2, size), nn.Linear(size, 2), size

    def initial_state(self):
        return dynarl.zeros(self.size)

    def forward(self, obs, state, feedback):
        h = self.cell(obs, state)
        return self.head(h), h


OPTIONS = {
    "num_envs": 8, "batch_size": 128, "sequence_length": 4, "learning_starts": 200, "train_freq": 8,
    "learning_rate": 6e-3, "target_update_interval": 64, "epsilon_steps": 1200, "gamma": 0.9, "buffer_size": 5000,
}  # fmt: skip


RECALL = learns(
    "dqn-memory",
    partial(DQN, Recall, policy=Remember, **OPTIONS),
    steps=2_500,
    scores=mean_return(0.95, static=0.5, episodes=50),
)


@pytest.mark.learns
def test_memory_is_learned_through_the_state():
    RECALL.check()


@pytest.mark.parametrize("env", [Recall, Rule])
def test_resume_to_the_byte(env, tmp_path):
    policy = Remember if env is Recall else Q
    straight = DQN(env, policy=policy, seed=4, **QUICK).learn(128).learn(128)
    half = DQN(env, policy=policy, seed=4, **QUICK).learn(128)
    half.save(tmp_path / "half")
    resumed = DQN.load(tmp_path / "half", env, policy=policy)
    resumed.learn(128)
    for p, q in zip(straight.policy.parameters(), resumed.policy.parameters()):
        np.testing.assert_array_equal(p.array, q.array)
    one, other = straight.replay.state_dict(), resumed.replay.state_dict()
    np.testing.assert_array_equal(one["obs"], other["obs"])


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_what_is_replayed_is_what_was_met_in_every_autoreset_mode(mode):
    env = gymnasium.vector.SyncVectorEnv([Rule] * 4, autoreset_mode=gymnasium.vector.AutoresetMode[mode])
    agent = played(env, 32)
    batch = agent.sequences.draw(agent.replay, 40 * 4, np.random.default_rng(1))
    found = agent.learner.evaluate(batch, 0)
    for values, obs, mask in (
        (found.q(slice(None)).detach().numpy(), batch.obs, batch.action_mask),
        (found.chooser, batch.next_obs, batch.next_action_mask),
    ):
        stored = agent.actor.records.unpack(obs, mask)
        (q,), _ = agent.actor.runner.call(*stored)
        np.testing.assert_allclose(values[batch.kept], q.numpy()[batch.kept], rtol=1e-4, atol=1e-5)
        _, state, feedback = stored
        assert (state["steps"][feedback.episode_start] == 0).all()
        assert (feedback.info["level"] <= 3).all() and feedback.info["level"].any()


def test_random_numbers_of_a_program_are_those_of_its_row():
    class Noisy(Plain):
        def forward(self, obs):
            return super().forward(obs) + dynarl.rand(()) * (1 if dynarl.rand(()) < 0.5 else 0)

    found = []
    for _ in range(2):
        agent = DQN("CartPole-v1", policy=Noisy, seed=0, **QUICK).learn(128)
        dynarl.rand(3)
        found.append([p.detach().numpy() for p in agent.policy.parameters()])
    for one, other in zip(*found):
        np.testing.assert_array_equal(one, other)


def test_records_keep_every_dtype():
    agent = DQN(Rule, policy=Q, seed=0, **QUICK)
    records, rng = RecordLayout(agent.actor.runner), np.random.default_rng(0)
    obs = rng.normal(size=(5, 3)).astype(np.float32)
    state = {"h": rng.normal(size=(5, 4)).astype(np.float32), "steps": np.arange(5) + 2**40,
             "mean": (np.ones(5, np.float32),)}  # fmt: skip
    feedback = Feedback(np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]], obs[:, 0], obs[:, 0] > 0, {"level": obs[:, 1]})
    same_obs, same_state, same = records.unpack(records.pack(obs, feedback, state), None)
    np.testing.assert_array_equal(same_obs, obs)
    map_state(np.testing.assert_array_equal, same_state, state)
    map_state(np.testing.assert_array_equal, tuple(same), tuple(feedback))


def test_following_transitions_stop_at_ends_and_at_the_newest():
    replay = ReplayBuffer(8, 1, ((), np.int64), ((), np.int64))
    zeros, no = np.zeros(1), np.zeros(1, bool)
    for t in range(11):  # the ring holds 3 ... 10; an episode ends with 5
        replay.add(np.array([t]), zeros, zeros, no, np.array([t == 5]), np.array([t + 1]))
    index = replay.draw(200, np.random.default_rng(0))
    path, kept = replay.following(index, 4)
    seen = replay._obs[path]
    for column, good in zip(seen.T, kept.T):
        first = column[0]
        last = 5 if first <= 5 else 10
        expected = [min(first + k, last) for k in range(4)]
        assert column.tolist() == expected and good.tolist() == [first + k <= last for k in range(4)]


@pytest.mark.parametrize(
    ("policy", "options", "error", "message"),
    [
        (Plain, {"noisy": True}, ValueError, "policy: noisy belong to the ready-made Q-network"),
        (Plain, {"distributional": "qr"}, ValueError, "policy: distributional belong to the ready-made"),
        (Remember, {"prioritized": True}, ValueError, "prioritized: not with a policy that has a state"),
        (Remember, {"n_step": 2}, ValueError, "n_step 2: not with a policy that has a state"),
        (Remember, {"sequence_length": 32}, ValueError, "batch_size: must be at least sequence_length 32, got 16"),
        (lambda: nn.Linear(4, 3), {}, TypeError, r"must return q for one environment, got shape \(3,\) where"),
        (lambda: nn.LSTMCell(4, 3), {}, TypeError, "must return q for one environment, got tuple of 2"),
        (Plain, {"burn_in": -1}, ValueError, "burn_in: must be at least 0, got -1"),
    ],
)  # fmt: skip
def test_refused(policy, options, error, message):
    with pytest.raises(error, match=message):
        DQN(Recall if policy is Remember else "CartPole-v1", policy=policy, **{**QUICK, **options})
