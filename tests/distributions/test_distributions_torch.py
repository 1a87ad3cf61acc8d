"""Distributions against torch.distributions: values, gradients, divergences, errors."""

import numpy as np
import pytest

import dynarl
from dynarl import distributions as D

torch = pytest.importorskip("torch")
T = torch.distributions
rng = np.random.default_rng(1)


def array(*shape):
    return rng.normal(size=shape).astype(np.float32)


def close(ours, theirs, rtol=2e-5, atol=3e-6):
    assert tuple(ours.shape) == tuple(theirs.shape)
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=rtol, atol=atol)


def tanh_normal(d, loc, scale):
    if d is D:
        return D.TanhNormal(loc, scale)
    return T.TransformedDistribution(T.Normal(loc, scale), T.TanhTransform(cache_size=1))


def normal(d, loc, scale):
    return d.Normal(loc, scale)


def independent(dims, base=normal):
    return lambda d, loc, log_scale: d.Independent(base(d, loc, log_scale.exp()), dims)


ACTIONS = np.array([0, 2, 1, 2, 0])
BITS = (array(5, 3) > 0).astype(np.float32)
LOGITS = array(5, 3)
MASKED = LOGITS.copy()
MASKED[:, 1] = -1e8
MASKED_ACTIONS = np.array([0, 2, 0, 2, 0])
PROBS = np.exp(array(5, 3))

# name, builder from (package, tensors), parameter arrays (raw: scales pass through exp), value
CASES = [
    ("normal", lambda d, loc, s: d.Normal(loc, s.exp()), (array(5, 3), array(5, 3)), array(5, 3)),
    ("normal shared scale", lambda d, loc, s: d.Normal(loc, s.exp()), (array(5, 3), array(3)), array(5, 3)),
    ("normal value broadcasts", lambda d, loc, s: d.Normal(loc, s.exp()), (array(3), array(3)), array(5, 3)),
    ("independent", independent(1), (array(5, 3), array(3)), array(5, 3)),
    ("independent rows", independent(1), (array(5, 3), array(5, 1)), array(5, 3)),
    ("independent 2", independent(2), (array(2, 5, 3), array(3)), array(2, 5, 3)),
    ("categorical logits", lambda d, x: d.Categorical(logits=x), (LOGITS,), ACTIONS),
    ("categorical masked", lambda d, x: d.Categorical(logits=x), (MASKED,), MASKED_ACTIONS),
    ("categorical probs", lambda d, x: d.Categorical(probs=x), (PROBS,), ACTIONS),
    ("categorical broadcast", lambda d, x: d.Categorical(logits=x), (LOGITS,), np.array([[0] * 5, [2] * 5])),
    ("categorical 3d", lambda d, x: d.Categorical(logits=x), (array(2, 5, 3),), np.stack([ACTIONS, ACTIONS[::-1]])),
    ("bernoulli logits", lambda d, x: d.Bernoulli(logits=x), (array(5, 3),), BITS),
    ("bernoulli probs", lambda d, x: d.Bernoulli(probs=x.sigmoid()), (array(5, 3),), BITS),
    ("bernoulli independent", lambda d, x: d.Independent(d.Bernoulli(logits=x), 1), (array(5, 3),), BITS),
    ("uniform", lambda d, a, w: d.Uniform(a, a + w.exp()), (array(5, 3) - 9, array(5, 3) + 5), array(5, 3)),
    ("tanh normal", lambda d, m, s: tanh_normal(d, m, s.exp()), (array(5, 3), array(5, 3)), np.tanh(array(5, 3))),
    ("tanh normal independent", independent(1, tanh_normal), (array(5, 3), array(3)), np.tanh(array(5, 3))),
]  # fmt: skip


def build(make, arrays):
    ours_p = [dynarl.tensor(a).requires_grad_() for a in arrays]
    theirs_p = [torch.tensor(a, requires_grad=True) for a in arrays]
    return make(D, *ours_p), make(T, *theirs_p), ours_p, theirs_p


def compare_gradients(ours, theirs, ours_p, theirs_p):
    weight = array(*ours.shape)
    (ours * dynarl.tensor(weight)).sum().backward()
    (theirs * torch.tensor(weight)).sum().backward()
    for a, b in zip(ours_p, theirs_p):
        if b.grad is None:
            assert a.grad is None or not np.abs(a.grad.numpy()).any()
        else:
            close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
            b.grad = None
        a.grad = None


@pytest.mark.parametrize(("name", "make", "arrays", "value"), CASES, ids=[c[0] for c in CASES])
def test_log_prob_entropy_moments(name, make, arrays, value):
    ours, theirs, ours_p, theirs_p = build(make, arrays)
    assert tuple(ours.batch_shape) == tuple(theirs.batch_shape)
    assert tuple(ours.event_shape) == tuple(theirs.event_shape)
    assert ours.has_rsample == theirs.has_rsample
    a, b = ours.log_prob(dynarl.tensor(value)), theirs.log_prob(torch.tensor(value))
    close(a, b)
    compare_gradients(a, b, ours_p, theirs_p)
    if "tanh" in name:
        with pytest.raises(NotImplementedError):
            theirs.entropy()
        return
    ours, theirs, ours_p, theirs_p = build(make, arrays)
    a, b = ours.entropy(), theirs.entropy()
    close(a, b)
    compare_gradients(a, b, ours_p, theirs_p)
    for attribute in ("mean", "variance", "stddev", "mode"):
        if not (attribute == "mode" and "uniform" in name):
            close(getattr(ours, attribute), getattr(theirs, attribute))
    if "independent" not in name and "masked" not in name:
        for attribute in ("loc", "scale", "probs", "logits", "low", "high"):
            if hasattr(theirs, attribute):
                close(getattr(ours, attribute), getattr(theirs, attribute), rtol=1e-4)
    if hasattr(theirs, "has_enumerate_support") and theirs.has_enumerate_support and "independent" not in name:
        for expand in (True, False):
            close(ours.enumerate_support(expand), theirs.enumerate_support(expand))
    wide = ours.expand((4, *ours.batch_shape))
    wide_theirs = theirs.expand((4, *theirs.batch_shape))
    if value.shape[: value.ndim - len(ours.event_shape)] == ours.batch_shape:
        close(wide.log_prob(dynarl.tensor(value)), wide_theirs.log_prob(torch.tensor(value)))


def test_log_prob_of_a_value_that_needs_grad():
    x = array(5, 3)
    for make, arrays in ((CASES[3][1], CASES[3][2]), (CASES[-1][1], CASES[-1][2])):
        ours, theirs, _, _ = build(make, arrays)
        a, b = dynarl.tensor(np.tanh(x)).requires_grad_(), torch.tensor(np.tanh(x), requires_grad=True)
        ours.log_prob(a).sum().backward()
        theirs.log_prob(b).sum().backward()
        close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


def test_cdf_and_icdf():
    for name, make, arrays, value in CASES:
        if name in ("normal", "uniform", "tanh normal"):
            ours, theirs, _, _ = build(make, arrays)
            close(ours.cdf(dynarl.tensor(value)), theirs.cdf(torch.tensor(value)), atol=1e-5)
            p = rng.random((5, 3)).astype(np.float32)
            close(ours.icdf(dynarl.tensor(p)), theirs.icdf(torch.tensor(p)), rtol=1e-4, atol=1e-5)


def test_reparameterised_sample_has_torchs_gradient():
    loc, log_std, z = array(6, 2) * 3, array(2), array(6, 2)
    ours_p = [dynarl.tensor(loc).requires_grad_(), dynarl.tensor(log_std).requires_grad_()]
    theirs_p = [torch.tensor(loc, requires_grad=True), torch.tensor(log_std, requires_grad=True)]
    ours = D.Independent(D.TanhNormal(ours_p[0], ours_p[1].exp()), 1)
    a = ours.sample_from(z)
    u = theirs_p[0] + theirs_p[1].exp() * torch.tensor(z)
    transform = T.TanhTransform()
    b = torch.tanh(u)
    log_b = (T.Normal(theirs_p[0], theirs_p[1].exp()).log_prob(u) - transform.log_abs_det_jacobian(u, b)).sum(-1)
    log_a = ours.log_prob(a)
    close(a, b)
    close(log_a, log_b, rtol=1e-4, atol=1e-4)
    (log_a - a.sum(-1)).sum().backward()
    (log_b - b.sum(-1)).sum().backward()
    for x, y in zip(ours_p, theirs_p):
        close(x.grad, y.grad, rtol=1e-3, atol=1e-4)


DIVERGENCES = ["normal", "independent", "categorical logits", "categorical masked", "categorical probs"]
DIVERGENCES += ["bernoulli logits", "bernoulli probs", "uniform", "tanh normal"]


@pytest.mark.parametrize("name", DIVERGENCES)
def test_kl(name):
    make, arrays = next((m, a) for n, m, a, _ in CASES if n == name)
    other = tuple(a + np.float32(0.3) * np.abs(array(*a.shape)) for a in arrays)
    p, p_t, ours_p, theirs_p = build(make, arrays)
    q, q_t, ours_q, theirs_q = build(make, other)
    if name == "tanh normal":  # torch compares the transforms' caches too
        q_t = T.TransformedDistribution(q_t.base_dist, p_t.transforms)
    a, b = D.kl_divergence(p, q), T.kl_divergence(p_t, q_t)
    close(a, b, rtol=1e-4, atol=1e-5)
    if name != "uniform":
        compare_gradients(a, b, ours_p + ours_q, theirs_p + theirs_q)


def test_parameters_and_samples_have_torchs_dtypes():
    for loc, scale in ((0.0, 1.0), (0, 1), (np.float64(0.5), 2.0)):
        assert str(T.Normal(loc, scale).sample().dtype) == f"torch.{D.Normal(loc, scale).sample().dtype}"
    ours = D.Normal(dynarl.zeros(3, dtype=dynarl.float64), 1.0)
    theirs = T.Normal(torch.zeros(3, dtype=torch.float64), 1.0)
    assert str(theirs.sample().dtype) == f"torch.{ours.sample().dtype}"
    assert str(theirs.log_prob(torch.zeros(3)).dtype) == f"torch.{ours.log_prob(dynarl.zeros(3)).dtype}"
    assert D.Categorical(logits=dynarl.zeros(3)).sample().dtype == dynarl.int64
    assert D.Bernoulli(logits=dynarl.zeros(3)).sample().dtype == dynarl.float32


def test_sample_statistics():
    torch.manual_seed(0)
    dynarl.manual_seed(0)
    for name, make, arrays, _ in CASES:
        if name in ("normal", "categorical logits", "bernoulli logits", "uniform", "tanh normal"):
            ours, theirs, _, _ = build(make, arrays)
            a, b = ours.sample((8000,)).numpy().astype(float), theirs.sample((8000,)).numpy().astype(float)
            scale = b.std(0) + 1e-3
            np.testing.assert_allclose(a.mean(0) / scale, b.mean(0) / scale, atol=0.08)
            np.testing.assert_allclose(a.std(0), b.std(0), rtol=0.1, atol=0.02)


def test_errors_start_as_torchs_do():
    def message(make):
        with pytest.raises(ValueError) as error:
            make()
        return str(error.value).split("\n")[0].replace("torch.Size([3])", "(3,)")

    for ours, theirs in (
        (lambda: D.Normal(0.0, -1.0), lambda: T.Normal(0.0, -1.0)),
        (lambda: D.Categorical(), lambda: T.Categorical()),
        (lambda: D.Bernoulli(2.0), lambda: T.Bernoulli(2.0)),
        (lambda: D.Bernoulli(), lambda: T.Bernoulli()),
        (
            lambda: D.Categorical(logits=dynarl.zeros(3)).log_prob(dynarl.tensor(5)),
            lambda: T.Categorical(logits=torch.zeros(3)).log_prob(torch.tensor(5)),
        ),
        (
            lambda: D.Normal(0.0, 1.0).log_prob(dynarl.tensor(float("nan"))),
            lambda: T.Normal(0.0, 1.0).log_prob(torch.tensor(float("nan"))),
        ),
    ):
        assert message(ours) == message(theirs)
