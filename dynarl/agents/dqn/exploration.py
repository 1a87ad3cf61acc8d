"""How DQN explores: epsilon-greedily, or by the noise of its network (arXiv:1706.10295)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents import schedules
from dynarl.autograd import philox
from dynarl.envs.masks import draw_allowed

__all__ = ["Exploration"]

# Random numbers are drawn for so many steps at once.
_AHEAD, _NOISE_AHEAD = 512, 64
Mask = NDArray[np.bool_] | None


class Exploration:
    """Epsilon, and the random numbers of an agent's steps, keyed by seed, environment and step."""

    def __init__(self, agent: Any) -> None:
        self.agent, self.config = agent, agent.config
        self.told: tuple[float, int] | None = None
        """Epsilon and the number of environments of the learner that this agent acts for."""
        self._uniform: tuple[int, Any] = (-_AHEAD, None)
        self._noise: tuple[int, Any] = (-_NOISE_AHEAD, None)

    @property
    def epsilon(self) -> float:
        """The share of random actions now: all before learning starts, none with noisy networks after."""
        cfg, env_steps = self.config, self.agent.env_steps
        if env_steps < cfg.learning_starts:
            return 1.0
        if cfg.noisy:
            return 0.0
        return schedules.linear(cfg.epsilon_initial, cfg.epsilon_final, cfg.epsilon_steps, env_steps)

    @property
    def epsilons(self) -> Any:
        """Epsilon of each environment [N], or one number for all."""
        envs, alpha = self.agent.envs, self.config.epsilon_alpha
        epsilon, number = self.told or (self.epsilon, envs.num_envs)
        return schedules.spread(epsilon, alpha, envs.env_ids, number) if alpha else epsilon

    def uniform(self, step: int) -> NDArray[np.float32]:
        """Return the numbers [N, 2] that a step explores by."""
        first, block = self._uniform
        if not first <= step < first + _AHEAD:
            first, block = step, philox.uniform(self.agent.seed, "action", self.agent.envs.env_ids, step, _AHEAD, 2)
            self._uniform = first, block
        numbers: NDArray[np.float32] = block[step - first]
        return numbers

    def noise(self, step: int) -> NDArray[np.float32]:
        """Return the normal numbers of a noisy network for a step, the same for all rows."""
        first, block = self._noise
        if not first <= step < first + _NOISE_AHEAD:
            ids, size = self.agent.envs.env_ids[:1], self.agent.policy.noise_size
            first, block = step, philox.normal(self.agent.seed, "noisy", ids, step, _NOISE_AHEAD, size)
            self._noise = first, block
        numbers: NDArray[np.float32] = block[step - first, 0]
        return numbers

    def random_actions(self, uniform: NDArray[np.float32], mask: Mask) -> NDArray[np.int64]:
        """Return actions [N] drawn by numbers [N, 2] among those that masks [N, A] allow."""
        if mask is not None:
            return draw_allowed(uniform[:, 1], mask)
        return (uniform[:, 1].astype(np.float64) * self.agent.num_actions).astype(np.int64)
