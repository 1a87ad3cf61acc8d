"""Functions of `torch.nn.functional`: stateless, on tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dynarl import autograd
from dynarl.autograd.dispatch import overridable
from dynarl.autograd.ops import activation as activations
from dynarl.autograd.ops import affine, elementwise, indexing
from dynarl.autograd.ops.activation import sigmoid
from dynarl.autograd.ops.conv import avg_pool2d, conv2d, max_pool2d
from dynarl.autograd.ops.elementwise import tanh
from dynarl.autograd.ops.normalization import layer_norm as _layer_norm
from dynarl.nn.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)

__all__ = [
    "avg_pool2d",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv2d",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "hardtanh",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "relu",
    "rms_norm",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "softsign",
    "tanh",
]

gelu = activations.gelu
softsign = activations.softsign
logsigmoid = activations.logsigmoid
one_hot = indexing.one_hot


def linear(input: Any, weight: Any, bias: Any = None, *, activation: str | None = None) -> Any:
    """Return activation(input @ weight.T + bias): input [..., in], weight [out, in], bias [out].

    `activation` (None, "tanh", "relu", "sigmoid") is an addition to PyTorch's signature: one fused operation.
    """
    return affine.linear(input, weight, bias, activation=activation)


def relu(input: Any, inplace: bool = False) -> Any:
    """Return max(x, 0). `inplace` has no effect, here and below: the result is always a new tensor."""
    return activations.relu(input)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """Return x where positive, else negative_slope * x."""
    return activations.leaky_relu(input, negative_slope)


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """Return x where positive, else alpha (exp(x) - 1)."""
    return activations.elu(input, alpha)


def selu(input: Any, inplace: bool = False) -> Any:
    """Return the scaled ELU of arXiv:1706.02515."""
    return activations.selu(input)


def silu(input: Any, inplace: bool = False) -> Any:
    """Return x sigmoid(x)."""
    return activations.silu(input)


def mish(input: Any, inplace: bool = False) -> Any:
    """Return x tanh(softplus(x))."""
    return activations.mish(input)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """Limit values to [min_val, max_val]."""
    return activations.hardtanh(input, min_val, max_val)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """Return log(1 + exp(beta x)) / beta; above `threshold` it is x within rounding, without overflow."""
    return activations.softplus(input, beta, threshold)


def softmax(input: Any, dim: int | None = None, *, dtype: Any = None) -> Any:
    """Return exp(x) / sum(exp(x)) along dim."""
    return activations.softmax(input, dim, dtype=dtype)


def softmin(input: Any, dim: int | None = None, *, dtype: Any = None) -> Any:
    """Return softmax(-x) along dim."""
    return activations.softmax(-input, dim, dtype=dtype)


def log_softmax(input: Any, dim: int | None = None, *, dtype: Any = None) -> Any:
    """Return log(softmax(x)) along dim."""
    return activations.log_softmax(input, dim, dtype=dtype)


@overridable
def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """Return rows of weight: input [...] of indices, weight [num_embeddings, dim], result [..., dim].

    The row `padding_idx` gets no gradient. Raises IndexError for an index outside the table.
    """
    if input.dtype.kind not in "iu":
        raise TypeError(f"embedding: indices must be integers, got {input.dtype}")
    size = weight.shape[0]
    index = input.array
    if index.size and (int(index.max()) >= size or int(index.min()) < 0):
        raise IndexError(
            f"embedding: indices must be in [0, {size}), got values from {int(index.min())} to {int(index.max())}"
        )
    rows = weight[input]
    if padding_idx is None or not autograd.is_grad_enabled():
        return rows
    return elementwise.where((input == padding_idx % size).unsqueeze(-1), rows.detach(), rows)


def layer_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Normalise to mean 0 and variance 1 over the trailing dimensions `normalized_shape` (arXiv:1607.06450)."""
    _check_trailing("layer_norm", input, normalized_shape)
    return _layer_norm(input, weight, bias, dims=len(normalized_shape), eps=eps)


def rms_norm(input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    """Divide by the root mean square over the trailing dimensions (arXiv:1910.07467); eps None = machine epsilon."""
    _check_trailing("rms_norm", input, normalized_shape)
    if eps is None:
        eps = float(np.finfo(input.dtype).eps)
    dims = tuple(range(-len(normalized_shape), 0))
    out = input * elementwise.rsqrt((input * input).mean(dim=dims, keepdim=True) + eps)
    return out if weight is None else out * weight


def _check_trailing(name: str, input: Any, normalized_shape: Sequence[int]) -> None:
    size = len(normalized_shape)
    if size == 0 or tuple(input.shape[-size:]) != tuple(normalized_shape):
        raise ValueError(
            f"{name}: input must end in normalized_shape {tuple(normalized_shape)}, got shape {tuple(input.shape)}"
        )


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Zero elements with probability p and divide the others by 1 - p; the input itself when not training."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input
    if p == 1.0:
        return input * 0.0
    keep = autograd.rand(tuple(input.shape), dtype=input.dtype, device=input.device) >= p
    return input * (keep.to(input.dtype) * (1.0 / (1.0 - p)))


def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    """Divide by the p-norm along dim, at least eps."""
    magnitude = input.abs()
    if p == 2.0:
        norm = elementwise.sqrt((input * input).sum(dim=dim, keepdim=True))
    elif p == 1.0:
        norm = magnitude.sum(dim=dim, keepdim=True)
    else:
        norm = (magnitude**p).sum(dim=dim, keepdim=True) ** (1.0 / p)
    return input / elementwise.clamp(norm, min=eps)
