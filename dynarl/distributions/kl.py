"""Kullback-Leibler divergences in closed form, found by the pair of classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.ops.activation import softplus
from dynarl.autograd.ops.elementwise import log, square, where
from dynarl.distributions.bernoulli import Bernoulli
from dynarl.distributions.categorical import Categorical
from dynarl.distributions.distribution import Distribution, sum_rightmost
from dynarl.distributions.independent import Independent
from dynarl.distributions.multi_categorical import MultiCategorical
from dynarl.distributions.normal import Normal
from dynarl.distributions.tanh_normal import TanhNormal
from dynarl.distributions.uniform import Uniform

_Divergence = Callable[[Any, Any], Tensor]
_registry: dict[tuple[type, type], _Divergence] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[_Divergence], _Divergence]:
    """Register a function of (p, q) as the divergence of a pair of classes; subclasses inherit it."""
    for kind, name in ((type_p, "type_p"), (type_q, "type_q")):
        if not (isinstance(kind, type) and issubclass(kind, Distribution)):
            raise TypeError(f"Expected {name} to be a Distribution subclass but got {kind}")

    def decorator(divergence: _Divergence) -> _Divergence:
        _registry[type_p, type_q] = divergence
        return divergence

    return decorator


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """Return KL(p || q) = E_p[log p - log q], of shape batch_shape; NotImplementedError for an unknown pair."""
    return _find(type(p), type(q))(p, q)


def _find(p: type, q: type) -> _Divergence:
    """Return the divergence registered for the nearest ancestors of the two classes, p's first."""
    for type_p in p.__mro__:
        for type_q in q.__mro__:
            divergence = _registry.get((type_p, type_q))
            if divergence is not None:
                return divergence
    raise NotImplementedError(
        f"No KL(p || q) is implemented for p type {p.__name__} and q type {q.__name__}; register_kl adds one"
    )


@register_kl(Normal, Normal)
def _normal(p: Normal, q: Normal) -> Tensor:
    ratio = square(p.scale / q.scale)
    distance = square((p.loc - q.loc) / q.scale)
    return (ratio + distance - 1 - log(ratio)) * 0.5


@register_kl(Categorical, Categorical)
def _categorical(p: Categorical, q: Categorical) -> Tensor:
    inside = p.probs > 0  # where p is 0 the term is 0, whatever q
    difference = p.logits.masked_fill(~inside, 0.0) - q.logits.masked_fill(~inside, 0.0)
    terms = where(inside, p.probs * difference, 0.0)
    return where(inside & (q.probs == 0), math.inf, terms).sum(dim=-1)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Bernoulli, q: Bernoulli) -> Tensor:
    logits_p, logits_q = p._finite_logits(), q._finite_logits()
    t1 = p.probs * (softplus(-logits_q) - softplus(-logits_p))
    t0 = (1 - p.probs) * (softplus(logits_q) - softplus(logits_p))
    return t1 + t0


@register_kl(Uniform, Uniform)
def _uniform(p: Uniform, q: Uniform) -> Tensor:
    value = log((q.high - q.low) / (p.high - p.low))
    return where((q.low > p.low) | (q.high < p.high), math.inf, value)


@register_kl(TanhNormal, TanhNormal)
def _tanh_normal(p: TanhNormal, q: TanhNormal) -> Tensor:
    return _normal(p.base_dist, q.base_dist)  # one bijection on both sides cancels


@register_kl(MultiCategorical, MultiCategorical)
def _multi_categorical(p: MultiCategorical, q: MultiCategorical) -> Tensor:
    if p.nvec != q.nvec:
        raise ValueError(f"kl_divergence: both MultiCategorical need one nvec, got {p.nvec} and {q.nvec}")
    return _categorical(p.base_dist, q.base_dist).sum(dim=-1)


@register_kl(Independent, Independent)
def _independent(p: Independent, q: Independent) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError(
            "kl_divergence: both Independent need the same reinterpreted_batch_ndims, "
            f"got {p.reinterpreted_batch_ndims} and {q.reinterpreted_batch_ndims}"
        )
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)
