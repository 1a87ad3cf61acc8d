"""Gymnasium's vectorised CartPole with its resets in our hands."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

__all__ = ["ResettableCartPole"]


class ResettableCartPole(CartPoleVectorEnv):
    """`CartPoleVectorEnv` in autoreset mode DISABLED, with a seed per environment.

    Gymnasium's own form resets in a step of its own (dummy rows) and draws all starts from one stream,
    so an environment's episodes depend on its neighbours. Here environment i reset with seed s starts
    where the single CartPole-v1 reset with seed s does, and the whole state is ``state`` and ``steps``.
    """

    metadata = {**CartPoleVectorEnv.metadata, "autoreset_mode": AutoresetMode.DISABLED}
    accepts_seed_list = True

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Reset the environments in ``options["reset_mask"]`` (all by default) with their seeds."""
        if self.state is None:
            self.state = np.zeros((4, self.num_envs))
        mask = None if options is None else options.get("reset_mask")
        which = range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist()
        for i in which:
            rng = np.random.Generator(np.random.PCG64(None if seed is None else seed[i]))
            self.state[:, i] = rng.uniform(low=-0.05, high=0.05, size=4)
            self.steps[i] = 0
        self.prev_done[:] = False
        return self.state.T.astype(np.float32), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Step all environments; none is reset."""
        self.prev_done[:] = False
        return super().step(actions)  # type: ignore[no-any-return, unused-ignore]
