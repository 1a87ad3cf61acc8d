"""Policies of SAC: a Gaussian squashed into [-1, 1], and a categorical one for Discrete actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from dynarl import nn
from dynarl.agents.policies import ACTIVATIONS, FORBIDDEN, mlp
from dynarl.autograd import Parameter, Tensor, primitive, xp, zeros
from dynarl.autograd.ops.activation import log_softmax
from dynarl.autograd.ops.elementwise import clamp, exp, tanh, where
from dynarl.autograd.tensor import wrap
from dynarl.distributions.state_dependent import StateDependentNormal, marginal_log_std

__all__ = ["CategoricalActor", "Gaussian", "SquashedActor", "drawn", "reparametrized", "squashed_log_prob"]

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@primitive
def reparametrized(mean: Any, log_std: Any, *, noise: Any) -> Any:
    """Return u = mean + exp(log_std) noise, all [B, A]."""
    scaled = xp(log_std).exp(log_std) * noise
    return mean + scaled, (lambda g: g, lambda g: g * scaled)


@primitive
def squashed_log_prob(u: Any, log_std: Any, *, noise: Any) -> Any:
    """Return log pi(tanh(u)) [B] for u = mean + exp(log_std) noise, all [B, A] (arXiv:1812.05905, appendix C).

    sum_a [-noise^2 / 2 - log_std - log(2 pi) / 2 - 2 (log 2 - u - softplus(-2 u))]: the density of the
    Gaussian at u is known from the noise, and log(1 - tanh(u)^2) is computed from u, exact also where
    tanh(u) rounds to 1. Its derivative by u is 2 tanh(u). The Gaussian's density has none: u and the mean shift
    together.
    """
    np_ = xp(u)
    # log 2 - u - softplus(-2u) = log 2 - |u| - log(1 + exp(-2 |u|))
    size = np_.abs(u)
    squash = size + np_.log1p(np_.exp(size * -2.0))
    total = (squash * 2.0 - noise * noise * 0.5 - log_std).sum(axis=-1)
    constant = u.shape[-1] * (_HALF_LOG_2PI + 2.0 * math.log(2.0))
    slope = np_.tanh(u) * 2.0

    def to_log_std(g: Any) -> Any:
        return np_.broadcast_to(-g[..., None], log_std.shape)

    return total - constant, (lambda g: g[..., None] * slope, to_log_std)


class Gaussian(NamedTuple):
    """Mean and log standard deviation before tanh, each [B, A]."""

    mean: Tensor
    log_std: Tensor

    def sample(self, noise: Any) -> tuple[Tensor, Tensor]:
        """Return (action in [-1, 1] [B, A], log_prob [B]) of standard normal noise [B, A], reparametrised."""
        u = reparametrized(self.mean, self.log_std, noise=noise)
        return tanh(u), squashed_log_prob(u, self.log_std, noise=noise)


class SquashedActor(nn.Module):
    """Network from observations [B, F] to a `Gaussian` over [B, A]; `features` maps [B, ...] to [B, F].

    With `use_sde`, exploration noise depends on the state (gSDE, arXiv:2005.05719): u = mean + h theta with
    the last layer's features h [B, H] and theta [H, A] ~ N(0, exp(log_std)^2), redrawn only every few steps.
    For one state that is a Gaussian with variance h^2 exp(log_std)^2 (eq. 9), which the losses use; only
    acting keeps theta. The features get no gradient through the noise, and the mean is limited to
    ±`clip_mean`, both as in Stable-Baselines3.
    """

    def __init__(
        self,
        inputs: int,
        actions: int,
        *,
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        log_std_min: float = -20.0,
        log_std_max: float = 2.0,
        use_sde: bool = False,
        log_std_init: float = -3.0,
        clip_mean: float = 2.0,
        features: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.actions, self.use_sde, self.clip_mean = actions, use_sde, clip_mean
        self.log_std_min, self.log_std_max = log_std_min, log_std_max
        self.body = body(inputs, hidden_sizes, activation, features)
        width = (inputs, *hidden_sizes)[-1]
        self.head = nn.Linear(width, actions if use_sde else 2 * actions)
        self.log_std = Parameter(zeros(width, actions) + log_std_init) if use_sde else None

    def forward(self, obs: Tensor, action_mask: None = None) -> Gaussian:
        """Return the Gaussian before squashing, of encoded observations [B, F]; Box actions have no masks."""
        features = self.body(obs)
        out = self.head(features)
        if self.log_std is None:
            return Gaussian(out[:, : self.actions], clamp(out[:, self.actions :], self.log_std_min, self.log_std_max))
        return Gaussian(clamp(out, -self.clip_mean, self.clip_mean), marginal_log_std(features, self.log_std))

    @property
    def noise_size(self) -> int:
        """How many normal numbers one environment's exploration takes: A, or the H x A of a matrix."""
        return self.actions if self.log_std is None else math.prod(self.log_std.shape)

    def explore(self, obs: Tensor, noise: Any, action_mask: None = None) -> Any:
        """Return actions in [-1, 1] [N, A] made of noise [N, noise_size]: with gSDE, matrices theta / std."""
        if self.log_std is None:
            return self(obs).sample(noise)[0].array
        features = self.body(obs)
        mean = clamp(self.head(features), -self.clip_mean, self.clip_mean)
        return tanh(StateDependentNormal(mean, features, self.log_std).sample_from(noise)).array

    def mode(self, obs: Tensor, action_mask: None = None) -> Any:
        """Return tanh(mean) [N, A], the deterministic actions."""
        return tanh(self(obs).mean).array


class CategoricalActor(nn.Module):
    """Network from observations [B, F] to log-probabilities [B, K]; `features` maps [B, ...] to [B, F]."""

    noise_size = 1

    def __init__(
        self,
        inputs: int,
        actions: int,
        *,
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        features: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.body = body(inputs, hidden_sizes, activation, features)
        self.head = nn.Linear((inputs, *hidden_sizes)[-1], actions)

    def forward(self, obs: Tensor, action_mask: Any = None) -> Tensor:
        """Return log pi(a|s) of all actions, [B, K]; where a mask [B, K] forbids one its probability is 0."""
        head = self.head(self.body(obs))
        if action_mask is not None:
            head = where(wrap(action_mask), head, FORBIDDEN)
        log_prob: Tensor = log_softmax(head, -1)
        return log_prob

    def explore(self, obs: Tensor, noise: Any, action_mask: Any = None) -> Any:
        """Return actions [N] drawn by inversion of uniform noise [N, 1] from the open (0, 1)."""
        return drawn(self(obs, action_mask), noise)

    def mode(self, obs: Tensor, action_mask: Any = None) -> Any:
        """Return the most probable actions [N]."""
        return self(obs, action_mask).array.argmax(axis=-1)


def drawn(log_prob: Tensor, noise: Any) -> Any:
    """Return actions [N] of log-probabilities [N, K], drawn by inversion of uniform noise [N, 1]."""
    cdf = exp(log_prob).array.cumsum(axis=-1)
    return (cdf < noise * cdf[:, -1:]).sum(axis=-1)


def body(inputs: int, hidden_sizes: Sequence[int], activation: str, features: nn.Module | None) -> nn.Sequential:
    """Return the hidden layers, each with its activation, behind `features` where they are given."""
    first = [] if features is None else [features]
    if not hidden_sizes:
        return nn.Sequential(*first)
    layers = mlp((inputs, *hidden_sizes), activation, gain=None, out_gain=None)
    return nn.Sequential(*first, *layers, ACTIVATIONS[activation]())
