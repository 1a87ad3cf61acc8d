"""The fused losses against the formula composed of plain operations, to second order."""

import numpy as np
import pytest

import dynarl
from dynarl.agents.ppo.losses import clipped_surrogate, clipped_value_loss, value_loss
from dynarl.autograd import gradcheck, gradgradcheck

B = 40


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def leaf(array):
    return dynarl.tensor(array).requires_grad_()


def composed_surrogate(log_prob, old_log_prob, advantages, clip_range):
    ratio = (log_prob - dynarl.tensor(old_log_prob)).exp()
    a = dynarl.tensor(advantages)
    return -dynarl.minimum(ratio * a, ratio.clamp(1 - clip_range, 1 + clip_range) * a).mean()


def test_clipped_surrogate(rng):
    log_prob, old, advantages = rng.normal(size=(3, B)) * 0.3
    constants = {"old_log_prob": old, "advantages": advantages, "clip_range": 0.2}
    fused, plain = leaf(log_prob), leaf(log_prob)
    a, b = clipped_surrogate(fused, **constants), composed_surrogate(plain, **constants)
    a.backward()
    b.backward()
    assert a.item() == pytest.approx(b.item(), abs=1e-12)
    np.testing.assert_allclose(fused.grad.numpy(), plain.grad.numpy(), atol=1e-12)
    outside = np.abs(np.exp(log_prob - old) - 1) > 0.2
    assert outside.any() and (fused.grad.numpy()[outside] == 0).any()
    assert gradcheck(lambda x: clipped_surrogate(x, **constants), leaf(log_prob))
    assert gradgradcheck(lambda x: clipped_surrogate(x, **constants), leaf(log_prob))


def test_ratio_one_has_the_plain_policy_gradient(rng):
    log_prob, advantages = rng.normal(size=(2, B)).astype(np.float32)
    x = leaf(log_prob)
    loss = clipped_surrogate(x, old_log_prob=log_prob, advantages=advantages, clip_range=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(-advantages.mean(), abs=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), -advantages / B, atol=1e-7)
    assert x.grad.dtype == loss.dtype == np.float32


def test_value_losses(rng):
    value, returns, old = rng.normal(size=(3, B))
    x, y = leaf(value), leaf(value)
    value_loss(x, returns=returns).backward()
    ((y - dynarl.tensor(returns)) ** 2).mean().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), atol=1e-12)

    def composed(v):
        moved = (v - dynarl.tensor(old)).clamp(-0.2, 0.2) + dynarl.tensor(old)
        r = dynarl.tensor(returns)
        return dynarl.maximum((v - r) ** 2, (moved - r) ** 2).mean()

    x, y = leaf(value), leaf(value)
    constants = {"returns": returns, "old_value": old, "clip_range": 0.2}
    a, b = clipped_value_loss(x, **constants), composed(y)
    a.backward()
    b.backward()
    assert a.item() == pytest.approx(b.item(), abs=1e-12)
    # inside the clip range both branches are equal and composed maximum halves each: the same gradient
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), atol=1e-12)
    for loss in (lambda v: value_loss(v, returns=returns), lambda v: clipped_value_loss(v, **constants)):
        assert gradcheck(loss, leaf(value)) and gradgradcheck(loss, leaf(value))
