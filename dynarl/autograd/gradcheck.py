"""gradcheck: compare analytic gradients with central differences, to first and second order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dynarl.autograd.backward import grad
from dynarl.autograd.device import to_host
from dynarl.autograd.grad_mode import enable_grad, no_grad
from dynarl.autograd.random import Generator, randn
from dynarl.autograd.tensor import Tensor, wrap

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(RuntimeError):
    """An analytic gradient differs from the numerical one."""


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _numerical(
    function: Callable[..., Any], inputs: Sequence[Any], which: Tensor, weights: Sequence[Any], eps: float
) -> Any:
    """Return d(sum of weighted outputs)/d(input) by central differences."""
    out = np.zeros(which.shape, dtype=np.float64)
    array = which.array
    for place in np.ndindex(*which.shape):
        before = array[place].item()
        values = []
        for step in (eps, -eps):
            array[place] = before + step
            with no_grad():
                outputs = _as_tuple(function(*inputs))
            values.append(
                sum(
                    float((to_host(o.array).astype(np.float64) * to_host(w.array)).sum())
                    for o, w in zip(outputs, weights)
                )
            )
        array[place] = before
        out[place] = (values[0] - values[1]) / (2 * eps)
    return out


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Compare the gradient of func(*inputs) with central differences at float64 inputs that require grad.

    Raises GradcheckError naming the input, the worst element and both values (or returns False).
    """
    inputs = _as_tuple(inputs)
    checked = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("gradcheck: at least one input must require grad")
    for x in checked:
        if x.dtype != np.float64:
            raise ValueError(f"gradcheck: inputs must be float64 for central differences, got {x.dtype}")
    outputs = [o for o in _as_tuple(func(*inputs)) if isinstance(o, Tensor)]
    differentiable = [o for o in outputs if o.requires_grad]
    if not differentiable:
        raise ValueError("gradcheck: no output requires grad")
    generator = Generator().manual_seed(0)
    weights = [randn(o.shape, dtype=o.dtype, generator=generator, device=o.device) for o in differentiable]
    found = grad(differentiable, checked, weights, allow_unused=True)

    def only_differentiable(*args: Any) -> Any:
        return [o for o, first in zip(_as_tuple(func(*args)), outputs) if first.requires_grad]

    for i, (x, g) in enumerate(zip(checked, found)):
        analytic = np.zeros(x.shape) if g is None else to_host(g.array)
        numerical = _numerical(only_differentiable, inputs, x, weights, eps)
        if not np.allclose(analytic, numerical, rtol=rtol, atol=atol, equal_nan=True):
            if not raise_exception:
                return False
            worst = np.unravel_index(np.argmax(np.abs(analytic - numerical)), analytic.shape)
            raise GradcheckError(
                f"gradcheck: input {i} of shape {tuple(x.shape)} at {tuple(map(int, worst))}: "
                f"analytic {analytic[worst]:.8g}, numerical {numerical[worst]:.8g}"
            )
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Check second derivatives: gradcheck of the gradient of func, in the inputs and in the output gradients."""
    inputs = _as_tuple(inputs)
    outputs = [o for o in _as_tuple(func(*inputs)) if isinstance(o, Tensor) and o.requires_grad]
    generator = Generator().manual_seed(1)
    weights = [randn(o.shape, dtype=o.dtype, generator=generator, device=o.device).requires_grad_() for o in outputs]
    positions = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]

    def first_gradient(*args: Any) -> Any:
        args, gs = args[: len(inputs)], args[len(inputs) :]
        rerun = [
            a if i not in positions or a.requires_grad else a.detach().requires_grad_() for i, a in enumerate(args)
        ]
        with_grad = [o for o in _as_tuple(func(*rerun)) if isinstance(o, Tensor) and o.requires_grad]
        found = grad(with_grad, [rerun[i] for i in positions], list(gs), create_graph=True, allow_unused=True)
        return tuple(wrap(np.zeros(rerun[i].shape)) if g is None else g for i, g in zip(positions, found))

    def recorded(*args: Any) -> Any:
        with enable_grad():
            return first_gradient(*args)

    return gradcheck(recorded, (*inputs, *weights), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception)
