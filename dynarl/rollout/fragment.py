"""Fragments: the transitions of T steps in N environments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.rollout.feedback import map_state, state_leaves

__all__ = ["Batch", "Final", "Fragment", "ReplayBatch"]

Final = tuple[int, NDArray[np.int64], NDArray[Any]]
"""A step t, the environments [K] whose episodes ended there, and their last observations [K, ...]."""


class Batch(dict[str, Any]):
    """Arrays with equal first dimension B by name: ``batch["reward"]`` is ``batch.reward``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__}: has no {name!r}, it has {sorted(self)}") from None

    def take(self, index: Any) -> Batch:
        """Return the rows ``index`` (integers, a slice or a mask) of every array."""
        return Batch({name: array[index] for name, array in self.items()})

    def minibatches(self, order: NDArray[Any], count: int) -> Iterator[Batch]:
        """Split the rows in ``order`` [B] into ``count`` batches whose sizes differ by at most 1."""
        for index in np.array_split(order, count):
            yield self.take(index)


class ReplayBatch(Batch):
    """A batch that a replay made: its arrays have the replay's layout, so learners need not check them."""


class Fragment(Batch):
    """Time-major arrays [T, N, ...] by name; index t is the transition out of ``obs[t]``.

    Fields: ``obs, action, reward, terminated, truncated, log_prob, value, next_value, valid, episode_start``.
    Attributes: ``env_ids`` [N]; ``first_step``, the environment step at t = 0 (one number, or [N]); ``policy_version``;
    ``last_obs`` [N, ...], the observation at t = T; ``final_index`` [K, 2] (t, n) and ``final_obs`` [K, ...], the last
    observations of episodes whose successor row is a reset; ``episode_return``, ``episode_length`` [E] of the episodes
    that ended (raw rewards). A policy with a state adds ``states, first_action, first_reward, paths``, see
    `StatefulCollector`.
    """

    env_ids: NDArray[np.int64]
    first_step: Any
    policy_version: int
    last_obs: NDArray[Any]
    final_index: NDArray[np.int64]
    final_obs: NDArray[Any]
    episode_return: NDArray[np.float64]
    episode_length: NDArray[np.int64]
    lag: NDArray[np.int64] | None = None
    """[N] updates between the policy that acted and the one that learns, for importance weights; None if always equal.
    """
    stale_steps: int = 0
    """Environment steps collected together with this fragment that were too old to learn from."""
    states: Any
    paths: Any
    first_action: NDArray[Any]
    first_reward: NDArray[np.float32]

    @property
    def num_steps(self) -> int:
        """T."""
        return int(self["valid"].shape[0])

    @property
    def num_envs(self) -> int:
        """N."""
        return int(self["valid"].shape[1])

    @property
    def num_valid(self) -> int:
        """How many environment steps the fragment holds, without dummy rows."""
        return int(np.count_nonzero(self["valid"]))

    def __setitem__(self, name: str, array: NDArray[Any]) -> None:
        """Add a field, [T, N, ...]; raises ValueError for other leading dimensions."""
        shape = self["valid"].shape if "valid" in self else array.shape[:2]
        if array.shape[:2] != shape:
            raise ValueError(f"Fragment: {name} must be [{shape[0]}, {shape[1]}, ...], got {list(array.shape)}")
        super().__setitem__(name, array)

    def close(self, last_obs: NDArray[Any], finals: Sequence[Final], infos: Sequence[Mapping[str, Any]]) -> None:
        """Set the attributes of a filled fragment: the observation at t = T, final observations, and episode infos."""
        index = [np.stack((np.full_like(env, t), env), axis=1) for t, env, _ in finals]
        self.final_index = np.concatenate([np.empty((0, 2), np.int64), *index])
        self.final_obs = np.concatenate([last_obs[:0], *(obs for _, _, obs in finals)])
        self.last_obs = last_obs.copy()
        self.episode_return = np.concatenate([np.empty(0), *(info["episode_return"] for info in infos)])
        self.episode_length = np.concatenate([np.empty(0, np.int64), *(info["episode_length"] for info in infos)])

    def cut_before_dummies(self) -> None:
        """Mark steps that lead to a dummy row without an episode's end as truncated: an environment failed there."""
        valid = self["valid"]
        if not valid.all():
            ended = self["terminated"] | self["truncated"]
            self["truncated"][:-1] |= ~valid[1:] & valid[:-1] & ~ended[:-1]

    def build_next_obs(self) -> NDArray[Any]:
        """Return the successors before any reset, [T, N, ...], built from ``obs``, ``last_obs`` and ``final_obs``."""
        out = np.concatenate((self["obs"][1:], self.last_obs[None]))
        out[self.final_index[:, 0], self.final_index[:, 1]] = self.final_obs
        return out

    def flatten(self) -> Batch:
        """Return the valid rows, [B, ...]: views if all are valid, else copies."""
        valid = self["valid"]
        if valid.all():
            return Batch({k: v.reshape(-1, *v.shape[2:]) for k, v in self.items() if k != "valid"})
        return Batch({k: v[valid] for k, v in self.items() if k != "valid"})

    def copy(self) -> Fragment:
        """Return a fragment with its own memory, which stays valid after the next `Collector.collect`."""
        other = Fragment({name: array.copy() for name, array in self.items()})
        for name, value in vars(self).items():
            setattr(other, name, value.copy() if isinstance(value, np.ndarray) else value)
        return other

    def state_dict(self) -> dict[str, Any]:
        """All fields and attributes, as nested dicts of arrays and numbers."""
        attributes = {name: value for name, value in vars(self).items() if name not in ("states", "paths")}
        state: dict[str, Any] = {"arrays": dict(self), "attributes": attributes}
        if "states" in vars(self):
            state["states"] = {str(i): np.asarray(leaf) for i, leaf in enumerate(state_leaves(self.states))}
            paths = self.paths
            kept = None if paths is None else {"values": paths.values, "first": paths.first, "count": paths.count}
            state["paths"] = kept
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any], *, like: Any = None, paths: Any = None) -> Fragment:
        """Restore a fragment; `like` is an example of the policy's state, `paths` the class of its paths."""
        fragment = cls({name: np.array(array) for name, array in state["arrays"].items()})
        for name, value in state["attributes"].items():
            setattr(fragment, name, np.array(value) if isinstance(value, np.ndarray) else value)
        if "states" in state:
            leaves = iter([state["states"][str(i)] for i in range(len(state["states"]))])
            fragment.states = map_state(lambda _: next(leaves), like)
            fragment.paths = None if state["paths"] is None else paths(**state["paths"])
        return fragment
