"""mse_loss is one operation where shapes and dtypes agree: same values and gradients as the composition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dynarl
from dynarl.autograd import gradcheck, gradgradcheck
from dynarl.nn.functional import mse_loss


@pytest.mark.parametrize("shape", [(), (5,), (3, 2), (2, 3, 4)])
def test_gradients(shape: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = (dynarl.tensor(rng.normal(size=shape), requires_grad=True) for _ in range(2))
    assert gradcheck(mse_loss, (x, y)) and gradgradcheck(mse_loss, (x, y))
    assert mse_loss(x, y).item() == pytest.approx(((x - y) ** 2).mean().item(), rel=1e-12)
    assert mse_loss(x, y)._node.name() == "mean_squared_error"


def test_views_and_float32() -> None:
    x = dynarl.tensor(np.arange(12, dtype=np.float32).reshape(3, 4), requires_grad=True)
    y = dynarl.ones(4, 3)
    loss = mse_loss(x.T, y)
    loss.backward()
    assert loss.dtype == np.float32 and loss.shape == () and x.grad.dtype == np.float32
    np.testing.assert_allclose(x.grad.numpy(), (x.detach().numpy() - 1) / 6, rtol=1e-6)
