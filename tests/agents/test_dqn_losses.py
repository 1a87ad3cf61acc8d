"""Targets and losses of the DQN family against plain loops, and their gradients numerically."""

import math

import numpy as np
import pytest
from gymnasium import spaces

import dynarl
from dynarl.agents.dqn.exploration import linear
from dynarl.agents.dqn.networks import NoisyLinear, QNetwork
from dynarl.agents.dqn.td import categorical_projection, categorical_td_loss, huber_td_loss, quantile_td_loss
from dynarl.autograd import gradcheck, gradgradcheck, tensor

B, A, Z = 7, 3, 5


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def taken(rng):
    return rng.integers(0, A, B), rng.random(B)


def huber(d):
    return 0.5 * d * d if abs(d) <= 1 else abs(d) - 0.5


def test_huber_loss(rng, taken):
    action, weight = taken
    q, y = rng.normal(size=(B, A)) * 2, rng.normal(size=B) * 2
    expected = sum(weight[b] * huber(q[b, action[b]] - y[b]) for b in range(B)) / B
    static = {"action": action, "td_target": y, "weight": weight}
    x = tensor(q, requires_grad=True)
    assert huber_td_loss(x, **static).item() == pytest.approx(expected)
    assert gradcheck(lambda x: huber_td_loss(x, **static), [x])
    assert gradgradcheck(lambda x: huber_td_loss(x, **static), [x])


def test_huber_loss_stays_float32(rng, taken):
    action, weight = taken
    q = tensor(rng.normal(size=(B, A)).astype(np.float32), requires_grad=True)
    loss = huber_td_loss(q, action=action, td_target=np.zeros(B, np.float32), weight=weight.astype(np.float32))
    loss.backward()
    assert (loss.dtype, q.grad.dtype) == (np.float32, np.float32)


def test_categorical_loss(rng, taken):
    action, weight = taken
    logits, m = rng.normal(size=(B, A, Z)), rng.dirichlet(np.ones(Z), B)
    expected = 0.0
    for b in range(B):
        z = logits[b, action[b]]
        total = math.log(sum(math.exp(v) for v in z))
        expected -= weight[b] * sum(m[b, i] * (z[i] - total) for i in range(Z)) / B
    static = {"action": action, "target": m, "weight": weight}
    x = tensor(logits, requires_grad=True)
    assert categorical_td_loss(x, **static).item() == pytest.approx(expected)
    assert gradcheck(lambda x: categorical_td_loss(x, **static), [x])


def test_quantile_loss(rng, taken):
    action, weight = taken
    theta, y = rng.normal(size=(B, A, Z)) * 2, rng.normal(size=(B, Z)) * 2
    expected = 0.0
    for b in range(B):
        for i in range(Z):
            tau = (2 * i + 1) / (2 * Z)
            for j in range(Z):
                d = y[b, j] - theta[b, action[b], i]
                expected += weight[b] * abs(tau - (d < 0)) * huber(d) / Z / B
    static = {"action": action, "target": y, "weight": weight}
    x = tensor(theta, requires_grad=True)
    assert quantile_td_loss(x, **static).item() == pytest.approx(expected, rel=1e-6)
    assert gradcheck(lambda x: quantile_td_loss(x, **static), [x])


def project(reward, discount, p, v_min, v_max):
    """arXiv:1707.06887 Algorithm 1, one atom at a time, with the usual care where l == u."""
    rows, atoms = p.shape
    spacing, out = (v_max - v_min) / (atoms - 1), np.zeros_like(p)
    for b in range(rows):
        for j in range(atoms):
            z = min(max(reward[b] + discount[b] * (v_min + j * spacing), v_min), v_max)
            position = (z - v_min) / spacing
            low, high = math.floor(position), math.ceil(position)
            if low == high:
                out[b, low] += p[b, j]
            else:
                out[b, low] += p[b, j] * (high - position)
                out[b, high] += p[b, j] * (position - low)
    return out


@pytest.mark.parametrize("scale", [0.3, 3.0, 1000.0])
def test_categorical_projection(rng, scale):
    p = rng.dirichlet(np.ones(11), 40)
    reward, discount = rng.normal(size=40) * scale, rng.choice([0.0, 0.9, 1.0], 40)
    reward[:5], discount[:5] = [-2.0, 0.0, 2.0, 1.0, 0.4], 0.0  # exactly on atoms, the ends among them
    found = categorical_projection(reward, discount, p, v_min=-2.0, v_max=2.0, num_atoms=11)
    np.testing.assert_allclose(found, project(reward, discount, p, -2.0, 2.0), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)


def test_categorical_projection_stays_float32(rng):
    p = rng.dirichlet(np.ones(51), 4).astype(np.float32)
    ones = np.ones(4, np.float32)
    found = categorical_projection(ones, 0.99 * ones, p, v_min=-10.0, v_max=10.0, num_atoms=51)
    assert found.dtype == np.float32
    # the mean is shifted exactly where nothing is clipped
    support = np.linspace(-10, 10, 51)
    inside = np.zeros((4, 51), np.float32)
    inside[:, 20:30] = 0.1
    moved = categorical_projection(ones, 0.5 * ones, inside, v_min=-10.0, v_max=10.0, num_atoms=51)
    np.testing.assert_allclose(moved @ support, 1 + 0.5 * (inside @ support), atol=1e-5)


def test_noisy_layer_is_the_matrix_form(rng):
    layer = NoisyLinear(4, 3)
    network = QNetwork(spaces.Box(-1, 1, (4,)), 3, hidden_sizes=(), noisy=True)
    layer = network.q[0]
    e = rng.normal(size=7).astype(np.float32)
    network.set_noise(e)
    f = np.sign(e) * np.sqrt(abs(e))
    weight = layer.weight_mu.array + layer.weight_sigma.array * np.outer(f[4:], f[:4])
    bias = layer.bias_mu.array + layer.bias_sigma.array * f[4:]
    x = rng.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(network(tensor(x)).array, x @ weight.T + bias, rtol=1e-5, atol=1e-6)
    network.set_noise(None)
    means = x @ layer.weight_mu.array.T + layer.bias_mu.array
    np.testing.assert_allclose(network(tensor(x)).array, means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.weight_sigma.array, 0.5 / math.sqrt(4))
    assert repr(layer) == "NoisyLinear(in_features=4, out_features=3)"


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
@pytest.mark.parametrize("atoms", [0, 4])
def test_dueling_network(rng, hidden, atoms):
    network = QNetwork(spaces.Box(-1, 1, (2,)), 3, hidden_sizes=hidden, dueling=True, num_atoms=atoms)
    x = tensor(rng.normal(size=(5, 2)).astype(np.float32))
    q = network(x).array
    assert q.shape == ((5, 3, atoms) if atoms else (5, 3))
    # Q averaged over the actions is the value stream alone
    value = network.value(network.trunk(x)).array
    np.testing.assert_allclose(q.mean(axis=1).ravel(), value.ravel(), rtol=1e-5, atol=1e-6)


def test_linear_schedule():
    assert [linear(1.0, 0.2, 4, t) for t in (0, 1, 4, 9)] == [1.0, 0.8, 0.2, 0.2]
    assert linear(1.0, 0.2, 0, 0) == 0.2


def test_networks_are_deterministic_in_the_seed():
    found = []
    for _ in range(2):
        dynarl.manual_seed(4)
        found.append(QNetwork(spaces.Discrete(3), 2, noisy=True).q[0].weight_mu.array)
    np.testing.assert_array_equal(*found)
