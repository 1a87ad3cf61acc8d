"""Random transitions for replays, and the test statistic of their samples."""

import numpy as np

OBS, ACTION = ((2,), np.float32), ((), np.int64)


def play(replays, rng, steps, num_envs, *, end=0.2, dummies=False):
    """Write the same random steps into several replays; no two observations are equal."""
    draw = lambda: rng.normal(size=(num_envs, 2)).astype(np.float32)  # noqa: E731
    obs = draw()
    for _ in range(steps):
        terminated, truncated = rng.random((2, num_envs)) < end
        valid = rng.random(num_envs) > (0.3 if dummies else 0.0)
        next_obs, reward, action = draw(), rng.normal(size=num_envs), rng.integers(0, 5, num_envs)
        for replay in replays:
            replay.add(obs, action, reward, terminated, truncated, next_obs, valid)
        going = np.where((terminated | truncated)[:, None], draw(), next_obs)
        obs = np.where(valid[:, None], going, obs)


def chi_square(counts, expected):
    """Standardised: about normal(0, 1) for many cells if the counts are as expected."""
    statistic = (np.square(counts - expected) / expected).sum()
    freedom = len(counts) - 1
    return (statistic - freedom) / np.sqrt(2 * freedom)
