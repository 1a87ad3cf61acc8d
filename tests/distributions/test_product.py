"""Products: sums of their parts, and samples with the parts' distributions."""

import numpy as np
import pytest

import dynarl
from dynarl.autograd import philox
from dynarl.distributions import Bernoulli, Categorical, Independent, MultiCategorical, Normal, Product


def parts(rows):
    logits = dynarl.tensor(np.tile(np.log([0.2, 0.5, 0.3]).astype(np.float32), (rows, 1)))
    mean = dynarl.tensor(np.tile(np.array([1.0, -2.0], np.float32), (rows, 1)))
    scale = dynarl.tensor(np.array([0.5, 2.0], np.float32))
    pair = dynarl.tensor(np.zeros((rows, 5), np.float32))
    bits = dynarl.tensor(np.full((rows, 1), 2.0, np.float32))
    return [
        Categorical(logits=logits),
        Independent(Normal(mean, scale), 1),
        MultiCategorical(pair, [2, 3]),
        Independent(Bernoulli(logits=bits), 1),
    ]


def test_samples():
    product = Product(parts(20_000))
    assert product.event_shape == (6,) and product.noise == ("uniform", 1 + 2 * 2 + 2 + 1)
    noise = philox.uniform(0, "test", np.arange(20_000), 0, 1, 8, open=True)[0]
    for sample in (product.sample_from(noise), product.sample()):
        drawn = sample.numpy()
        assert drawn.shape == (20_000, 6) and drawn.dtype == np.float32
        np.testing.assert_allclose(np.bincount(drawn[:, 0].astype(int)) / 20_000, [0.2, 0.5, 0.3], atol=0.015)
        np.testing.assert_allclose(drawn[:, 1:3].mean(axis=0), [1.0, -2.0], atol=0.06)
        np.testing.assert_allclose(drawn[:, 1:3].std(axis=0), [0.5, 2.0], rtol=0.03)
        np.testing.assert_allclose(np.corrcoef(drawn.T), np.eye(6), atol=0.03)
        assert set(drawn[:, 4]) == {0.0, 1.0, 2.0}
        np.testing.assert_allclose(drawn[:, 5].mean(), 1 / (1 + np.exp(-2.0)), atol=0.015)


def test_log_prob_entropy_and_mode_are_the_parts():
    own = parts(7)
    product = Product(own)
    value = product.sample()
    pieces = [value[:, 0], value[:, 1:3], value[:, 3:5], value[:, 5:]]
    expected = sum(part.log_prob(piece).numpy() for part, piece in zip(own, pieces))
    np.testing.assert_allclose(product.log_prob(value).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(product.entropy().numpy(), sum(part.entropy().numpy() for part in own), rtol=1e-6)
    np.testing.assert_allclose(product.mode.numpy()[0], [1, 1.0, -2.0, 0, 0, 1])


def test_messages():
    with pytest.raises(ValueError, match="Product: needs at least one part, got 0"):
        Product([])
    with pytest.raises(ValueError, match=r"Product: parts must have one batch shape .*\(2,\).*\(3,\)"):
        Product([parts(2)[0], parts(3)[1]])
    with pytest.raises(ValueError, match=r"takes 8 uniform numbers per row, got noise of shape \(2, 3\)"):
        Product(parts(2)).sample_from(np.zeros((2, 3), np.float32))
