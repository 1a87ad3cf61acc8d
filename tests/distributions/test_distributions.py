"""Distributions: closed forms, sampling, noise, masks, gradients, errors."""

import math

import numpy as np
import pytest

import dynarl
from dynarl.autograd import gradcheck, gradgradcheck, no_grad
from dynarl.autograd.ops.probability import (
    categorical_entropy,
    categorical_log_prob,
    erfinv,
    invert_cdf,
    normal_entropy,
    normal_log_prob,
    pad_components,
    row_statistics,
)
from dynarl.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    MultiCategorical,
    Normal,
    TanhNormal,
    Uniform,
    kl_divergence,
    register_kl,
)


def double(*shape, seed=0):
    return dynarl.tensor(np.random.default_rng(seed).normal(size=shape)).requires_grad_()


# --- primitives


def test_gradients_of_categorical_operations():
    x, index = double(3, 4), np.array([0, 3, 1])

    def log_prob(logits):
        return categorical_log_prob(logits, index=index, statistics=row_statistics(logits.array))

    def entropy(logits):
        return categorical_entropy(logits, statistics=row_statistics(logits.array))

    for function in (log_prob, entropy):
        assert gradcheck(function, (x,))
        assert gradgradcheck(function, (x,))


def test_gradients_of_normal_log_prob():
    for shapes, dims in ((((5, 3), (5, 3), (3,)), 1), (((2, 5, 3), (5, 1), (3,)), 2), (((5, 3), (5, 3), (5, 3)), 0)):
        x, mean, raw = (double(*s, seed=i) for i, s in enumerate(shapes))

        def function(x, mean, raw, dims=dims):
            return normal_log_prob(x, mean, raw.exp(), dims=dims)

        assert gradcheck(function, (x, mean, raw))
        assert gradgradcheck(function, (x, mean, raw))


def test_gradients_of_normal_entropy():
    for shape, dims, batch in (
        ((3,), 1, (5,)),
        ((5, 3), 1, (5,)),
        ((1, 2, 3), 2, (5,)),
        ((3,), 0, (2, 3)),
        ((1, 3), 1, (5,)),
    ):
        function = lambda raw: normal_entropy(raw.exp(), dims=dims, batch_shape=batch)  # noqa: B023, E731
        assert function(double(*shape)).shape == batch
        assert gradcheck(function, (double(*shape),))
        assert gradgradcheck(function, (double(*shape),))


def test_gradients_of_small_operations():
    y = dynarl.tensor(np.array([-0.9, -0.3, 0.0, 0.5, 0.99])).requires_grad_()
    assert gradcheck(erfinv, (y,), rtol=1e-2)
    assert gradgradcheck(lambda t: erfinv(t * 0.5), (y,))
    columns = np.array([0, 1, 3])
    pad = lambda x: pad_components(x, columns=columns, width=4, fill=0.0)  # noqa: E731
    assert gradcheck(pad, (double(2, 3),))
    assert gradgradcheck(lambda x: pad(x * x), (double(2, 3),))


def test_erfinv_inverts_erf():
    x = np.linspace(-3.5, 3.5, 101)
    y = dynarl.tensor(np.array([math.erf(v) for v in x]))
    np.testing.assert_allclose(erfinv(y).numpy(), x, rtol=1e-8, atol=1e-12)
    assert erfinv(dynarl.tensor([1.0, -1.0])).tolist() == [math.inf, -math.inf]
    assert math.isnan(erfinv(dynarl.tensor(1.5)).item())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inverse_cdf_never_picks_an_impossible_class(dtype):
    weights = np.array([[0, 0.3, 0.7, 0, 0], [0, 0, 0, 0, 3.3], [1, 0, 0, 0, 0], [0, 1e-30, 1, 1e-30, 0]], dtype=dtype)
    for u in (0.0, 1e-40, 0.2999, 0.5, 1 - 2**-24, 1 - 2**-53, 1.0):
        index = invert_cdf(weights, np.full(4, u))
        assert (weights[np.arange(4), index] > 0).all()


# --- closed forms


def test_normal_values():
    d = Normal(1.0, 2.0)
    assert math.isclose(d.log_prob(dynarl.tensor(1.0)).item(), -math.log(2 * math.sqrt(2 * math.pi)), rel_tol=1e-6)
    assert math.isclose(d.entropy().item(), 0.5 * math.log(2 * math.pi * math.e * 4), rel_tol=1e-6)
    assert d.mean.item() == d.mode.item() == d.median.item() == 1.0 and d.variance.item() == 4.0
    assert math.isclose(d.cdf(dynarl.tensor(3.0)).item(), 0.8413447, rel_tol=1e-5)
    assert math.isclose(d.icdf(dynarl.tensor(0.8413447)).item(), 3.0, rel_tol=1e-5)
    many = Independent(Normal(dynarl.zeros(5, 3), dynarl.ones(3)), 1)
    assert many.batch_shape == (5,) and many.event_shape == (3,)
    np.testing.assert_allclose(many.entropy().numpy(), 3 * 0.5 * math.log(2 * math.pi * math.e), rtol=1e-6)
    np.testing.assert_allclose(many.log_prob(dynarl.zeros(5, 3)).numpy(), -1.5 * math.log(2 * math.pi), rtol=1e-6)
    same = Independent(Normal(dynarl.zeros(5, 3), 1.0), 1)
    np.testing.assert_allclose(same.entropy().numpy(), many.entropy().numpy(), rtol=1e-6)
    assert Independent(Normal(dynarl.zeros(5, 3), dynarl.ones(5, 1)), 1).entropy().shape == (5,)
    assert Independent(Normal(dynarl.zeros(2, 5, 3), dynarl.ones(3)), 2).log_prob(dynarl.zeros(2, 5, 3)).shape == (2,)


def test_categorical_values():
    d = Categorical(probs=dynarl.tensor([[1.0, 3.0], [0.0, 5.0]]))
    np.testing.assert_allclose(d.probs.numpy(), [[0.25, 0.75], [0, 1]])
    np.testing.assert_allclose(d.log_prob(dynarl.tensor([1, 1])).numpy(), [math.log(0.75), 0], atol=1e-6)
    h = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    np.testing.assert_allclose(d.entropy().numpy(), [h, 0], atol=1e-5)
    assert d.mode.tolist() == [1, 1] and np.isnan(d.mean.numpy()).all() and np.isnan(d.variance.numpy()).all()
    assert d.enumerate_support().tolist() == [[0, 0], [1, 1]] and d.param_shape == (2, 2)
    assert d.log_prob(d.enumerate_support()).shape == (2, 2)
    assert (d.sample((100,)).numpy()[:, 1] == 1).all()


def test_masked_logits_have_finite_gradients_and_are_never_drawn():
    for mask in (-math.inf, -1e8):
        logits = dynarl.tensor([[0.0, mask, 1.0], [mask, mask, 2.0]]).requires_grad_()
        d = Categorical(logits=logits)
        (d.log_prob(dynarl.tensor([2, 2])) + d.entropy()).sum().backward()
        assert np.isfinite(logits.grad.numpy()).all() and logits.grad.numpy()[1].tolist() == [0, 0, 0]
        p = 1 / (1 + math.e)
        expected = [-(p * math.log(p) + (1 - p) * math.log(1 - p)), 0.0]
        np.testing.assert_allclose(d.entropy().detach().numpy(), expected, atol=1e-6)
        draws = d.sample((500,)).numpy()
        assert (draws[:, 0] != 1).all() and (draws[:, 1] == 2).all()
        b = Bernoulli(logits=dynarl.tensor([mask, -mask]).requires_grad_())
        (b.entropy() + b.log_prob(dynarl.tensor([0.0, 1.0]))).sum().backward()
        assert np.isfinite(b.logits.grad.numpy()).all()
        assert b.entropy().tolist() == [0.0, 0.0] and b.sample().tolist() == [0.0, 1.0]


def test_bernoulli_values():
    d = Bernoulli(dynarl.tensor([0.25, 0.5]))
    assert d.mean.tolist() == [0.25, 0.5] and d.variance.tolist() == [0.1875, 0.25]
    np.testing.assert_allclose(d.log_prob(dynarl.tensor([1.0, 0.0])).numpy(), np.log([0.25, 0.5]), rtol=1e-5)
    assert d.log_prob(dynarl.tensor([True, False])).shape == (2,)
    np.testing.assert_allclose(d.entropy().numpy()[1], math.log(2), rtol=1e-6)
    mode = d.mode.tolist()
    assert mode[0] == 0.0 and math.isnan(mode[1])
    assert Bernoulli(0.3).sample((1000,)).numpy().mean() == pytest.approx(0.3, abs=0.06)
    assert d.enumerate_support().tolist() == [[0, 0], [1, 1]]


def test_tanh_normal_density_integrates_to_one():
    d = TanhNormal(dynarl.tensor(0.5), dynarl.tensor(0.7))
    y = np.tanh(np.linspace(-6, 6, 4001))
    density = np.exp(d.log_prob(dynarl.tensor(y)).numpy())
    assert np.sum((density[1:] + density[:-1]) / 2 * np.diff(y)) == pytest.approx(1.0, abs=1e-4)
    assert d.median.item() == pytest.approx(math.tanh(0.5))
    assert d.cdf(d.icdf(dynarl.tensor(0.3))).item() == pytest.approx(0.3, abs=1e-5)


def test_tanh_normal_keeps_its_sample():
    loc = dynarl.tensor([20.0, -20.0, 0.1]).requires_grad_()
    d = Independent(TanhNormal(loc, dynarl.ones(3)), 1)
    action = d.rsample()
    assert action.tolist()[0] == 1.0  # saturated: atanh would be infinite
    log_prob = d.log_prob(action)
    log_prob.backward()
    assert math.isfinite(log_prob.item()) and np.isfinite(loc.grad.numpy()).all()
    u = 20.0
    exact = 2 * (math.log(2) - u)  # log(1 - tanh^2) far from 0
    far = TanhNormal(20.0, 1.0)
    y = far.sample_from(np.zeros(()))
    assert far.log_prob(y).item() == pytest.approx(-0.5 * math.log(2 * math.pi) - exact, rel=1e-5)
    assert np.isfinite(d.log_prob(dynarl.tensor([1.0, -1.0, 0.0])).item())
    with pytest.raises(NotImplementedError, match="TanhNormal has no entropy in closed form"):
        d.entropy()
    with pytest.raises(NotImplementedError, match="TanhNormal has no mean"):
        _ = d.mean
    np.testing.assert_allclose(d.median.detach().numpy(), np.tanh(loc.detach().numpy()))


def test_multi_categorical_is_a_product():
    logits = dynarl.randn(6, 9).requires_grad_()
    d = MultiCategorical(logits, [2, 4, 3])
    parts = d.components()
    action = d.sample()
    assert action.shape == (6, 3) and d.event_shape == (3,) and d.batch_shape == (6,)
    expected = sum(p.log_prob(action[:, i]) for i, p in enumerate(parts))
    np.testing.assert_allclose(d.log_prob(action).detach().numpy(), expected.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(
        d.entropy().detach().numpy(), sum(p.entropy() for p in parts).detach().numpy(), rtol=1e-5
    )
    assert d.mode.tolist() == [list(m) for m in zip(*(p.mode.tolist() for p in parts))]
    draws = d.sample((500,)).numpy()
    assert (draws.reshape(-1, 3).max(0) < [2, 4, 3]).all()
    (d.log_prob(action) + d.entropy()).sum().backward()
    assert np.isfinite(logits.grad.numpy()).all()
    q = MultiCategorical(dynarl.randn(6, 9), [2, 4, 3])
    split = sum(kl_divergence(a, b) for a, b in zip(parts, q.components()))
    np.testing.assert_allclose(kl_divergence(d, q).detach().numpy(), split.detach().numpy(), rtol=1e-4, atol=1e-6)
    assert d.expand((2, 6)).sample().shape == (2, 6, 3)
    even = MultiCategorical(dynarl.zeros(4, 6), [3, 3])
    np.testing.assert_allclose(even.entropy().numpy(), 2 * math.log(3), rtol=1e-6)


def test_uniform_values():
    d = Uniform(dynarl.tensor([0.0, 1.0]), 3.0)
    assert d.mean.tolist() == [1.5, 2.0] and d.median.tolist() == [1.5, 2.0]
    np.testing.assert_allclose(d.variance.numpy(), [0.75, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(d.stddev.numpy() ** 2, d.variance.numpy(), rtol=1e-6)
    assert d.log_prob(dynarl.tensor([0.5, 0.5])).tolist()[1] == -math.inf
    np.testing.assert_allclose(d.entropy().numpy(), np.log([3, 2]), rtol=1e-6)
    assert d.cdf(dynarl.tensor([5.0, 2.0])).tolist() == [1.0, 0.5]
    assert d.icdf(dynarl.tensor(0.5)).tolist() == [1.5, 2.0]
    sample = d.sample((1000,)).numpy()
    assert (sample >= [0, 1]).all() and (sample < 3).all()


# --- sampling


def distributions():
    return [
        Normal(dynarl.zeros(4, 2), dynarl.ones(2)),
        Independent(Normal(dynarl.zeros(4, 2), dynarl.ones(2)), 1),
        TanhNormal(dynarl.zeros(4, 2), dynarl.ones(4, 2)),
        Uniform(dynarl.zeros(4), 1.0),
        Categorical(logits=dynarl.zeros(4, 3)),
        Bernoulli(logits=dynarl.zeros(4, 2)),
        MultiCategorical(dynarl.zeros(4, 5), [2, 3]),
    ]


@pytest.mark.parametrize("d", distributions(), ids=lambda d: type(d).__name__)
def test_shapes_noise_and_expand(d):
    shape = d.batch_shape + d.event_shape
    assert d.sample().shape == shape and d.sample((7, 2)).shape == (7, 2, *shape)
    assert d.log_prob(d.sample()).shape == d.batch_shape
    assert d.log_prob(d.sample((7,))).shape == (7, *d.batch_shape)
    kind, k = d.noise
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, k)) if kind == "normal" else rng.random((4, k))
    first, second = d.sample_from(noise), d.sample_from(dynarl.tensor(noise))
    np.testing.assert_array_equal(first.numpy(), second.numpy())
    assert first.shape == shape and first.dtype == d.sample().dtype
    alone = [d.sample_from(np.where(np.arange(4)[:, None] == i, noise, 0.5)).numpy()[i] for i in range(4)]
    np.testing.assert_array_equal(first.numpy(), np.stack(alone))  # a row depends on its own noise only
    with pytest.raises(ValueError, match=rf"takes {k} {kind} numbers per row, got noise of shape \(4, {k + 1}\)"):
        d.sample_from(np.zeros((4, k + 1)))
    wide = d.expand((3, *d.batch_shape))
    assert wide.batch_shape == (3, *d.batch_shape) and wide.sample().shape == (3, *shape)
    assert wide.log_prob(wide.sample()).shape == wide.batch_shape
    if d.has_rsample:
        assert d.rsample((2,)).shape == (2, *shape)
    else:
        with pytest.raises(NotImplementedError, match=r"has no reparameterised sample: use sample\(\)"):
            d.rsample()
    assert type(d).__name__ in repr(d)


def test_statistics_of_samples():
    dynarl.manual_seed(0)
    draws = Normal(dynarl.tensor([1.0, -2.0]), dynarl.tensor([0.5, 3.0])).sample((20_000,)).numpy()
    np.testing.assert_allclose(draws.mean(0), [1, -2], atol=0.1)
    np.testing.assert_allclose(draws.std(0), [0.5, 3], rtol=0.03)
    p = np.array([0.1, 0.6, 0.3])
    draws = Categorical(logits=dynarl.tensor(np.log(p))).sample((20_000,)).numpy()
    np.testing.assert_allclose(np.bincount(draws) / len(draws), p, atol=0.02)


def test_samples_follow_the_seed():
    def draw():
        dynarl.manual_seed(5)
        return [d.sample().tolist() for d in distributions()]

    assert draw() == draw()


def test_gradients_through_samples():
    loc, log_std = dynarl.zeros(3).requires_grad_(), dynarl.zeros(3).requires_grad_()
    noise = np.array([0.5, -1.0, 2.0])
    d = Normal(loc, log_std.exp())
    assert not d.sample().requires_grad
    d.sample_from(noise).sum().backward()
    np.testing.assert_allclose(loc.grad.numpy(), 1)
    np.testing.assert_allclose(log_std.grad.numpy(), noise, rtol=1e-6)
    with no_grad():
        assert not d.sample_from(noise).requires_grad


def test_score_function_gradient():
    logits = dynarl.zeros(2, 3).requires_grad_()
    Categorical(logits=logits).log_prob(dynarl.tensor([0, 2])).sum().backward()
    np.testing.assert_allclose(logits.grad.numpy(), np.eye(3)[[0, 2]] - 1 / 3, rtol=1e-6)


# --- errors


def test_parameter_errors():
    with pytest.raises(
        ValueError,
        match=r"(?s)Expected parameter scale \(Tensor of shape \(2,\)\) of distribution "
        r"Normal\(loc: \(2,\), scale: \(2,\)\) to satisfy the constraint GreaterThan.*"
        r"invalid values:\n\[-1\.\]",
    ):
        Normal(dynarl.zeros(2), dynarl.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match=r"parameter loc .* Real\(\)"):
        Normal(math.nan, 1.0)
    with pytest.raises(ValueError, match=r"(?s)parameter logits .*Real\(\).*nan"):
        Categorical(logits=dynarl.tensor([0.0, math.nan]))
    with pytest.raises(ValueError, match=r"parameter probs .* Simplex"):
        Categorical(probs=dynarl.tensor([0.5, -0.5]))
    with pytest.raises(ValueError, match=r"parameter probs .* Simplex"):
        Categorical(probs=dynarl.tensor([[0.5, 0.5], [0.0, 0.0]]))
    with pytest.raises(ValueError, match=r"parameter probs .* Interval"):
        Bernoulli(2.0)
    with pytest.raises(ValueError, match="Either `probs` or `logits` must be specified, but not both"):
        Categorical()
    with pytest.raises(ValueError, match="Either `probs` or `logits`"):
        Bernoulli(dynarl.zeros(1), dynarl.zeros(1))
    with pytest.raises(ValueError, match="`logits` parameter must be at least one-dimensional"):
        Categorical(logits=dynarl.tensor(1.0))
    with pytest.raises(ValueError, match="Uniform is not defined when low>= high"):
        Uniform(1.0, 1.0)
    with pytest.raises(ValueError, match="Input arguments must all be numbers or Tensors, got str"):
        Normal(dynarl.zeros(1), "1")
    with pytest.raises(ValueError, match=r"Expected reinterpreted_batch_ndims <= .*actual 2 vs 1"):
        Independent(Normal(dynarl.zeros(3), 1.0), 2)
    with pytest.raises(ValueError, match=r"logits must end in sum\(nvec\) = 5 columns"):
        MultiCategorical(dynarl.zeros(4), [2, 3])
    with pytest.raises(ValueError, match="nvec must hold at least one count"):
        MultiCategorical(dynarl.zeros(0), [])


def test_value_errors():
    with pytest.raises(ValueError, match=r"(?s)within the support \(Real\(\)\) of the distribution Normal.*nan"):
        Normal(0.0, 1.0).log_prob(dynarl.tensor(math.nan))
    with pytest.raises(ValueError, match=r"(?s)IntegerInterval\(lower_bound=0, upper_bound=2\)\).*\[3\]"):
        Categorical(logits=dynarl.zeros(2, 3)).log_prob(dynarl.tensor([0, 3]))
    with pytest.raises(ValueError, match="IntegerInterval"):
        Categorical(logits=dynarl.zeros(2, 3)).log_prob(dynarl.tensor([0, -1]))
    with pytest.raises(ValueError, match=r"Boolean\(\)"):
        Bernoulli(0.5).log_prob(dynarl.tensor(0.3))
    with pytest.raises(ValueError, match="Interval"):
        Normal(0.0, 1.0).icdf(dynarl.tensor(1.5))
    with pytest.raises(ValueError, match="Interval"):
        TanhNormal(0.0, 1.0).log_prob(dynarl.tensor(1.5))


def test_validation_can_be_switched_off():
    Normal(0.0, -1.0, validate_args=False)
    Distribution.set_default_validate_args(False)
    try:
        Normal(0.0, -1.0)
        Categorical(logits=dynarl.tensor([math.nan]))
    finally:
        Distribution.set_default_validate_args(True)
    with pytest.raises(ValueError, match="set_default_validate_args: expected True or False"):
        Distribution.set_default_validate_args("no")


def test_what_is_missing_says_so():
    d = Uniform(0.0, 1.0)
    with pytest.raises(NotImplementedError, match="Uniform has no mode"):
        _ = d.mode
    with pytest.raises(NotImplementedError, match="Uniform has no finite support"):
        d.enumerate_support()
    with pytest.raises(NotImplementedError, match="Categorical has no cdf"):
        Categorical(logits=dynarl.zeros(2)).cdf(dynarl.tensor(0))
    with pytest.raises(NotImplementedError, match="Enumeration over cartesian product"):
        Independent(Bernoulli(dynarl.zeros(2)), 1).enumerate_support()


# --- divergences


def test_kl_values():
    p, q = Normal(0.0, 1.0), Normal(1.0, 2.0)
    assert kl_divergence(p, q).item() == pytest.approx(math.log(2) + 2 / 8 - 0.5)
    assert kl_divergence(TanhNormal(0.0, 1.0), TanhNormal(1.0, 2.0)).item() == pytest.approx(kl_divergence(p, q).item())
    sure, half = Categorical(probs=dynarl.tensor([1.0, 0.0])), Categorical(probs=dynarl.tensor([0.5, 0.5]))
    assert kl_divergence(sure, half).item() == pytest.approx(math.log(2), rel=1e-5)
    assert kl_divergence(half, sure).item() == math.inf
    masked = Categorical(logits=dynarl.tensor([0.0, -math.inf]).requires_grad_())
    kl = kl_divergence(masked, Categorical(logits=dynarl.tensor([1.0, -math.inf])))
    kl.backward()
    assert kl.item() == pytest.approx(0.0, abs=1e-6) and np.isfinite(masked._given.grad.numpy()).all()
    assert kl_divergence(Uniform(0.0, 1.0), Uniform(-1.0, 3.0)).item() == pytest.approx(math.log(4))
    assert kl_divergence(Uniform(0.0, 2.0), Uniform(0.0, 1.0)).item() == math.inf
    wide = [Independent(Normal(dynarl.zeros(4, 3), 1.0), 1), Independent(Normal(dynarl.ones(4, 3), 2.0), 1)]
    np.testing.assert_allclose(kl_divergence(*wide).numpy(), 3 * kl_divergence(p, q).item(), rtol=1e-6)


def test_kl_registry():
    class Odd(Normal):
        pass

    assert kl_divergence(Odd(0.0, 1.0), Normal(0.0, 1.0)).item() == 0.0
    register_kl(Odd, Odd)(lambda p, q: dynarl.tensor(7.0))
    assert kl_divergence(Odd(0.0, 1.0), Odd(0.0, 1.0)).item() == 7.0
    with pytest.raises(NotImplementedError, match="p type Normal and q type Uniform"):
        kl_divergence(Normal(0.0, 1.0), Uniform(0.0, 1.0))
    with pytest.raises(TypeError, match="Expected type_q to be a Distribution subclass"):
        register_kl(Normal, int)
    with pytest.raises(NotImplementedError, match="same reinterpreted_batch_ndims, got 1 and 0"):
        kl_divergence(Independent(Normal(dynarl.zeros(2), 1.0), 1), Independent(Normal(dynarl.zeros(2), 1.0), 0))
    with pytest.raises(ValueError, match="both MultiCategorical need one nvec"):
        kl_divergence(MultiCategorical(dynarl.zeros(5), [2, 3]), MultiCategorical(dynarl.zeros(5), [3, 2]))
