"""An environment whose masks and info vary, and a user policy that branches on all of its inputs."""

import gymnasium
import numpy as np
from gymnasium import spaces

import dynarl
from dynarl import nn
from dynarl.distributions import Categorical

QUICK = {"num_envs": 4, "num_steps": 16, "batch_size": 16, "num_epochs": 2, "learning_rate": 1e-2}


class Rule(gymnasium.Env):
    """Rewards, info and masks that vary; episodes of 5 steps end by truncation, or terminate on action 2."""

    def __init__(self):
        self.observation_space, self.action_space = spaces.Box(-9, 9, (3,), np.float32), spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), self._info()

    def step(self, action):
        self.t += 1
        reward = float(self.np_random.normal() + action)
        return self._obs(), reward, bool(action == 2), self.t == 5, self._info()

    def _obs(self):
        return self.np_random.normal(size=3).astype(np.float32)

    def _info(self):
        return {"level": self.np_random.integers(4), "action_mask": np.array([True, self.t % 2 == 0, True])}

    def get_state(self):
        return {"t": self.t}

    def set_state(self, state):
        self.t = int(state["t"])


class Odd(Exception):
    pass


class Everything(nn.Module):
    """Branches on all that a policy is told, in every way Python offers; the state has tensors and numbers."""

    info_fields = ("level",)

    def __init__(self, size=4):
        super().__init__()
        self.encode, self.cell = nn.Linear(3, size), nn.GRUCell(size, size)
        self.heads = nn.ModuleList([nn.Linear(size, 3) for _ in range(3)])
        self.value = nn.Linear(size, 1)
        self.first = nn.Parameter(dynarl.full((size,), 0.1))

    def initial_state(self):
        return {"h": self.first, "steps": 0, "mean": (0.0,)}

    def deepen(self, h, level):
        return h if level == 0 else self.deepen(h.tanh(), level - 1)

    def check(self, steps):
        if steps % 2 == 1:
            raise Odd
        return 1

    def forward(self, obs, state, feedback):
        h, steps = state["h"], state["steps"]
        if feedback.episode_start:
            assert steps == 0
            h = h * 2
        patience = 4 if feedback.reward < state["mean"][0] else 2
        x, n = self.encode(obs), 0
        while n < patience:
            x = self.cell(x, h)
            n += 1
            if x[0] > 0.2:
                break
        x = self.deepen(x, int(feedback.info["level"]))
        try:
            x = x * self.check(int(steps))
        except Odd:
            x = -x
        head = self.heads[int(feedback.action.argmax())](x)
        head = dynarl.where(feedback.action_mask, head, -1e8)
        mean = 0.5 * state["mean"][0] + 0.5 * feedback.reward
        return Categorical(logits=head), self.value(x), {"h": x, "steps": steps + 1, "mean": (mean,)}


def ratios(agent):
    """The ratios of the first epoch, of every minibatch."""
    fragment = agent.collector.collect()
    for name in ("advantages", "returns"):
        fragment[name] = np.ones_like(fragment.value)
    batch, found = agent.learner.rows.batch(fragment), []
    for minibatch in agent.learner.rows.minibatches(batch, np.random.default_rng(0), agent.config.batch_size):
        log_prob, value, *_ = agent.learner.rows.evaluate(minibatch, with_entropy=True)
        np.testing.assert_allclose(value.detach().numpy(), minibatch.value, rtol=1e-4, atol=1e-5)
        found.append(np.exp(log_prob.detach().numpy() - minibatch.log_prob))
    found = np.concatenate(found)
    assert len(found) == fragment.valid.sum()
    return found
