"""Initial values (`torch.nn.init`): every function fills a tensor in place and returns it.

`generator` is a `dynarl.Generator`; without one the draws come from the generator of `manual_seed`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dynarl.autograd import no_grad
from dynarl.autograd import tensor as _tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


@no_grad()
def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Any:
    """Draw from uniform [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Any:
    """Draw from normal(mean, std^2)."""
    return tensor.normal_(mean, std, generator=generator)


@no_grad()
def trunc_normal_(
    tensor: Any, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> Any:
    """Draw from normal(mean, std^2) until every value lies in [a, b]."""
    if not a < b:
        raise ValueError(f"trunc_normal_: a must be below b, got [{a}, {b}]")
    if (b - mean) / std < -5 or (a - mean) / std > 5:
        raise ValueError(
            f"trunc_normal_: [{a}, {b}] is more than 5 std from mean {mean} (std {std}), rejection would not end"
        )
    tensor.normal_(mean, std, generator=generator)
    values = tensor.array
    outside = (values < a) | (values > b)
    while bool(outside.any()):
        again = tensor.clone().detach().normal_(mean, std, generator=generator).array
        values[outside] = again[outside]
        outside = (values < a) | (values > b)
    return tensor


@no_grad()
def constant_(tensor: Any, val: float) -> Any:
    """Fill with val."""
    return tensor.fill_(val)


def ones_(tensor: Any) -> Any:
    """Fill with ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Any) -> Any:
    """Fill with zeros."""
    return constant_(tensor, 0.0)


@no_grad()
def eye_(tensor: Any) -> Any:
    """Fill a 2-D tensor with the identity."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: Only tensors with 2 dimensions are supported, got shape {tuple(tensor.shape)}")
    return tensor.copy_(_tensor(np.eye(*tensor.shape)))


@no_grad()
def orthogonal_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Fill with a random (semi-)orthogonal matrix times gain (arXiv:1312.6120); trailing dimensions are flattened.

    The signs of R's diagonal make Q uniform over orthogonal matrices (arXiv:math-ph/0609050).
    """
    if tensor.ndim < 2:
        raise ValueError(
            f"orthogonal_: Only tensors with 2 or more dimensions are supported, got shape {tuple(tensor.shape)}"
        )
    if tensor.array.size == 0:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.array.size // rows
    draw = tensor.clone().detach().normal_(0.0, 1.0, generator=generator).cpu().numpy()
    flat = draw.astype(np.float64).reshape(rows, columns)
    q, r = np.linalg.qr(flat.T if rows < columns else flat)
    q = q * np.sign(np.diagonal(r))
    q = q.T if rows < columns else q
    return tensor.copy_(_tensor(np.ascontiguousarray(q * gain).reshape(tuple(tensor.shape))))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the recommended gain for a nonlinearity; `param` is leaky_relu's negative slope."""
    if nonlinearity == "leaky_relu":
        if isinstance(param, bool) or not isinstance(param, (int, float, type(None))):
            raise ValueError(f"calculate_gain: negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}
    gains.update({f"conv{kind}{n}d": 1.0 for kind in ("", "_transpose") for n in (1, 2, 3)})
    if nonlinearity not in gains:
        known = ", ".join([*gains, "leaky_relu"])
        raise ValueError(f"calculate_gain: Unsupported nonlinearity {nonlinearity}, expected one of {known}")
    return gains[nonlinearity]


def _fans(tensor: Any) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight [out, in, ...]."""
    if tensor.ndim < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions, "
            f"got shape {tuple(tensor.shape)}"
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def xavier_uniform_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Draw from uniform ± gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    bound = gain * math.sqrt(6.0 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Draw from normal with std gain sqrt(2 / (fan_in + fan_out))."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans(tensor))), generator)


def _kaiming_std(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"kaiming: Mode {mode} not supported, please use one of ('fan_in', 'fan_out')")
    fan = _fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def kaiming_uniform_(
    tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Any:
    """Draw from uniform ± gain sqrt(3 / fan) (arXiv:1502.01852); a is the slope of leaky_relu."""
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Any:
    """Draw from normal with std gain / sqrt(fan) (arXiv:1502.01852)."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)
