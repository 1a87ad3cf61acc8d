"""The collector of policies with a state: carries the state and the feedback from step to step."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dynarl.envs.protocol import Environments
from dynarl.envs.spaces import action_layout
from dynarl.rollout.collect import ActResult, Collector
from dynarl.rollout.feedback import Feedback, encode_action, map_state, state_leaves
from dynarl.rollout.fragment import Fragment

__all__ = ["Rows", "StatefulActingPolicy", "StatefulCollector", "reset_rows", "sequence_feedback"]


class Rows(NamedTuple):
    """Environment ids and steps of a policy's batch, [B] each: the keys of its random numbers."""

    env: NDArray[np.int64]
    step: NDArray[np.int64]


class StatefulActingPolicy(Protocol):
    """The interface of a policy to `StatefulCollector`; arrays are NumPy's, states are trees of arrays [N, ...].

    ``noise_kind`` and ``noise_size`` are those of `ActingPolicy`, ``info_fields`` names of numeric info fields. An
    optional ``sequence_length`` L, a divisor of T, sets the steps at which the fragment keeps states.
    """

    noise_kind: str
    noise_size: int
    info_fields: tuple[str, ...]

    def initial_state(self) -> Any:
        """Return the state of one environment before its first step, without a batch axis."""
        ...

    def act(
        self, obs: NDArray[Any], noise: NDArray[np.float32] | None, state: Any, feedback: Feedback, rows: Rows
    ) -> ActResult:
        """Return the actions for obs [N, ...]."""
        ...

    def value(self, obs: NDArray[Any], state: Any, feedback: Feedback, rows: Rows) -> NDArray[Any]:
        """Return V [B] of obs [B, ...] in these states."""
        ...


class StatefulCollector(Collector):
    """A `Collector` whose fragments have the data to recompute their states.

    Attributes of the fragment: ``states`` (the policy's states [T / L, N, ...] before the steps 0, L, 2 L, ...),
    ``first_action`` and ``first_reward`` [N, ...] (those before t = 0) and ``paths`` [T, N] (None if the policy records
    none). Info fields are ``info/NAME`` [T, N]. The state of an environment is set to the initial one where an episode
    starts, so V of a truncated episode's last observation is computed with the state before the reset.
    """

    policy: Any

    def __init__(self, envs: Environments, policy: StatefulActingPolicy, *, num_steps: int, seed: int = 0) -> None:
        envs.ask_info(policy.info_fields)
        super().__init__(envs, policy, num_steps=num_steps, seed=seed)  # type: ignore[arg-type]  # acts with a state
        shape, dtype = action_layout(envs.action_space)
        self._action = np.zeros((envs.num_envs, *shape), dtype)
        self._reward = np.zeros(envs.num_envs, np.float32)
        self._state = map_state(lambda leaf: np.repeat(leaf[None], envs.num_envs, axis=0), policy.initial_state())
        self._ends: list[tuple[Any, Feedback]] = []
        self._end_rows: list[Rows] = []
        self._state_every = getattr(policy, "sequence_length", num_steps)

    def collect(self, policy_version: int = 0) -> Fragment:
        """Make ``num_steps`` steps and return them as a `Fragment`, whose memory the next call reuses."""
        envs, policy = self.envs, self.policy
        self.begin()
        fragment, initial = self._fragment, policy.initial_state()
        states, paths = [], []
        fragment.first_action, fragment.first_reward = self._action, self._reward
        finals: list[tuple[int, NDArray[Any], NDArray[Any]]] = []
        infos: list[Any] = []
        self._ends, self._end_rows = [], []
        noise, masks = self._noise_block(), self._mask_memory()
        for t in range(self.num_steps):
            obs, start = envs.obs, envs.episode_start
            fragment["obs"][t], fragment["episode_start"][t] = obs, start
            feedback = self._feedback(start, None if envs.info is None else envs.info.now, envs.action_mask)
            if masks is not None:
                masks[t] = envs.action_mask
            for name, column in feedback.info.items():
                fragment["info/" + name][t] = column
            if t % self._state_every == 0:
                states.append(self._state)
            state = reset_rows(self._state, start, initial)
            rows = self._rows(t)
            action, log_prob, value, state, path = policy.act(
                obs, None if noise is None else noise[t], state, feedback, rows
            )
            if path is not None:
                paths.append(path)
            fragment["action"][t], fragment["log_prob"][t], fragment["value"][t] = action, log_prob, value
            next_obs, reward, terminated, truncated, valid, info = envs.step(action)
            fragment["reward"][t], fragment["valid"][t] = reward, valid
            fragment["terminated"][t], fragment["truncated"][t] = terminated, truncated
            self._state, self._action, self._reward = state, action, reward.astype(np.float32)
            if info:
                infos.append(info)
                if envs.obs is not next_obs:
                    finals.append((t, info["env"], next_obs[info["env"]]))
                    self._ends.append(self._end(info["env"]))
                    self._end_rows.append(Rows(*(column[info["env"]] for column in self._rows(t + 1))))
        fragment.states = map_state(lambda *leaves: np.stack(leaves), *states)
        fragment.paths = paths[0].stack(paths) if paths else None
        self._close(fragment, finals, infos, policy_version)
        self.step += self.num_steps
        return fragment

    def state_dict(self) -> dict[str, Any]:
        """The state of `Collector`, the policy's state, and the last action and reward."""
        leaves = {str(i): np.array(leaf) for i, leaf in enumerate(state_leaves(self._state))}
        before = {"action": self._action.copy(), "reward": self._reward.copy()}
        return {**super().state_dict(), "policy_state": leaves, "before": before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        super().load_state_dict(state)
        if "groups" in state:
            return
        leaves = iter([np.array(state["policy_state"][str(i)]) for i in range(len(state["policy_state"]))])
        self._state = map_state(lambda _: next(leaves), self._state)
        self._action = np.array(state["before"]["action"])
        self._reward = np.array(state["before"]["reward"])

    def _rows(self, t: int) -> Rows:
        return Rows(self.envs.env_ids, np.full(self.envs.num_envs, self.step + t))

    def _feedback(self, start: NDArray[np.bool_], info: Any, mask: Any) -> Feedback:
        action = encode_action(self.envs.action_space, self._action, start)
        return Feedback(action, np.where(start, np.float32(0), self._reward), start, info or {}, mask)

    def _end(self, env: NDArray[np.int64]) -> tuple[Any, Feedback]:
        """Return state and feedback of episodes that just ended, before any reset."""
        no_start = np.zeros(self.envs.num_envs, np.bool_)
        info = None if self.envs.info is None else self.envs.info.reached
        feedback = self._feedback(no_start, info, self.envs.next_action_mask)
        return map_state(lambda leaf: leaf[env], self._state), feedback.map(lambda column: column[env])

    def _values(self, obs: NDArray[Any], bootstrap: NDArray[np.bool_]) -> NDArray[Any]:
        start = self.envs.episode_start
        info = None if self.envs.info is None else self.envs.info.now
        cut = self._feedback(start, info, self.envs.action_mask)
        # Where an episode ended at the cut, `_close` uses the V of its row in `self._ends` instead.
        state = reset_rows(self._state, start, self.policy.initial_state())
        rows = self._rows(self.num_steps)
        if self._ends:
            before = [np.concatenate(column)[bootstrap] for column in zip(*self._end_rows)]
            rows = Rows(*(np.concatenate(columns) for columns in zip(before, rows)))
            states, feedbacks = zip(*self._ends)
            kept = map_state(lambda *parts: np.concatenate(parts)[bootstrap], *states)
            state = map_state(lambda *parts: np.concatenate(parts), kept, state)
            ended = Feedback(*map_state(lambda *parts: np.concatenate(parts)[bootstrap], *map(tuple, feedbacks)))
            cut = Feedback(*map_state(lambda *parts: np.concatenate(parts), tuple(ended), tuple(cut)))
        return np.asarray(self.policy.value(obs, state, cut, rows))

    def _allocate(self) -> Fragment:
        fragment = super()._allocate()
        for name in self.policy.info_fields:
            fragment["info/" + name] = np.zeros(fragment["valid"].shape, np.float32)
        return fragment


def reset_rows(state: Any, start: NDArray[np.bool_], initial: Any) -> Any:
    """Return states [N, ...] with the initial state in rows where an episode starts."""
    if not start.any():
        return state

    def reset(leaf: Any, first: Any) -> Any:
        return np.where(start.reshape(-1, *[1] * (leaf.ndim - 1)), first, leaf)

    return map_state(reset, state, initial)


def sequence_feedback(fragment: Fragment, action_space: Any) -> Feedback:
    """Return the feedback [T, N, ...] that the policy received at each row of a fragment."""
    start = fragment["episode_start"]
    before = np.concatenate((fragment.first_action[None], fragment["action"][:-1]))
    reward = np.concatenate((fragment.first_reward[None], fragment["reward"][:-1]))
    info = {name.removeprefix("info/"): column for name, column in fragment.items() if name.startswith("info/")}
    earned, mask = np.where(start, np.float32(0), reward), fragment.get("action_mask")
    return Feedback(encode_action(action_space, before, start), earned, start, info, mask)
