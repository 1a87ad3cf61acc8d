"""What off-policy agents keep for programs: state and feedback carried from step to step, and stored in the replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.off_policy.old_runner import OldRunner
from dynarl.agents.user_policy.policy import merging, set_merging
from dynarl.envs import Environments
from dynarl.envs.protocol import Step
from dynarl.rollout import Batch, Feedback, ReplayBuffer, Rows, map_state
from dynarl.rollout.feedback import encode_action, state_leaves
from dynarl.rollout.packed import packed_rows
from dynarl.rollout.stateful_collector import reset_rows

__all__ = ["RecordLayout", "ReplayWriter"]


class RecordLayout:
    """Packs an observation with its feedback and the state it was met in into bytes [B, size], as the replay's items.

    A policy without a state is told nothing but the observation: then records are the observations themselves.
    """

    def __init__(self, stateful: OldRunner) -> None:
        self.stateful, layout = stateful, stateful.agent.layout
        self.plain = not stateful.program.has_state
        if layout.dtype == object and not self.plain:
            raise ValueError(
                f"policy: observations of varying size, {stateful.agent.observation_space}, are replayed for policies "
                "without initial_state() alone; PPO takes both"
            )
        self.packing = packed_rows(stateful.agent.observation_space)
        obs = (layout.shape, layout.dtype) if self.packing is None else self.packing.layout
        _, state, feedback = stateful.anything(1)
        self._fields = [
            ("obs", obs[1], obs[0]),
            ("action", np.float32, feedback.action.shape[1:]),
            ("reward", np.float32, ()),
            ("start", np.bool_, ()),
            *((f"info/{name}", np.float32, ()) for name in stateful.info_fields),
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
            nothing = np.zeros((rows, 0), np.float32), np.zeros(rows, np.float32), np.zeros(rows, np.bool_)
            return packed, (), Feedback(*nothing, {}, mask)
        records = np.ascontiguousarray(packed).view(self._dtype)[:, 0]
        column = {name: np.ascontiguousarray(records[name]) for name, *_ in self._fields}
        obs = column["obs"] if self.packing is None else self.packing.unpack(column["obs"])
        info = {name: column[f"info/{name}"] for name in self.stateful.info_fields}
        leaves = iter([column[name] for name, *_ in self._fields if name.startswith("state/")])
        state = map_state(lambda _: next(leaves), self.stateful.initial_state())
        return obs, state, Feedback(column["action"], column["reward"], column["start"], info, mask)


class ReplayWriter:
    """Acts with a program in environments, one step at a time, and stores what happened in a replay."""

    def __init__(self, stateful: OldRunner, envs: Environments) -> None:
        envs.ask_info(stateful.info_fields)
        self.stateful, self.envs, self.records = stateful, envs, RecordLayout(stateful)
        agent, rows = stateful.agent, envs.num_envs
        self._state = stateful.initial_states(rows)
        self._action = np.zeros((rows, *agent.action_shape), agent.action_dtype)
        self._reward = np.zeros(rows, np.float32)

    def step(
        self,
        replay: ReplayBuffer,
        noise: NDArray[np.float32],
        step: int,
        *,
        instead: NDArray[Any] | None = None,
        env_action: Callable[[NDArray[Any]], NDArray[Any]] = lambda action: action,
    ) -> Step:
        """Act once in every environment (`instead` are actions to take in place of the policy's) and store it.

        `step` keys the program's random numbers, `env_action` turns actions into those of the environments.
        """
        envs, stateful = self.envs, self.stateful
        obs, start, mask = envs.obs, envs.episode_start, envs.action_mask
        now = self._feedback(self._action, self._reward, start, None if envs.info is None else envs.info.now, mask)
        state = reset_rows(self._state, start, stateful.initial_state())
        rows = Rows(envs.env_ids, np.full(envs.num_envs, step))
        acted = stateful.act(obs, noise, state, now, rows)
        action = acted.action if instead is None else instead
        before = self.records.pack(obs, now, state)
        result = envs.step(env_action(action))
        reward, goes_on = result.reward.astype(np.float32), np.zeros(envs.num_envs, np.bool_)
        info = None if envs.info is None else envs.info.reached
        reached = self._feedback(action, reward, goes_on, info, envs.next_action_mask)
        after = self.records.pack(result.next_obs, reached, acted.state)
        masks = {} if mask is None else {"action_mask": mask, "next_action_mask": envs.next_action_mask}
        replay.add(before, action, result.reward, result.terminated, result.truncated, after, result.valid, **masks)
        self._state, self._action, self._reward = acted.state, action, reward
        return result

    def _feedback(self, action: Any, reward: Any, start: NDArray[np.bool_], info: Any, mask: Any) -> Feedback:
        encoded = encode_action(self.envs.action_space, action, start)
        return Feedback(encoded, np.where(start, np.float32(0), reward), start, info or {}, mask)

    def sequences(self, replay: ReplayBuffer, count: int, length: int, rng: np.random.Generator) -> Batch:
        """Draw `count` sequences of `length` transitions, [length * count] in time-major order.

        `kept` is False behind the end of an episode and of what is stored.
        """
        index, kept = replay.following(replay.draw(count, rng), length)
        batch = replay.gather(index.reshape(-1), np.ones(index.size, np.float32))
        batch["kept"] = kept.reshape(-1)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The policy's state and what came before the next step."""
        leaves = {str(i): np.array(leaf) for i, leaf in enumerate(state_leaves(self._state))}
        before = {"action": self._action.copy(), "reward": self._reward.copy()}
        return {"state": leaves, **before, "merging": merging(self.stateful.agent.networks().values())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        leaves = iter([np.array(state["state"][str(i)]) for i in range(len(state["state"]))])
        self._state = map_state(lambda _: next(leaves), self._state)
        self._action, self._reward = np.array(state["action"]), np.array(state["reward"])
        set_merging(self.stateful.agent.networks().values(), state.get("merging", ()))
