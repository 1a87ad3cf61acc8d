"""DQN's learner alone: made and updated on a hand-made batch, and one update derived again in NumPy."""

import numpy as np
import pytest
from gymnasium import spaces

import dynarl
from dynarl.agents.dqn import DQNConfig, DQNLearner
from dynarl.agents.dqn.networks import QNetwork
from dynarl.rollout import Batch


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def hand_made_batch(rng, rows=32):
    """Transitions of 4 numbers and 2 actions; every fourth one ends its episode."""
    return Batch(
        obs=rng.normal(size=(rows, 4)).astype(np.float32),
        action=rng.integers(0, 2, rows),
        reward=rng.normal(size=rows).astype(np.float32),
        next_obs=rng.normal(size=(rows, 4)).astype(np.float32),
        discount=np.where(np.arange(rows) % 4, 0.99, 0.0).astype(np.float32),
        weight=np.ones(rows, np.float32),
    )


def test_a_learner_needs_no_environment(rng):
    network = QNetwork(spaces.Box(-1, 1, (4,)), 2, hidden_sizes=(16,))
    learner = DQNLearner(network, DQNConfig(learning_rate=1e-2))
    batch = hand_made_batch(rng)
    losses = [learner.update(batch)["train/loss"] for _ in range(50)]
    assert losses[-1] < 0.5 * losses[0] and learner.grad_steps == 50


def numpy_update(online, target, batch, cfg):
    """One step of Nature DQN with one hidden layer: (parameters after it, loss, norm of the gradient)."""

    def q_network(parameters, x):
        w0, b0, w1, b1 = parameters
        hidden = np.maximum(x @ w0.T + b0, 0)
        return hidden, hidden @ w1.T + b1

    # y = r + gamma max_a Q'(s', a), and the error of Q(s, a)
    y = batch.reward + batch.discount * q_network(target, batch.next_obs)[1].max(axis=1)
    hidden, q = q_network(online, batch.obs)
    rows = np.arange(len(y))
    delta = q[rows, batch.action] - y
    loss = np.where(abs(delta) < 1, delta**2 / 2, abs(delta) - 0.5).mean()

    # the gradient of the mean Huber loss, from the output back to the first layer
    g = np.zeros_like(q)
    g[rows, batch.action] = np.clip(delta, -1, 1) / len(y)
    g_hidden = (g @ online[2]) * (hidden > 0)
    gradient = [g_hidden.T @ batch.obs, g_hidden.sum(axis=0), g.T @ hidden, g.sum(axis=0)]
    norm = np.sqrt(sum((part**2).sum() for part in gradient))
    gradient = [part * min(1.0, cfg.max_grad_norm / norm) for part in gradient]

    # the first step of Adam: both averages, corrected for their bias, are those of this gradient
    after = [p - cfg.learning_rate * g / (abs(g) + cfg.adam_eps) for p, g in zip(online, gradient)]
    return after, loss, norm


@pytest.mark.parametrize("max_grad_norm", [0.05, 10.0])
def test_an_update_is_that_of_numpy(rng, max_grad_norm):
    dynarl.manual_seed(0)
    config = DQNConfig(hidden_sizes=(8,), learning_rate=1e-2, max_grad_norm=max_grad_norm)
    learner = DQNLearner(QNetwork(spaces.Box(-1, 1, (4,)), 2, hidden_sizes=(8,)), config)
    for parameter in learner.target.parameters():  # not a copy of the online network
        parameter.array += rng.normal(size=parameter.shape).astype(np.float32) * 0.1
    online, target = ([p.array.astype(float) for p in n.parameters()] for n in (learner.q_network, learner.target))
    batch = hand_made_batch(rng)
    after, loss, norm = numpy_update(online, target, batch, config)

    metrics = learner.update(batch)
    assert metrics["train/loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["train/grad_norm"] == pytest.approx(norm, rel=1e-5)
    for parameter, expected in zip(learner.q_network.parameters(), after, strict=True):
        np.testing.assert_allclose(parameter.array, expected, atol=1e-5)
    learner.update_target()  # tau 1 copies
    for parameter, expected in zip(learner.target.parameters(), after, strict=True):
        np.testing.assert_allclose(parameter.array, expected, atol=1e-5)


@pytest.mark.parametrize("distributional", ["none", "c51", "qr"])
def test_state_of_a_learner(rng, distributional):
    """Two learners of equal state make equal updates."""
    config = DQNConfig(noisy=True, prioritized=True, distributional=distributional, num_atoms=8, num_quantiles=8)
    numbers = 8 if distributional != "none" else 0
    space, layers = spaces.Box(-1, 1, (4,)), {"hidden_sizes": (8,), "noisy": True, "num_atoms": numbers}
    one, other = (DQNLearner(QNetwork(space, 2, **layers), config) for _ in range(2))
    batch = hand_made_batch(rng)
    one.update(batch)
    assert batch.td_error.shape == (32,) and "td_error" in batch
    other.load_state_dict(one.state_dict())
    assert one.update(batch) == other.update(batch)
    assert other.grad_steps == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": None, "weight": None}, "the batch must have .*, weight; got no reward, weight$"),
        (
            {"terminated": np.zeros(32)},
            "unknown arrays terminated; discount is gamma, and 0 where the episode terminat",
        ),
        ({"noise": np.zeros(32)}, "unknown arrays noise$"),
        ({"reward": np.zeros((32, 1))}, r"reward must be an array \[B\] of at least one row, got \[32, 1\]"),
        ({"reward": [0.0] * 32}, r"reward must be an array \[B\] of at least one row, got a list"),
        ({"weight": np.ones(31)}, r"weight must be an array \[32\], got \[31\]"),
        ({"weight": np.ones((32, 1))}, r"weight must be an array \[32\], got \[32, 1\]"),
        ({"obs": np.zeros((32, 3))}, r"obs must be an array \[32, 4\], got \[32, 3\]"),
        ({"next_action_mask": np.ones((32, 3), bool)}, r"next_action_mask must be an array \[32, 2\], got \[32, 3\]"),
        ({"action": np.zeros((32, 1), int)}, r"action must be an array \[32\], got \[32, 1\]"),
        ({"action": np.zeros(32)}, r"action must be integers in 0 ... 1, got float64"),
        ({"action": np.full(32, 2)}, r"action must be integers in 0 ... 1, got 2 to 2"),
        ({"action": np.arange(32) % 2 - 1}, r"action must be integers in 0 ... 1, got -1 to 0"),
    ],
)
@pytest.mark.parametrize("noisy", [False, True])
def test_wrong_batches_are_refused_before_anything_changes(rng, noisy, change, message):
    network = QNetwork(spaces.Box(-1, 1, (4,)), 2, hidden_sizes=(8,), noisy=noisy)
    learner = DQNLearner(network, DQNConfig(noisy=noisy))
    before = learner.state_dict()
    batch = Batch({name: array for name, array in {**hand_made_batch(rng), **change}.items() if array is not None})
    with pytest.raises(ValueError, match=f"DQNLearner.update: {message}"):
        learner.update(batch)
    np.testing.assert_equal(learner.state_dict(), before)
    learner.update(hand_made_batch(rng))


def test_batches_of_a_network_that_does_not_say_its_actions(rng):
    learner = DQNLearner(dynarl.nn.Linear(4, 2), DQNConfig())
    learner.update(hand_made_batch(rng))
    for action in (-1, 2):
        with pytest.raises(ValueError, match=r"action must be integers in 0 ... 1, got"):
            learner.update(Batch({**hand_made_batch(rng), "action": np.full(32, action)}))
    with pytest.raises(ValueError, match=r"next_obs must have the shape of obs, \[32, 4\], got \[32, 3\]"):
        learner.update(Batch({**hand_made_batch(rng), "next_obs": np.zeros((32, 3), np.float32)}))
    with pytest.raises(TypeError, match=r"needs a dynarl.rollout.Batch, got dict; Batch\(\*\*arrays\) makes one"):
        learner.update(dict(hand_made_batch(rng)))


@pytest.mark.parametrize("setting", ["double", "noisy", "prioritized"])
def test_several_minibatches_are_refused_where_each_needs_its_own_network(rng, setting):
    network = QNetwork(spaces.Box(-1, 1, (4,)), 2, hidden_sizes=(16,), noisy=setting == "noisy")
    learner = DQNLearner(network, DQNConfig(batch_size=16, **{setting: True}))
    with pytest.raises(ValueError, match="at most batch_size 16 rows, got 32"):
        learner.update(hand_made_batch(rng))
