"""Layers, distributions, optimisers and one PPO update on the device under test, against the CPU."""

import numpy as np
import pytest

import dynarl
from dynarl import distributions as D
from dynarl import nn, optim
from dynarl.agents import PPO

F = nn.functional


def close(there, here):
    np.testing.assert_allclose(there.detach().cpu().numpy(), here.detach().numpy(), rtol=1e-4, atol=1e-6)


NETWORKS = {
    "tanh": lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)),
    "relu": lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 2)),
    "others": lambda: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 8), nn.SiLU(), nn.Flatten(), nn.ELU()),
}
OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01),
}


def train(make, optimizer, where):
    """Three clipped steps; the network's parameters after them."""
    dynarl.manual_seed(0)
    network = make()
    x, y = dynarl.randn(16, 4), dynarl.randn(16, 8 if len(list(network)) > 4 else 2)
    network, x, y = network.to(where), x.to(where), y.to(where)
    step = optimizer(network.parameters())
    for _ in range(3):
        step.zero_grad()
        F.mse_loss(network(x), y).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        step.step()
    return list(network.parameters())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_training(network, optimizer, device):
    there, here = (train(NETWORKS[network], OPTIMIZERS[optimizer], where) for where in (device, "cpu"))
    for p, q in zip(there, here):
        assert str(p.device).startswith(device) and p.dtype == dynarl.float32
        close(p, q)


DISTRIBUTIONS = {
    "Normal": lambda x: D.Normal(x, F.softplus(x) + 0.1),
    "Independent": lambda x: D.Independent(D.Normal(x, F.softplus(x) + 0.1), 1),
    "Categorical": lambda x: D.Categorical(logits=x),
    "Bernoulli": lambda x: D.Bernoulli(logits=x),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions(name, device):
    logits = dynarl.randn(6, 3)
    results = []
    for where in (device, "cpu"):
        x = logits.to(where).detach().requires_grad_()
        d, other = DISTRIBUTIONS[name](x), DISTRIBUTIONS[name](x.detach() * 0.5)
        dynarl.manual_seed(1)
        action = d.sample()
        assert str(action.device).startswith(where)
        loss = d.log_prob(action).sum() + d.entropy().sum() + D.kl_divergence(d, other).sum()
        loss.backward()
        results.append((action, loss, x.grad))
    for there, here in zip(*results):
        close(there, here)


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "dynarl/PickLargest-v0", "dynarl/FollowLinks-v0"])
def test_ppo(env, device):
    """The same first fragment and update as on the CPU: same seeds, same steps."""
    settings = {"num_envs": 2, "num_steps": 32, "batch_size": 32, "num_epochs": 2, "seed": 3}
    agents = [PPO(env, device=where, **settings) for where in (device, "cpu")]
    for agent in agents:
        agent.learn(64)
    there, here = (dict(a.policy.named_parameters()) for a in agents)
    assert there.keys() == here.keys()
    for name in here:
        assert str(there[name].device).startswith(device)
        close(there[name], here[name])
    obs = agents[0].actor.encoder.example(2)
    actions = [a.predict(obs, deterministic=True)[0] for a in agents]
    assert type(actions[0]) is type(actions[1])
    np.testing.assert_allclose(*actions, rtol=1e-4, atol=1e-5)
