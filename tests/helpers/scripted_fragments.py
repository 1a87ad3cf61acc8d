"""Random scripts of episodes, a policy for them, and the rows of their fragments."""

import numpy as np
from hypothesis import strategies as st

from dynarl.rollout import ActResult

ENDS = [(True, False), (False, True), (True, True)]
episodes = st.tuples(st.integers(1, 6), st.sampled_from(ENDS)).map(lambda e: (e[0], *e[1]))
scripts = st.lists(st.lists(episodes, min_size=1, max_size=4), min_size=1, max_size=3)


class Linear:
    """V is a number of the observation, different for every one."""

    noise_kind, noise_size = "none", 0

    def __init__(self):
        self.forwards = 0

    def value(self, obs):
        self.forwards += 1
        return (obs[:, 0] * 100 + obs[:, 1] * 10 + obs[:, 2] + 0.5).astype(np.float32)

    def act(self, obs, noise, *, explore, action_mask=None):
        self.forwards += 1
        value = (obs[:, 0] * 100 + obs[:, 1] * 10 + obs[:, 2] + 0.5).astype(np.float32)
        return ActResult(np.zeros(len(obs), np.int64), -value, value)


def rows_of(fragments, n):
    """Valid rows of environment n of all fragments, by field."""
    out = {}
    for fragment in fragments:
        keep = fragment.valid[:, n]
        for name, array in {**fragment, "next_obs": fragment.build_next_obs()}.items():
            out.setdefault(name, []).append(array[keep, n])
    return {name: np.concatenate(arrays) for name, arrays in out.items()}
