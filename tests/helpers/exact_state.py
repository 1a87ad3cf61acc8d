"""A state of environments that is exact: what follows is the same wherever it is loaded."""

import numpy as np

from dynarl.envs import make


def assert_exact_state(name, actions, *, cut):
    """Load the state after `cut` of the actions [T, 2] elsewhere, and compare what the others do."""
    one, other = (make(name, 2, seed=1) for _ in range(2))
    assert one.exact_state
    one.reset()
    for action in actions[:cut]:
        one.step(action)
    other.load_state_dict(one.state_dict())
    for action in actions[cut:]:
        for a, b in zip(one.step(action)[:4], other.step(action)[:4]):
            np.testing.assert_array_equal(a, b)
