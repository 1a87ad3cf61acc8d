"""SAC's densities, losses and critics against closed forms, torch, and one critic at a time."""

import math

import numpy as np
import pytest

import dynarl
from dynarl.agents.sac.critics import Critics
from dynarl.agents.sac.losses import critic_loss, discrete_policy_loss, policy_loss, soft_td_target
from dynarl.agents.sac.squashed import CategoricalActor, Gaussian, SquashedActor, reparametrized, squashed_log_prob
from dynarl.autograd import gradcheck, gradgradcheck
from dynarl.autograd.ops.affine import linear
from dynarl.distributions import Normal, StateDependentNormal, TanhNormal
from dynarl.distributions.state_dependent import marginal_log_std

RNG = np.random.default_rng(0)


def leaf(*shape, scale=1.0):
    return dynarl.tensor(RNG.normal(size=shape) * scale).requires_grad_()


def test_log_prob_is_the_closed_form():
    """log N(u) - sum log(1 - tanh(u)^2), and TanhNormal's own of the same sample."""
    mean, log_std, noise = leaf(6, 3), leaf(6, 3, scale=0.3), RNG.normal(size=(6, 3))
    action, log_prob = Gaussian(mean, log_std).sample(noise)
    u = mean.detach().numpy() + np.exp(log_std.detach().numpy()) * noise
    gaussian = -0.5 * noise**2 - log_std.detach().numpy() - 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(action.detach(), np.tanh(u), atol=1e-12)
    np.testing.assert_allclose(log_prob.detach(), (gaussian - np.log1p(-(np.tanh(u) ** 2))).sum(-1), atol=1e-9)
    squashed = TanhNormal(mean, log_std.exp())
    sample = squashed.sample_from(noise)
    np.testing.assert_allclose(squashed.log_prob_sum(sample, 1).detach(), log_prob.detach(), atol=1e-9)


def test_log_prob_and_its_gradient_against_torch():
    torch = pytest.importorskip("torch")
    mean, log_std, noise = leaf(6, 3), leaf(6, 3, scale=0.3), RNG.normal(size=(6, 3))
    action, log_prob = Gaussian(mean, log_std).sample(noise)
    (action.sum() + log_prob.sum()).backward()
    m, s = (torch.tensor(t.detach().numpy(), requires_grad=True) for t in (mean, log_std))
    base = torch.distributions.Normal(m, s.exp())
    squash = torch.distributions.TransformedDistribution(base, torch.distributions.TanhTransform(cache_size=1))
    u = m + s.exp() * torch.tensor(noise)
    a = squash.transforms[0](u)
    expected = squash.log_prob(a).sum(-1)
    (a.sum() + expected.sum()).backward()
    np.testing.assert_allclose(log_prob.detach(), expected.detach(), atol=1e-9)
    np.testing.assert_allclose(mean.grad, m.grad, atol=1e-9)
    np.testing.assert_allclose(log_std.grad, s.grad, atol=1e-9)


def test_log_prob_is_exact_where_the_action_rounds_to_one():
    u = dynarl.tensor([[30.0]])
    found = squashed_log_prob(u, dynarl.zeros(1, 1), noise=np.zeros((1, 1), np.float32)).item()
    # log(1 - tanh(u)^2) -> log 4 - 2u
    assert found == pytest.approx(-0.5 * math.log(2 * math.pi) - math.log(4.0) + 60.0, rel=1e-6)


def test_the_density_integrates_to_one():
    grid = np.linspace(-1 + 1e-7, 1 - 1e-7, 400_001)
    u = np.arctanh(grid)[:, None]
    mean, std = 0.3, 0.8
    noise = (u - mean) / std
    density = np.exp(squashed_log_prob(dynarl.tensor(u), dynarl.tensor(np.full_like(u, math.log(std))), noise=noise))
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=1e-4)


def test_gradients():
    mean, log_std, noise = leaf(4, 2), leaf(4, 2, scale=0.3), RNG.normal(size=(4, 2))
    q, log_prob = leaf(3, 5), leaf(5)
    checks = [
        (lambda m, s: reparametrized(m, s, noise=noise), (mean, log_std)),
        (lambda m, s: squashed_log_prob(m, s, noise=noise), (mean, log_std)),
        (lambda x: critic_loss(x, td_target=RNG.normal(size=5) * 0 + 0.3), (q,)),
        (lambda x, y: policy_loss(x, y, alpha=0.7), (q, log_prob)),
    ]
    for function, operands in checks:
        assert gradcheck(function, operands)
        assert gradgradcheck(function, operands)


def test_losses_by_brute_force():
    q, log_prob, y = RNG.normal(size=(3, 5)), RNG.normal(size=5), RNG.normal(size=5)
    expected = sum(0.5 * ((q[i] - y) ** 2).mean() for i in range(3))
    assert critic_loss(dynarl.tensor(q), td_target=y).item() == pytest.approx(expected)
    expected = np.mean([0.7 * log_prob[b] - min(q[:, b]) for b in range(5)])
    assert policy_loss(dynarl.tensor(q), dynarl.tensor(log_prob), alpha=0.7).item() == pytest.approx(expected)
    np.testing.assert_allclose(soft_td_target(np.array([1.0, 2.0]), np.array([0.9, 0.0]), np.full(2, 5.0)), [5.5, 2.0])


def test_tied_critics_pass_the_gradient_once():
    q = dynarl.ones(2, 3).requires_grad_()
    policy_loss(q, dynarl.zeros(3), alpha=1.0).backward()
    np.testing.assert_allclose(q.grad.numpy(), [[-1 / 3] * 3, [0.0] * 3], rtol=1e-6)


def test_discrete_loss_is_the_expectation_over_actions():
    logits, q = leaf(4, 3), RNG.normal(size=(2, 4, 3))
    log_prob = dynarl.log_softmax(logits, -1)
    found = discrete_policy_loss(log_prob, dynarl.tensor(q), alpha=0.3)
    p = np.exp(log_prob.detach().numpy())
    total = 0.0
    for b in range(4):
        for a in range(3):
            total += p[b, a] * (0.3 * math.log(p[b, a]) - min(q[0, b, a], q[1, b, a]))
    assert found.item() == pytest.approx(total / 4)
    assert gradcheck(lambda x: discrete_policy_loss(dynarl.log_softmax(x, -1), dynarl.tensor(q), alpha=0.3), (logits,))


@pytest.mark.parametrize("num_critics", [1, 2, 5])
@pytest.mark.parametrize("hidden_sizes", [(), (16,), (16, 8)])
def test_batched_critics_equal_separate_ones(num_critics, hidden_sizes):
    critics = Critics(5, 1, hidden_sizes=hidden_sizes, num_critics=num_critics)
    obs, action = dynarl.randn(7, 3), dynarl.randn(7, 2)
    critics(obs, action).sum().backward()
    for c in range(num_critics):
        own = [p.detach()[c].clone().requires_grad_() for p in critics.parameters()]
        x = dynarl.cat((obs, action), -1)
        for i in range(len(hidden_sizes) + 1):
            x = linear(x, own[2 * i], own[2 * i + 1], activation="relu" if i < len(hidden_sizes) else None)
        x.sum().backward()
        np.testing.assert_allclose(critics(obs, action)[c].detach(), x.detach(), rtol=1e-5, atol=1e-6)
        for together, alone in zip(critics.parameters(), own):
            np.testing.assert_allclose(together.grad[c], alone.grad, rtol=1e-4, atol=1e-5)


def test_frozen_critics_pass_the_gradient_on_and_keep_none():
    critics = Critics(5, 1, hidden_sizes=(16,))
    obs, action = dynarl.randn(7, 3), dynarl.randn(7, 2).requires_grad_()
    critics(obs, action, frozen=True).sum().backward()
    frozen = action.grad.numpy().copy()
    assert all(p.grad is None for p in critics.parameters())
    action.grad = None
    critics(obs, action).sum().backward()
    np.testing.assert_allclose(action.grad, frozen, rtol=1e-6)
    assert all(p.grad is not None for p in critics.parameters())


def test_critics_start_as_linear_layers_do():
    critics = Critics(100, 1, hidden_sizes=(50,), num_critics=2)
    first = critics.weight_0.detach().numpy()
    assert np.abs(first).max() <= 0.1 and first.std() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)
    assert not np.allclose(first[0], first[1])
    with pytest.raises(ValueError, match="num_critics: must be at least 1, got 0"):
        Critics(3, 1, num_critics=0)
    with pytest.raises(ValueError, match=r"activation: must be one of \['relu', 'tanh'\], got 'silu'"):
        Critics(3, 1, activation="silu")


def test_log_std_is_clamped():
    actor = SquashedActor(3, 2, hidden_sizes=(8,), log_std_min=-20.0, log_std_max=2.0)
    actor.head.bias.data[2] = 100.0
    actor.head.bias.data[3] = -100.0
    log_std = actor(dynarl.zeros(1, 3)).log_std.detach().numpy()
    np.testing.assert_allclose(log_std, [[2.0, -20.0]])


# -- state-dependent exploration ----------------------------------------------------------------------------------


def test_sde_noise_has_the_marginal_that_its_log_prob_says():
    features, log_std = dynarl.rand(3, 8), dynarl.randn(8, 2) * 0.3 - 1.0
    loc = dynarl.randn(3, 2)
    distribution = StateDependentNormal(loc, features, log_std)
    assert distribution.noise == ("normal", 16)
    draws = np.stack([distribution.sample_from(RNG.normal(size=(3, 16)).astype(np.float32)) for _ in range(4000)])
    std = np.exp(marginal_log_std(features, log_std))
    np.testing.assert_allclose(draws.mean(0), loc, atol=4 * std.max() / math.sqrt(4000))
    np.testing.assert_allclose(draws.std(0), std, rtol=0.06)
    np.testing.assert_allclose(std, np.sqrt((features.numpy() ** 2) @ np.exp(2 * log_std.numpy()) + 1e-6), rtol=1e-5)
    value = dynarl.randn(3, 2)
    expected = Normal(loc, dynarl.tensor(std)).log_prob(value).sum(-1)
    np.testing.assert_allclose(distribution.log_prob(value), expected, rtol=1e-5)
    np.testing.assert_allclose(distribution.entropy(), Normal(loc, dynarl.tensor(std)).entropy().sum(-1), rtol=1e-5)


def test_sde_noise_is_a_function_of_the_state():
    """One matrix: equal states get equal noise, and noise is linear in the features."""
    log_std, noise = dynarl.zeros(4, 2), RNG.normal(size=(1, 8)).astype(np.float32)
    h = dynarl.rand(1, 4)
    one = StateDependentNormal(dynarl.zeros(1, 2), h, log_std).sample_from(noise)
    again = StateDependentNormal(dynarl.zeros(1, 2), h, log_std).sample_from(noise)
    twice = StateDependentNormal(dynarl.zeros(1, 2), h * 2, log_std).sample_from(noise)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_allclose(twice, one * 2, rtol=1e-6)
    np.testing.assert_allclose(one, h.numpy() @ noise.reshape(4, 2), rtol=1e-6)


def test_sde_gradient_reaches_log_std_but_not_the_features():
    features, log_std = dynarl.rand(3, 4).requires_grad_(), dynarl.zeros(4, 2).requires_grad_()
    distribution = StateDependentNormal(dynarl.zeros(3, 2), features, log_std)
    distribution.log_prob(dynarl.ones(3, 2)).sum().backward()
    assert features.grad is None and np.abs(log_std.grad.numpy()).min() > 0


def test_sde_errors():
    with pytest.raises(ValueError, match=r"loc must be \[B, A\], features \[B, H\] and log_std \[H, A\]"):
        StateDependentNormal(dynarl.zeros(3, 2), dynarl.zeros(3, 4), dynarl.zeros(2, 4))
    distribution = StateDependentNormal(dynarl.zeros(3, 2), dynarl.zeros(3, 4), dynarl.zeros(4, 2))
    with pytest.raises(ValueError, match="takes 8 normal numbers for each of 3 rows"):
        distribution.sample_from(np.zeros((3, 4), np.float32))
    with pytest.raises(NotImplementedError, match="call sample_from with the noise"):
        distribution.sample()


def test_categorical_actor_draws_with_its_probabilities():
    actor = CategoricalActor(3, 4, hidden_sizes=(8,))
    obs = dynarl.zeros(20_000, 3)
    drawn = actor.explore(obs, RNG.random((20_000, 1), np.float32))
    expected = np.exp(actor(obs[:1]).detach().numpy())[0]
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 20_000, expected, atol=0.015)
    assert actor.mode(obs[:1])[0] == expected.argmax()
