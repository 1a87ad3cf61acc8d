"""Losses: each function, and the module that calls it.

`reduction` is "mean", "sum" or "none". PyTorch's deprecated `size_average` and `reduce` are not offered.
"""

from __future__ import annotations

import warnings
from typing import Any

from dynarl.autograd import tensor
from dynarl.autograd.ops.activation import log_softmax, softplus
from dynarl.autograd.ops.elementwise import clamp, exp, log, square, where
from dynarl.autograd.ops.indexing import gather
from dynarl.autograd.ops.reduction import mean_squared_error
from dynarl.nn.module import Module


def _reduce(name: str, loss: Any, reduction: str) -> Any:
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ValueError(f"{name}: {reduction} is not a valid value for reduction, expected 'none', 'mean' or 'sum'")


def _warn_broadcast(name: str, input: Any, target: Any) -> None:
    if input.shape != target.shape:
        warnings.warn(
            f"{name}: target size {tuple(target.shape)} differs from input size {tuple(input.shape)}. This will "
            "likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
            stacklevel=3,
        )


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """Return (input - target)^2, reduced."""
    fusable = input.shape == target.shape and input.dtype == target.dtype and input.dtype.kind == "f"
    if reduction == "mean" and fusable and input.array.size:
        return mean_squared_error(input, target)
    _warn_broadcast("mse_loss", input, target)
    return _reduce("mse_loss", square(input - target), reduction)


def l1_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """Return |input - target|, reduced."""
    _warn_broadcast("l1_loss", input, target)
    return _reduce("l1_loss", (input - target).abs(), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """Return d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = input - target."""
    if delta <= 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")
    _warn_broadcast("huber_loss", input, target)
    return _reduce("huber_loss", _huber(input - target, delta), reduction)


def _huber(difference: Any, delta: float) -> Any:
    limited = clamp(difference, -delta, delta)
    return limited * (difference - limited * 0.5)  # both cases: limited is d or ±delta


def smooth_l1_loss(input: Any, target: Any, *, reduction: str = "mean", beta: float = 1.0) -> Any:
    """Return huber_loss with delta = beta, divided by beta; beta = 0 is l1_loss."""
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    _warn_broadcast("smooth_l1_loss", input, target)
    if beta == 0:
        return _reduce("smooth_l1_loss", (input - target).abs(), reduction)
    loss = _huber(input - target, beta)
    return _reduce("smooth_l1_loss", loss if beta == 1.0 else loss / beta, reduction)


def nll_loss(input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """Return -input[n, target[n]]: log-probabilities [N, C] or [N, C, ...] (or [C]), target [N] or [N, ...] (or []).

    "mean" divides by the summed class weights of the targets that are not `ignore_index`.
    """
    loss, weights = _picked("nll_loss", input, target, weight, ignore_index)
    return _weighted("nll_loss", loss, weights, reduction)


def _picked(name: str, input: Any, target: Any, weight: Any, ignore_index: int) -> tuple[Any, Any]:
    """Return -weight * input at the targets, and the weights themselves (None where all are one)."""
    axis = 0 if input.ndim == 1 else 1
    shape = input.shape
    if tuple(target.shape) != (*shape[:axis], *shape[axis + 1 :]):
        raise ValueError(
            f"{name}: target must have the input's shape without its class dimension, "
            f"got input {tuple(shape)} and target {tuple(target.shape)}"
        )
    if target.dtype.kind not in "iu":
        raise TypeError(f"{name}: target class indices must be integers, got {target.dtype}")
    index = target.array
    ignored = index == ignore_index
    outside = ((index < 0) | (index >= shape[axis])) & ~ignored
    if bool(outside.any()):
        raise IndexError(f"{name}: target {int(index[outside][0])} is out of bounds for {shape[axis]} classes")
    some_ignored = bool(ignored.any())
    if some_ignored:
        target = target.masked_fill(tensor(ignored), 0)
    loss = -gather(input, axis, target.unsqueeze(axis)).squeeze(axis)
    weights = None if weight is None else weight[target]
    if some_ignored:
        kept = tensor(~ignored).to(input.dtype)
        weights = kept if weights is None else weights * kept
    return (loss if weights is None else loss * weights), weights


def _weighted(name: str, loss: Any, weights: Any, reduction: str) -> Any:
    if weights is None or reduction != "mean":
        return _reduce(name, loss, reduction)
    return loss.sum() / weights.sum()


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Return -log softmax(input)[target]: logits [N, C], [N, C, ...] or [C]; target class indices or probabilities."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    axis = 0 if input.ndim == 1 else 1
    log_prob = log_softmax(input, axis)
    classes = input.shape[axis]
    per_class = (-1,) + (1,) * (input.ndim - axis - 1)
    if target.dtype.kind == "f":
        if target.shape != input.shape:
            raise ValueError(
                f"cross_entropy: target probabilities must have the input's shape {tuple(input.shape)}, "
                f"got {tuple(target.shape)}"
            )
        target = target * (1 - label_smoothing) + label_smoothing / classes
        loss = -(log_prob * target if weight is None else log_prob * target * weight.reshape(per_class)).sum(axis)
        if reduction != "mean":
            return _reduce("cross_entropy", loss, reduction)
        return loss.sum() / (loss.array.size or 1)
    loss, weights = _picked("cross_entropy", log_prob, target, weight, ignore_index)
    if label_smoothing == 0.0:
        return _weighted("cross_entropy", loss, weights, reduction)
    spread = -(log_prob if weight is None else log_prob * weight.reshape(per_class)).sum(axis)
    spread = spread.masked_fill(target == ignore_index, 0.0)
    loss = loss * (1 - label_smoothing) + spread * (label_smoothing / classes)
    return _weighted("cross_entropy", loss, weights, reduction)


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, *, reduction: str = "mean") -> Any:
    """Return -(t log p + (1 - t) log(1 - p)), logarithms not below -100 as in PyTorch; p = input in [0, 1]."""
    if input.shape != target.shape:
        raise ValueError(
            f"binary_cross_entropy: Using a target size ({tuple(target.shape)}) that is different to the input "
            f"size ({tuple(input.shape)}) is deprecated. Please ensure they have the same size."
        )
    values = input.array
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise RuntimeError("binary_cross_entropy: all elements of input should be between 0 and 1")
    loss = -(target * _log_at_least(input) + (1 - target) * _log_at_least(1 - input))
    return _reduce("binary_cross_entropy", loss if weight is None else loss * weight, reduction)


def _log_at_least(p: Any) -> Any:
    return clamp(log(clamp(p, min=1.5e-45)), min=-100.0)  # the inner clamp keeps log(0) from warning


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """Return binary_cross_entropy(sigmoid(input), target), stably; pos_weight multiplies the positive term."""
    if input.shape != target.shape:
        raise ValueError(
            f"binary_cross_entropy_with_logits: Target size ({tuple(target.shape)}) must be the same as "
            f"input size ({tuple(input.shape)})"
        )
    if pos_weight is None:
        loss = softplus(input) - input * target
    else:
        loss = (1 - target) * input + ((pos_weight - 1) * target + 1) * softplus(-input)
    return _reduce("binary_cross_entropy_with_logits", loss if weight is None else loss * weight, reduction)


def kl_div(input: Any, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Any:
    """Return target (log target - input), input being log-probabilities; 0 log 0 = 0.

    "mean" averages over all elements, "batchmean" divides the sum by the first dimension (the KL divergence).
    """
    if log_target:
        loss = exp(target) * (target - input)
    else:
        positive = target > 0
        log_target_value = log(where(positive, target, 1.0))
        loss = target * (log_target_value - input)
    if reduction == "batchmean":
        return loss.sum() / input.shape[0] if input.ndim else loss.sum()
    return _reduce("kl_div", loss, reduction)


class _Loss(Module):
    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction


class MSELoss(_Loss):
    """Mean squared error."""

    def forward(self, input: Any, target: Any) -> Any:
        return mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """Mean absolute error."""

    def forward(self, input: Any, target: Any) -> Any:
        return l1_loss(input, target, reduction=self.reduction)


class HuberLoss(_Loss):
    """Squared near zero, linear beyond delta."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Any, target: Any) -> Any:
        return huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class SmoothL1Loss(_Loss):
    """HuberLoss divided by beta."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Any, target: Any) -> Any:
        return smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class _WeightedLoss(_Loss):
    """A loss with a tensor of weights, registered as a buffer so that `to()` moves it."""

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight: Any
        self.register_buffer("weight", weight)


class NLLLoss(_WeightedLoss):
    """Negative log-likelihood of class indices, given log-probabilities."""

    def __init__(self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, reduction=reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Any:
        return nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class CrossEntropyLoss(_WeightedLoss):
    """Cross entropy of class indices or probabilities, given logits."""

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, reduction=reduction)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        return cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class BCELoss(_WeightedLoss):
    """Binary cross entropy, given probabilities."""

    def forward(self, input: Any, target: Any) -> Any:
        return binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_WeightedLoss):
    """Binary cross entropy, given logits."""

    def __init__(self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(weight, reduction=reduction)
        self.pos_weight: Any
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Any, target: Any) -> Any:
        return binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


class KLDivLoss(_Loss):
    """Pointwise Kullback-Leibler divergence of log-probabilities from a target."""

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, input: Any, target: Any) -> Any:
        return kl_div(input, target, reduction=self.reduction, log_target=self.log_target)
