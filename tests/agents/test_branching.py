"""Policies that branch: batched as in the loop over samples, their own losses, and what they reach."""

from functools import partial

import gymnasium
import numpy as np
import pytest

import dynarl
from dynarl import nn
from dynarl.agents import PPO
from dynarl.agents.conditional import AdaptiveComputation, EarlyExit, Mixture, Options, SetPolicy, TreeEvaluator
from dynarl.distributions import Categorical
from dynarl.rollout import Feedback
from tests.learning import error, learns, mean_return

PAIRS = [
    ("PointerChase", AdaptiveComputation),
    ("SometimesHard", EarlyExit),
    ("Dispatch", Mixture),
    ("HeaviestKind", SetPolicy),
    ("Expression", TreeEvaluator),
]
TINY = {"num_envs": 4, "num_steps": 8, "batch_size": 32, "num_epochs": 2, "gamma": 0.0}


@pytest.mark.parametrize(("name", "policy"), PAIRS)
def test_batches_are_the_loop_s(name, policy):
    env = gymnasium.make(f"dynarl/{name}-v0")
    dynarl.manual_seed(0)
    module = policy(env.observation_space, env.action_space)
    with dynarl.no_grad():
        for p in module.parameters():
            p.mul_(3.0)  # so that samples disagree
    puzzle, rng = env.unwrapped.puzzle, np.random.default_rng(0)
    obs = dynarl.tensor(np.stack([puzzle.draw(rng)[0] for _ in range(24)]))
    found = []
    for mode in ("auto", "loop"):
        module.zero_grad()
        run = dynarl.batched(module, mode=mode)
        distribution, value, extra = run(obs)
        total = (
            (distribution.logits**2).sum() + (value**2).sum() + sum(column.float().sum() for column in extra.values())
        )
        total.backward()
        gradients = [np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy() for p in module.parameters()]
        found.append([distribution.logits.detach().numpy(), value.detach().numpy(), *gradients])
        assert mode == "loop" or run.run.last.groups > 1
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_adaptive_computation_thinks_as_long_as_it_takes():
    """With weights that follow pointers it stops one thought behind the last hop, and never looks at `max_thoughts`."""
    env = gymnasium.make("dynarl/PointerChase-v0")
    policy = AdaptiveComputation(env.observation_space, env.action_space, hidden_size=8)
    with dynarl.no_grad():
        policy.think[0].weight.copy_(dynarl.eye(8) * 6.0)
        policy.think[0].bias.fill_(-3.0)
        policy.where.weight.copy_(dynarl.tensor(np.eye(9, 8, k=-1, dtype=np.float32) * 20.0))
        policy.policy.weight.copy_(dynarl.eye(8))
    rng = np.random.default_rng(0)
    for _ in range(20):
        obs, answer = env.unwrapped.puzzle.draw(rng)
        distribution, _, extra = policy(dynarl.tensor(obs))
        rows = obs.reshape(9, 8).argmax(1)
        node, hops = rows[0], 0
        while rows[1 + node] != node:
            node, hops = rows[1 + node], hops + 1
        assert distribution.mode.item() == answer == node and extra["steps"] == hops + 1


def test_options_hold_until_a_reward_ends_them():
    env = gymnasium.make("dynarl/FeedbackSwitch-v0")
    program = Options(env.observation_space, env.action_space, options=3)
    with dynarl.no_grad():
        program.next[:, :3].copy_(dynarl.tensor([[0.0, 50.0, 0.0], [0.0, 0.0, 50.0], [50.0, 0.0, 0.0]]))
    policy, rows = dynarl.batched(program), dynarl.arange(6)
    reward = dynarl.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    nothing = dynarl.zeros(6)
    feedback = Feedback(dynarl.zeros(6, 3), reward, nothing > 1, {})
    distribution, _, option, extra = policy(dynarl.eye(3)[rows % 3], rows // 2, feedback)
    np.testing.assert_array_equal(option.numpy(), [0, 1, 1, 2, 2, 0])
    np.testing.assert_array_equal(extra["ended"].numpy(), reward.numpy() < 0)
    np.testing.assert_allclose(distribution.branch_log_prob.detach().numpy(), 0.0, atol=1e-6)
    held = Options(env.observation_space, env.action_space, look=False)
    assert held(dynarl.eye(3)[0], dynarl.tensor(0), feedback.map(lambda x: x[1]))[2] == 0


class Own(nn.Module):
    """A policy whose loss pulls a parameter that nothing else touches towards 1."""

    def __init__(self, observation_space, action_space, loss=True):
        super().__init__()
        self.head, self.own, self.loss = nn.Linear(observation_space.shape[0], 3), nn.Parameter(dynarl.zeros(1)), loss

    def forward(self, obs):
        out = self.head(obs)
        extra = {"loss": ((self.own[0] - 1.0) ** 2) if self.loss else 2.0, "hard": 1.0 if obs[0] > 0 else 0.0}
        return Categorical(logits=out[:2]), out[2], extra


OWN = learns(
    "branching-own-loss",
    partial(PPO, "dynarl/SometimesHard-v0", policy=Own, learning_rate=0.01, **TINY),
    steps=64 * 32,
    scores=error(lambda agent: agent.policy.program.own.detach().numpy(), np.ones(1), 0.2, what="parameter"),
)


@pytest.mark.learns
def test_the_loss_a_policy_returns_is_learned_and_its_numbers_are_logged():
    seen = []
    own = OWN.check(on_iteration=seen.append).policy.program.own.item()
    assert seen[-1]["policy/loss"] == pytest.approx((own - 1.0) ** 2, abs=0.01)
    assert seen[-1]["train/extra_loss"] == seen[-1]["policy/loss"]
    assert np.mean([metrics["policy/hard"] for metrics in seen]) == pytest.approx(0.25, abs=0.05)


def test_a_loss_that_is_a_constant_is_logged_alone():
    agent, seen = PPO("dynarl/SometimesHard-v0", policy=Own, policy_kwargs={"loss": False}, **TINY), []
    agent.learn(32, on_iteration=seen.append)
    assert seen[-1]["policy/loss"] == 2.0 and "train/extra_loss" not in seen[-1]


def test_aux_must_be_a_dict_of_numbers():
    class Wrong(Own):
        def forward(self, obs):
            return (*super().forward(obs)[:2], obs)

    with pytest.raises(TypeError, match="policy: aux, the last output, must be a dict of tensors, got Ten"):
        PPO("dynarl/SometimesHard-v0", policy=Wrong, **TINY)

    class Long(Own):
        def forward(self, obs):
            return (*super().forward(obs)[:2], {"steps": obs})

    with pytest.raises(ValueError, match=r"aux\['steps'\] of 2 observations must have shape \(2,\), got \(2, 4\)"):
        PPO("dynarl/SometimesHard-v0", policy=Long, **TINY)


def test_refusals():
    with pytest.raises(ValueError, match=r"EarlyExit: is for Box observations and Discrete actions, got Box.*Box"):
        PPO("Pendulum-v1", policy="early_exit")
    with pytest.raises(
        ValueError, match="AdaptiveComputation: rows must divide the 4 numbers of an observation, got 3"
    ):
        PPO("CartPole-v1", policy="adaptive_computation", policy_kwargs={"rows": 3})
    with pytest.raises(ValueError, match=r"SetPolicy: width must divide the 3 numbers .* after the first 1, got 5"):
        PPO("CartPole-v1", policy="set_encoder")


def test_the_old_name_of_the_set_policy_names_the_new_one():
    with pytest.raises(ImportError, match=r"conditional\.SetEncoder is now called .*\.SetPolicy"):
        from dynarl.agents.conditional import SetEncoder  # noqa: F401


EXIT = learns(
    "branching-early-exit",
    partial(
        PPO, "dynarl/SometimesHard-v0", policy="early_exit", num_envs=64, num_steps=32, batch_size=512, num_epochs=4,
        learning_rate=3e-3, gamma=0.0, gae_lambda=0.0, ent_coef=0.1,
    ),
    steps=14 * 2048,
    scores=mean_return(0.95, static=0.92, episodes=50),
)  # fmt: skip


@pytest.mark.learns
def test_early_exit_solves_what_a_shallow_network_does_not():
    EXIT.check()
