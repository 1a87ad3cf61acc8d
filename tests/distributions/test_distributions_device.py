"""Distributions off the CPU: on the strict stand-in, or on a GPU with --device cuda."""

import numpy as np
import pytest

import dynarl
from dynarl.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MultiCategorical,
    Normal,
    TanhNormal,
    Uniform,
    kl_divergence,
)

BUILDERS = {
    "normal": lambda x: Independent(Normal(x, x.exp()), 1),
    "tanh normal": lambda x: Independent(TanhNormal(x, x.exp()), 1),
    "categorical": lambda x: Categorical(logits=x),
    "probs": lambda x: Categorical(probs=x.exp()),
    "bernoulli": lambda x: Independent(Bernoulli(logits=x), 1),
    "multi": lambda x: MultiCategorical(x, [2, 1, 3]),
    "uniform": lambda x: Uniform(x, x + 1),
}


def host(t):
    return t.detach().cpu().numpy()


@pytest.mark.parametrize("name", BUILDERS)
def test_agrees_with_the_cpu(device, name):
    raw = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    results = []
    for where in ("cpu", device):
        x = dynarl.tensor(raw).to(where).requires_grad_()
        d, q = BUILDERS[name](x), BUILDERS[name](x.detach() * 0 + 0.1)
        noise = np.random.default_rng(1).random((5, d.noise[1])).astype(np.float32)
        action = d.sample_from(dynarl.tensor(noise).to(where).array)
        assert action.device == where and d.sample((2,)).device == where
        log_prob = d.log_prob(action.detach())
        total = log_prob.sum()
        values = [host(action), host(log_prob)]
        if name != "tanh normal":
            total = total + d.entropy().sum()
            values.append(host(d.entropy()))
        if name != "uniform":
            total = total + kl_divergence(d, q).sum()
        total.backward()
        results.append([*values, host(x.grad)])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_errors_on_a_device(device):
    with pytest.raises(ValueError, match="parameter scale"):
        Normal(dynarl.zeros(2, device=device), dynarl.tensor([1.0, -1.0], device=device))
    with pytest.raises(ValueError, match="IntegerInterval"):
        Categorical(logits=dynarl.zeros(2, 3, device=device)).log_prob(dynarl.tensor([0, 3], device=device))
