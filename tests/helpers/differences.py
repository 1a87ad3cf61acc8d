"""Compare nested states bit by bit."""

import numpy as np


def differences(one, other, path=""):
    """Return the paths at which two nested states differ."""
    if isinstance(one, dict):
        if not isinstance(other, dict) or set(one) != set(other):
            return [path or "keys"]
        return [found for key in one for found in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [path]
        return [found for i, (a, b) in enumerate(zip(one, other)) for found in differences(a, b, f"{path}/{i}")]
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        return [] if one.dtype == other.dtype and one.tobytes() == other.tobytes() else [path]
    return [] if one == other else [path]
