"""Exploration of DQN: epsilon-greedy, or by parameter noise (arXiv:1706.10295)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.dqn.config import DQNConfig
from dynarl.autograd import philox
from dynarl.envs.masks import draw_allowed

__all__ = ["StepNoise", "epsilon_at", "exploration_noise", "linear", "random_actions", "spread"]

_BLOCK_STEPS = 512
Mask = NDArray[np.bool_] | None


def linear(start: float, end: float, steps: int, t: int) -> float:
    """Return the value at step t of a line from `start` at 0 to `end` at `steps`, constant from there on."""
    return end if t >= steps else start + (end - start) * (t / steps)


def spread(epsilon: float, alpha: float, index: NDArray[np.int64], number: int) -> NDArray[np.float64]:
    """Return epsilon ** (1 + alpha i / (number - 1)) for every i in `index` (arXiv:1803.00933, section 4.1).

    Of `number` environments the first explore most and the last least. One environment has `epsilon` itself.
    """
    exponent: NDArray[np.float64] = 1.0 + alpha * index / max(1, number - 1)
    return np.float64(epsilon) ** exponent


def epsilon_at(config: DQNConfig, env_steps: int) -> float:
    """Return the probability of a random action: 1 before learning starts, then 0 for noisy networks."""
    if env_steps < config.learning_starts:
        return 1.0
    if config.noisy:
        return 0.0
    return linear(config.epsilon_initial, config.epsilon_final, config.epsilon_steps, env_steps)


def random_actions(uniform: NDArray[np.float32], num_actions: int, mask: Mask) -> NDArray[np.int64]:
    """Return uniformly random actions [N], made of numbers [N], among those that masks [N, A] allow."""
    if mask is not None:
        return draw_allowed(uniform, mask)
    # float32 times num_actions could round up to num_actions itself
    return (uniform.astype(np.float64) * num_actions).astype(np.int64)


class StepNoise:
    """Uniform numbers [N, 2] in [0, 1) for every step of N environments, keyed by seed, environment and step.

    The first decides between a random and a greedy action, the second is the random action. Blocks of steps are drawn
    at once because a call costs as much as hundreds of numbers.
    """

    def __init__(self, seed: int, env_ids: NDArray[np.int64]) -> None:
        self._seed, self._env_ids = seed, env_ids
        self._first, self._block = -_BLOCK_STEPS, np.zeros((0, len(env_ids), 2), np.float32)

    def at(self, step: int) -> NDArray[np.float32]:
        """Return the numbers of a step."""
        if not self._first <= step < self._first + _BLOCK_STEPS:
            self._first = step
            self._block = philox.uniform(self._seed, "action", self._env_ids, step, _BLOCK_STEPS, 2)
        numbers: NDArray[np.float32] = self._block[step - self._first]
        return numbers


def exploration_noise(uniform: NDArray[np.float32], epsilon: float | NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the noise [N, 2] of epsilon-greedy actions made of uniform numbers [N, 2].

    Column 0 is 1 with probability epsilon (one number, or [N]): the action is random. Column 1 is the uniform number
    of the random action.
    """
    noise = uniform.copy()
    noise[:, 0] = uniform[:, 0] < epsilon
    return noise
