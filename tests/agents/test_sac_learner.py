"""SAC's learner alone: made and updated on a hand-made batch, and one update derived again in NumPy."""

import numpy as np
import pytest
from gymnasium import spaces

import dynarl
from dynarl.agents.sac import SACConfig, SACLearner
from dynarl.agents.sac.networks import make_networks
from dynarl.rollout import Batch

OBS, BOX = spaces.Box(-1, 1, (4,), np.float32), spaces.Box(-1, 1, (2,), np.float32)
DISCRETE = spaces.Discrete(3)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def hand_made_batch(rng, rows=32):
    """Transitions of 4 numbers and actions of 2; every fourth one ends its episode."""
    normal = {name: rng.normal(size=(rows, 4)).astype(np.float32) for name in ("obs", "next_obs")}
    noise = {name: rng.normal(size=(rows, 2)).astype(np.float32) for name in ("noise", "next_noise")}
    return Batch(
        **normal,
        **noise,
        action=rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        reward=rng.normal(size=rows).astype(np.float32),
        discount=np.where(np.arange(rows) % 4, 0.99, 0.0).astype(np.float32),
    )


@pytest.mark.parametrize("action_space", [BOX, DISCRETE])
def test_a_learner_needs_no_environment(rng, action_space):
    config = SACConfig(hidden_sizes=(16,), learning_rate=1e-2, alpha=0.01)
    actor, critics = make_networks(OBS, action_space, config)
    learner = SACLearner(actor, critics, config, action_space)
    batch = hand_made_batch(rng)
    if action_space is not BOX:
        batch["action"] = rng.integers(0, 3, 32)
    losses = [learner.update(batch)["train/critic_loss"] for _ in range(50)]
    assert losses[-1] < 0.5 * losses[0] and learner.grad_steps == 50


def mlp(x, w0, b0, w1, b1):
    hidden = np.maximum(x @ w0.T + b0, 0)
    return hidden, hidden @ w1.T + b1


def mlp_gradient(g, x, w0, b0, w1, b1):
    """Gradients of the parameters and of x, for the gradient g of the output."""
    hidden, _ = mlp(x, w0, b0, w1, b1)
    g_hidden = (g @ w1) * (hidden > 0)
    return [g_hidden.T @ x, g_hidden.sum(axis=0), g.T @ hidden, g.sum(axis=0)], g_hidden @ w0


def numpy_update(actor, critics, targets, log_alpha, batch, cfg):
    """One step of Algorithm 1 with one hidden layer; the same values after it."""
    rows, alpha = len(batch.reward), np.exp(log_alpha)

    def adam(parameters, gradient):  # its first step: the bias-corrected averages are those of this gradient
        return [p - cfg.learning_rate * g / (abs(g) + 1e-8) for p, g in zip(parameters, gradient)]

    def policy(obs, noise):
        mean, log_std = np.split(mlp(obs, *actor)[1], 2, axis=1)
        action = np.tanh(mean + np.exp(log_std) * noise)
        log_density = -(noise**2 + np.log(2 * np.pi)) / 2 - log_std - np.log(1 - action**2)
        return log_std, action, log_density.sum(axis=1)

    # critics: y = r + gamma (min_i Q'_i(s', a') - alpha log pi(a'|s'))
    _, next_action, next_log_prob = policy(batch.next_obs, batch.next_noise)
    x = np.concatenate((batch.next_obs, next_action), axis=1)
    y = batch.reward + batch.discount * (np.min([mlp(x, *q)[1][:, 0] for q in targets], 0) - alpha * next_log_prob)
    x = np.concatenate((batch.obs, batch.action), axis=1)
    critics = [adam(c, mlp_gradient((mlp(x, *c)[1] - y[:, None]) / rows, x, *c)[0]) for c in critics]

    # actor: mean(alpha log pi(a|s) - min_i Q_i(s, a)), through the action that the noise makes
    log_std, action, log_prob = policy(batch.obs, batch.noise)
    x = np.concatenate((batch.obs, action), axis=1)
    smallest = np.argmin([mlp(x, *critic)[1][:, 0] for critic in critics], axis=0)
    of_x = [mlp_gradient((smallest == i)[:, None] / -rows, x, *critic)[1] for i, critic in enumerate(critics)]
    g_u = sum(of_x)[:, 4:] * (1 - action**2) + alpha / rows * 2 * action
    g_out = np.concatenate((g_u, g_u * np.exp(log_std) * batch.noise - alpha / rows), axis=1)
    actor = adam(actor, mlp_gradient(g_out, batch.obs, *actor)[0])

    # Polyak averages of the critics; temperature: -log alpha (log pi(a|s) - dim(A))
    targets = [[cfg.tau * p + (1 - cfg.tau) * t for p, t in zip(*pair)] for pair in zip(critics, targets)]
    return actor, critics, targets, adam([log_alpha], [2 - log_prob.mean()])[0]


def arrays(network):
    return [p.array.astype(float) for p in network.parameters()]


def each_critic(network):
    return [[p[i] for p in arrays(network)] for i in range(2)]


def test_an_update_is_that_of_numpy(rng):
    dynarl.manual_seed(0)
    config = SACConfig(hidden_sizes=(8,), learning_rate=1e-2, alpha_init=0.4, tau=0.1)
    learner = SACLearner(*make_networks(OBS, BOX, config), config, BOX)
    for parameter in learner.target_critics.parameters():  # not a copy of the critics
        parameter.array += rng.normal(size=parameter.shape).astype(np.float32) * 0.1
    before = arrays(learner.actor), each_critic(learner.critics), each_critic(learner.target_critics)
    batch = hand_made_batch(rng)
    actor, critics, targets, log_alpha = numpy_update(*before, np.log(0.4), batch, config)

    learner.update(batch)
    assert learner.log_alpha.item() == pytest.approx(log_alpha, abs=1e-5)
    found = arrays(learner.actor), each_critic(learner.critics), each_critic(learner.target_critics)
    for mine, expected in zip((found[0], *found[1], *found[2]), (actor, *critics, *targets), strict=True):
        for one, other in zip(mine, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("alpha", [None, 0.2])
def test_state_of_a_learner(rng, alpha):
    """Two learners of equal state make equal updates."""
    config = SACConfig(hidden_sizes=(8,), alpha=alpha)
    one, other = (SACLearner(*make_networks(OBS, BOX, config), config, BOX) for _ in range(2))
    batch = hand_made_batch(rng)
    one.update(batch)
    other.load_state_dict(one.state_dict())
    assert one.update(batch) == other.update(batch)
    assert other.grad_steps == 2


@pytest.mark.parametrize(
    ("action_space", "change", "message"),
    [
        (BOX, {"noise": None}, "the batch must have .*, noise, next_noise; got no noise$"),
        (BOX, {"done": np.zeros(32)}, "unknown arrays done; discount is gamma, and 0 where the episode terminated"),
        (BOX, {"noise": np.zeros((32, 1))}, r"noise must be an array \[32, 2\], got \[32, 1\]"),
        (BOX, {"next_noise": np.zeros((31, 2))}, r"next_noise must be an array \[32, 2\], got \[31, 2\]"),
        (BOX, {"weight": np.ones(3)}, r"weight must be an array \[32\], got \[3\]"),
        (BOX, {"discount": np.ones((32, 1))}, r"discount must be an array \[32\], got \[32, 1\]"),
        (BOX, {"obs": np.zeros((32, 5))}, r"obs must be an array \[32, 4\], got \[32, 5\]"),
        (BOX, {"action": np.zeros((32, 2), int)}, "action must be floats in -1 ... 1, got int64"),
        (BOX, {"action": np.full((32, 2), 1.5)}, "action must be floats in -1 ... 1, got 1.5 to 1.5"),
        (BOX, {"action": np.full((32, 2), np.nan)}, "action must be floats in -1 ... 1, got nan to nan"),
        (DISCRETE, {}, r"action must be an array \[32\], got \[32, 2\]"),
        (DISCRETE, {"action": np.full(32, 3)}, "action must be integers in 0 ... 2, got 3 to 3"),
        (DISCRETE, {"action": np.zeros(32)}, "action must be integers in 0 ... 2, got float64"),
        (
            DISCRETE,
            {"action": np.zeros(32, int), "action_mask": np.ones((32, 2))},
            r"action_mask must be an array \[32, 3\], got \[32, 2\]",
        ),
    ],
)
def test_wrong_batches_are_refused_before_anything_changes(rng, action_space, change, message):
    config = SACConfig(hidden_sizes=(8,))
    learner = SACLearner(*make_networks(OBS, action_space, config), config, action_space)
    before = learner.state_dict()
    batch = Batch({name: array for name, array in {**hand_made_batch(rng), **change}.items() if array is not None})
    with pytest.raises(ValueError, match=f"SACLearner.update: {message}"):
        learner.update(batch)
    np.testing.assert_equal(learner.state_dict(), before)
