"""Gymnasium's vectorised CartPole with resets under the caller's control."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.spaces import MultiDiscrete
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

__all__ = ["ResettableCartPole"]


class _Pushes(MultiDiscrete):
    """The space of N actions in {0, 1} with a check of half a microsecond: gymnasium's took a quarter of a step."""

    def contains(self, x: Any) -> bool:
        """Return whether x is an integer array [N] of zeros and ones."""
        return bool(x.shape == self.shape and x.dtype.kind in "iu" and not np.count_nonzero(x & -2))


class ResettableCartPole(CartPoleVectorEnv):
    """`CartPoleVectorEnv` in autoreset mode DISABLED, with one seed per environment.

    Gymnasium's form resets in a separate step (dummy rows) and draws all initial states from one stream, so an
    environment's episodes depend on the other environments. Here environment i, reset with seed s, starts in the state
    of the single CartPole-v1 reset with seed s, and the whole state is ``state`` and ``steps``.
    """

    metadata = {**CartPoleVectorEnv.metadata, "autoreset_mode": AutoresetMode.DISABLED}

    state: Any
    steps: NDArray[np.int32]
    prev_done: NDArray[np.bool_]

    def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
        super().__init__(num_envs, **kwargs)
        self.action_space = _Pushes([2] * num_envs)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Reset the environments in ``options["reset_mask"]`` (default: all) with their seeds."""
        if self.state is None:
            self.state = np.zeros((4, self.num_envs))
        mask = None if options is None else options.get("reset_mask")
        which = range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist()
        for i in which:
            # As gymnasium's np_random(seed).uniform(-0.05, 0.05): same generator, same floating-point operations.
            rng = np.random.Generator(np.random.PCG64(None if seed is None else seed[i]))
            self.state[:, i] = -0.05 + (0.05 - -0.05) * rng.random(4)
        self.steps[which] = 0
        # step() resets the environments marked here: none, since the caller resets all that ended.
        self.prev_done = np.zeros(self.num_envs, np.bool_)
        return self.state.T.astype(np.float32), {}
