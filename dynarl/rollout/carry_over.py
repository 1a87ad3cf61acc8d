"""Carries the transitions of a stored replay over into one of another size or number of environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.rollout.fragment import Fragment
from dynarl.rollout.replay import ReplayBuffer

__all__ = ["carry_over"]

_BLOCK = 4096
"""Transitions that are copied at a time, which limits the memory for large observations."""


def carry_over(state: Mapping[str, Any], replay: ReplayBuffer, arguments: Mapping[str, Any]) -> int:
    """Write the newest transitions of a replay's state into `replay`, which is empty; return how many.

    `arguments` are those of `ReplayBuffer` without capacity and number of environments. The environments of the state
    follow each other in those of `replay`, each with an equal share of the room. Episodes that were open end there.
    """
    num_envs, rows = int(state["num_envs"]), int(state["rows"])
    old = ReplayBuffer((rows - 1) * num_envs, num_envs, **{**arguments, "n_step": 1})
    old.load_state_dict(state)
    old.cut()
    room = replay.rows - 1
    share, length = max(1, room // -(-num_envs // replay.num_envs)), min(_BLOCK, room)
    for env in range(num_envs):
        index = old.history(env)[-share:]
        for begin in range(0, len(index), length):
            block = index[begin : begin + length]
            replay.add_fragment(_fragment(old, block, env % replay.num_envs, first=begin == 0))
    return len(replay)


def _fragment(old: ReplayBuffer, index: NDArray[np.int64], env: int, *, first: bool) -> Fragment:
    """Return transitions [T] of one environment as a fragment [T, 1] of environment `env`."""
    batch = old.gather(index, np.ones(len(index), np.float32))
    terminated, ended = old.ends(index)
    start = np.concatenate(([first], ended[:-1]))
    columns = {
        "valid": np.ones(len(index), np.bool_), "obs": batch.obs, "action": batch.action, "reward": batch.reward,
        "terminated": terminated, "truncated": ended & ~terminated, "episode_start": start,
    }  # fmt: skip
    columns |= {name: batch[name] for name in ("action_mask", "next_action_mask") if name in batch}
    fragment = Fragment({name: column[:, None] for name, column in columns.items()})
    fragment.env_ids, fragment.last_obs = np.array([env]), batch.next_obs[-1:]
    fragment.final_index = np.stack((np.flatnonzero(ended), np.zeros(ended.sum(), np.int64)), axis=1)
    fragment.final_obs = batch.next_obs[ended]
    return fragment
