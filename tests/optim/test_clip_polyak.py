"""Clipping, vectors of parameters, Polyak averages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dynarl
from dynarl import optim
from dynarl.autograd.flat import flatten


def parameters(*values: Any) -> list[Any]:
    return [dynarl.tensor(np.array(v, np.float32), requires_grad=True) for v in values]


def test_clip_grad_norm_without_gradients_is_zero() -> None:
    norm = optim.clip_grad_norm_(parameters([1.0]), 1.0)
    assert norm.item() == 0.0 and norm.shape == ()


def test_clip_grad_norm_takes_one_tensor_and_generators() -> None:
    (p,) = parameters([3.0, 4.0])
    (p * p).sum().backward()
    assert optim.clip_grad_norm_(p, 1e9).item() == pytest.approx(10.0)
    assert optim.clip_grad_norm_((q for q in [p]), 5.0).item() == pytest.approx(10.0)
    np.testing.assert_allclose(p.grad.numpy(), [3.0, 4.0], rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_norm(value: float) -> None:
    (p,) = parameters([1.0, 1.0])
    p.grad = dynarl.tensor([value, 1.0])
    with pytest.raises(RuntimeError, match=r"the total norm of order 2.0 of the gradients is (nan|inf)"):
        optim.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(p.grad.numpy(), [value, 1.0])
    norm = optim.clip_grad_norm_([p], 1.0)
    assert not np.isfinite(norm.item())


def test_clip_marks_the_gradient_as_changed() -> None:
    (p,) = parameters([3.0, 4.0])
    (p * p).sum().backward()
    q = dynarl.tensor([1.0, 1.0], requires_grad=True)
    loss = (p.grad * q).sum()
    optim.clip_grad_norm_([p], 1.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_vector_round_trip() -> None:
    params = parameters([[1.0, 2.0], [3.0, 4.0]], [5.0], 6.0)
    vector = optim.parameters_to_vector(params)
    np.testing.assert_array_equal(vector.detach().numpy(), [1, 2, 3, 4, 5, 6])
    vector.sum().backward()
    assert all((p.grad.numpy() == 1).all() for p in params)
    optim.vector_to_parameters(vector.detach() * 2, params)
    np.testing.assert_array_equal(params[0].detach().numpy(), [[2, 4], [6, 8]])
    assert params[2].item() == 12
    with pytest.raises(ValueError, match=r"a vector of 6 elements, .* got shape \(5,\)"):
        optim.vector_to_parameters(dynarl.ones(5), params)
    with pytest.raises(TypeError, match="expected a Tensor, got ndarray"):
        optim.vector_to_parameters(np.ones(6), params)  # type: ignore[arg-type]


@pytest.mark.parametrize("flat", ["neither", "online", "target", "both", "target in another order"])
@pytest.mark.parametrize("tau", [0.0, 0.25, 1.0])
def test_polyak(flat: str, tau: float) -> None:
    online = parameters([[1.0, 2.0], [3.0, 4.0]], [5.0, 6.0], [7.0])
    target = [p.requires_grad_(False) for p in parameters([[0.0, 1.0], [1.0, 0.0]], [2.0, 2.0], [-1.0])]
    if flat in ("online", "both"):
        flatten(online)
    if flat in ("target", "both"):
        flatten(target)
    if flat == "target in another order":
        flatten(online)
        flatten(target[::-1])
    expected = [tau * p.detach().numpy() + (1 - tau) * t.numpy() for p, t in zip(online, target)]
    optim.polyak_update(iter(online), iter(target), tau)
    for t, e in zip(target, expected):
        np.testing.assert_allclose(t.numpy(), e, rtol=1e-6)
        assert t.dtype == np.float32


def test_polyak_errors() -> None:
    a, b = parameters([1.0, 2.0], [3.0])
    with pytest.raises(ValueError, match=r"tau must lie in \[0, 1\], got 1.5"):
        optim.polyak_update([a], [b], 1.5)
    with pytest.raises(ValueError, match="got 2 parameters and 1 target parameters"):
        optim.polyak_update([a, b], [a], 0.5)
    with pytest.raises(ValueError, match=r"parameter 0 has shape \(2,\), its target \(1,\)"):
        optim.polyak_update([a], [b], 0.5)
