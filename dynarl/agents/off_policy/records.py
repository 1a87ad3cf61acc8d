"""Observations of a policy with a state as the replay stores them: with their feedback and the state of acting."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.user_policy.runner import PolicyRunner
from dynarl.rollout import Feedback, map_state
from dynarl.rollout.feedback import state_leaves
from dynarl.rollout.packed import packed_rows

__all__ = ["RecordLayout"]


class RecordLayout:
    """Packs an observation, its feedback and the state before it into bytes [B, size], the items of the replay.

    A policy without initial_state() reads the observation alone: its records are the observations themselves
    (`plain`).
    """

    def __init__(self, runner: PolicyRunner) -> None:
        encoder = runner.encoder
        layout = encoder.layout
        self.runner = runner
        self.plain = not runner.policy.has_state
        if encoder.is_ragged and not self.plain:
            raise ValueError(
                f"policy: observations of varying size, {encoder.space}, are replayed for policies "
                "without initial_state() alone; PPO takes both"
            )
        self.packing = packed_rows(encoder.space)
        obs = (layout.shape, layout.dtype) if self.packing is None else self.packing.layout
        _, state, feedback = runner.example_inputs(1)
        self._fields = [
            ("obs", obs[1], obs[0]),
            ("action", np.float32, feedback.action.shape[1:]),
            ("reward", np.float32, ()),
            ("start", np.bool_, ()),
            *((f"info/{name}", np.float32, ()) for name in runner.info_fields),
            *((f"state/{i}", leaf.dtype, leaf.shape[1:]) for i, leaf in enumerate(state_leaves(state))),
        ]
        self._dtype = np.dtype(self._fields)
        self.layout: tuple[tuple[int, ...], Any] = (layout.shape, layout.dtype)
        if not self.plain:
            self.layout = ((self._dtype.itemsize,), np.uint8)

    def pack(self, obs: NDArray[Any], feedback: Feedback, state: Any) -> NDArray[Any]:
        """Return the records of N observations."""
        if self.plain:
            return obs
        records = np.zeros(len(obs), self._dtype)
        records["obs"] = obs if self.packing is None else self.packing.pack(obs)
        records["action"], records["reward"] = feedback.action, feedback.reward
        records["start"] = feedback.episode_start
        for name, column in feedback.info.items():
            records[f"info/{name}"] = column
        for i, leaf in enumerate(state_leaves(state)):
            records[f"state/{i}"] = leaf
        return records.view(np.uint8).reshape(len(obs), -1)

    def unpack(self, packed: NDArray[Any], mask: Any) -> tuple[NDArray[Any], Any, Feedback]:
        """Return observations, state and feedback of records, with the action masks [B, M] of their observations."""
        if self.plain:
            rows = len(packed)
            empty = np.zeros((rows, 0), np.float32), np.zeros(rows, np.float32), np.zeros(rows, np.bool_)
            return packed, (), Feedback(*empty, {}, mask)
        records = np.ascontiguousarray(packed).view(self._dtype)[:, 0]
        column = {name: np.ascontiguousarray(records[name]) for name, *_ in self._fields}
        obs = column["obs"] if self.packing is None else self.packing.unpack(column["obs"])
        info = {name: column[f"info/{name}"] for name in self.runner.info_fields}
        leaves = iter([column[name] for name, *_ in self._fields if name.startswith("state/")])
        state = map_state(lambda _: next(leaves), self.runner.initial_state())
        return obs, state, Feedback(column["action"], column["reward"], column["start"], info, mask)
