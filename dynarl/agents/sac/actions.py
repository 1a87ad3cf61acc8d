"""The two kinds of actions that SAC supports: Box in [-1, 1], scaled to the environment's bounds, and Discrete."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.agents.encoders.stored_actions import StoredActions
from dynarl.agents.policies import FORBIDDEN
from dynarl.agents.sac.config import SACConfig
from dynarl.agents.sac.squashed import Gaussian, drawn
from dynarl.agents.user_policy.policy import UserPolicy
from dynarl.autograd import Tensor, no_grad
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.ops.activation import log_softmax
from dynarl.autograd.ops.elementwise import log, tanh, where
from dynarl.autograd.tensor import wrap
from dynarl.distributions import Categorical, Distribution, Independent, Normal
from dynarl.envs.masks import draw_allowed

__all__ = ["ActionKind", "BoxActions", "DiscreteActions", "make_actions"]

Array = NDArray[Any]


class BoxActions(StoredActions):
    """Actions [N, A] in [-1, 1] of a bounded Box.

    The density of the policy is that of actions in [-1, 1]; bounds are applied outside of it, so that a target entropy
    means the same for all bounds.
    """

    noise_kind = "normal"

    def __init__(self, space: spaces.Box, device: str = "cpu") -> None:
        super().__init__(space)
        self.device = device
        self.count = math.prod(space.shape)
        """Dimensions of an action (A)."""
        self.shape, self.dtype = (self.count,), np.dtype(np.float32)
        self.noise_size = self.uniform_size = self.count
        self._env_shape = space.shape
        self._low = space.low.astype(np.float32).reshape(-1)
        self._half_range = (space.high.astype(np.float32).reshape(-1) - self._low) * np.float32(0.5)

    def env_action(self, action: Array) -> Array:
        """Return actions [N, A] in [-1, 1] with the bounds and the shape of the environment's."""
        return (self._low + (action + 1.0) * self._half_range).reshape(len(action), *self._env_shape)

    def uniform(self, numbers: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> Array:
        """Return uniformly random actions, made of uniform numbers [N, A]."""
        return numbers * 2.0 - 1.0

    def policy(self, distribution: Distribution, mask: Array | None = None) -> Gaussian:
        """Return the Gaussian of a user's Normal [B, A]."""
        normal: Any = distribution.base_dist if isinstance(distribution, Independent) else distribution
        return Gaussian(normal.loc, log(normal.scale))

    def sample(self, policy: Gaussian, noise: Array) -> Array:
        """Return actions of standard normal noise [N, A]."""
        action: Array = policy.sample(noise)[0].array
        return action

    def mode(self, policy: Gaussian) -> Array:
        """Return tanh(mean), the deterministic actions."""
        action: Array = tanh(policy.mean).array
        return action

    def check(self, policy: UserPolicy, outputs: tuple[Any, ...]) -> tuple[str, int]:
        """Raise unless the output of 2 rows is a Normal of [2, A]; return the noise of an action."""
        (found,) = outputs
        normal = found.base_dist if isinstance(found, Independent) else found
        shape = tuple(normal.loc.shape) if isinstance(normal, Normal) else None
        if shape != (2, self.count):
            raise policy.wrong(f"{_described(normal, shape)} where a Normal of shape ({self.count},) is needed")
        return self.noise_kind, self.noise_size

    def decide(self, outputs: tuple[Any, ...], noise: Any, action_mask: Any = None) -> tuple[Array, None, None]:
        """Return the actions [N, A] of a user's Normal; the mode without noise."""
        with no_grad():
            policy = self.policy(outputs[0])
            action = self.mode(policy) if noise is None else self.sample(policy, to_device(noise, self.device))
        return to_host(action), None, None


class DiscreteActions(StoredActions):
    """Actions [N] in 0 ... K - 1 of a Discrete space; the environment's start is added outside the agent."""

    noise_kind = "uniform"
    noise_size = uniform_size = 1

    def __init__(self, space: spaces.Discrete, device: str = "cpu") -> None:
        super().__init__(space)
        self.device = device
        self.count = int(space.n)
        """Number of actions (K)."""

    def env_action(self, action: Array) -> Array:
        """Return the actions as they are."""
        return action

    def uniform(self, numbers: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> Array:
        """Return uniformly random actions among those that masks [N, K] allow, made of uniform numbers [N, 1]."""
        if mask is not None:
            return draw_allowed(numbers[:, 0], mask)
        return (numbers[:, 0] * self.count).astype(np.int64)

    def policy(self, distribution: Categorical, mask: Array | None = None) -> Tensor:
        """Return the log-probabilities [B, K] of a user's Categorical; those of forbidden actions are -inf."""
        logits = distribution.logits
        log_prob: Tensor = log_softmax(logits if mask is None else where(wrap(mask), logits, FORBIDDEN), -1)
        return log_prob

    def sample(self, policy: Tensor, noise: Array) -> Array:
        """Return actions of uniform noise [N, 1]."""
        return drawn(policy, noise)

    def mode(self, policy: Tensor) -> Array:
        """Return the most probable actions."""
        action: Array = policy.array.argmax(axis=-1)
        return action

    def check(self, policy: UserPolicy, outputs: tuple[Any, ...]) -> tuple[str, int]:
        """Raise unless the output of 2 rows is a Categorical over K actions; return the noise of an action."""
        (found,) = outputs
        shape = tuple(found.logits.shape) if isinstance(found, Categorical) else None
        if shape != (2, self.count):
            raise policy.wrong(f"{_described(found, shape)} where a Categorical over {self.count} actions is needed")
        return self.noise_kind, self.noise_size

    def decide(self, outputs: tuple[Any, ...], noise: Any, action_mask: Any = None) -> tuple[Array, None, None]:
        """Return the actions [N] of a user's Categorical among the allowed ones; the mode without noise."""
        mask = None if action_mask is None else to_device(action_mask, self.device)
        with no_grad():
            policy = self.policy(outputs[0], mask)
            action = self.mode(policy) if noise is None else self.sample(policy, to_device(noise, self.device))
        return to_host(action), None, None


ActionKind = BoxActions | DiscreteActions


def _described(distribution: object, shape: tuple[int, ...] | None) -> str:
    """Return the kind of a user's distribution, with its shape for one environment."""
    kind = type(distribution).__name__
    return kind if shape is None else f"{kind} of {shape[1:]}"


def make_actions(space: spaces.Space[Any], config: SACConfig, device: str = "cpu") -> ActionKind:
    """Return the actions of a space; raises ValueError for spaces that SAC does not support."""
    if isinstance(space, spaces.Discrete):
        if config.use_sde:
            raise ValueError(f"use_sde: state-dependent exploration is for Box actions, got {space}")
        return DiscreteActions(space, device)
    if not isinstance(space, spaces.Box):
        raise ValueError(f"SAC: supported action spaces are bounded Box and Discrete, got {space}; PPO takes others")
    if not space.is_bounded("both"):
        raise ValueError(
            f"SAC: a Box of actions must be bounded, got {space}; "
            "gymnasium.wrappers.RescaleAction or ClipAction with bounds of your choice makes it so"
        )
    return BoxActions(space, device)
