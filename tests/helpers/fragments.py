"""Random fragments as arguments of return estimators."""

import numpy as np


def fragment(rng, steps, envs):
    terminated, truncated = rng.random((2, steps, envs)) < 0.3
    return {
        "reward": rng.normal(size=(steps, envs)).astype(np.float32),
        "value": rng.normal(size=(steps, envs)).astype(np.float32),
        "next_value": rng.normal(size=(steps, envs)).astype(np.float32),
        "terminated": terminated,
        "truncated": truncated,
    }
