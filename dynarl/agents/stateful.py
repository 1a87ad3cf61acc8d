"""Policies with a state, as collectors, learners and `predict` call them."""

from __future__ import annotations

from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynarl.autograd import Tensor, no_grad
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.ops.elementwise import where
from dynarl.autograd.ops.shape import cat
from dynarl.autograd.tape import wrap
from dynarl.rollout import Batch, Feedback, Fragment, map_state
from dynarl.rollout.feedback import encode_action
from dynarl.rollout.stateful import reset_rows, sequence_feedback

__all__ = ["Carried", "Stateful"]


class Carried(NamedTuple):
    """What `predict` hands from one call to the next: the policy's state and the last actions as stored."""

    state: Any
    action: NDArray[Any]


class Stateful:
    """Runs an agent's policy with its state; the contract of such policies stands in dynarl/rollout/feedback.py.

    `agent` gives ``policy, network_input, device, action_space, stored_action, noise_kind, noise_size``.
    """

    def __init__(self, agent: Any) -> None:
        self.agent, self.policy = agent, agent.policy
        self.info_fields = tuple(getattr(self.policy, "info_fields", ()))
        self._check()
        kind, size = self.call(*self._anything(2))[0].noise
        self.noise_kind, self.noise_size = str(kind), int(size)
        self.noise_period = 1

    def initial_state(self) -> Any:
        """Return the state of one environment before its first step, as arrays without batch axis."""
        with no_grad():
            return map_state(_host, self.policy.initial_state())

    def initial_states(self, rows: int) -> Any:
        """Return the state of `rows` environments before their first step."""
        return map_state(lambda leaf: np.repeat(leaf[None], rows, axis=0), self.initial_state())

    def call(self, obs: NDArray[Any], state: Any, feedback: Feedback) -> tuple[Any, Any, Any]:
        """Return distribution, value [N] and next state (arrays) for stored observations [N, ...]."""
        with no_grad():
            inputs = self.agent.network_input(obs)
            distribution, value, after = self.policy(inputs, map_state(self._tensor, state), feedback.map(self._tensor))
        return distribution, to_host(value.array), map_state(lambda _, leaf: to_host(leaf.array), state, after)

    def act(
        self, obs: NDArray[Any], noise: NDArray[np.float32] | None, state: Any, feedback: Feedback
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], Any]:
        """Return action [N, ...], log_prob [N], value [N] and the next state; the mode without noise."""
        distribution, value, after = self.call(obs, state, feedback)
        with no_grad():
            sampled = noise is not None
            action = distribution.sample_from(to_device(noise, self.agent.device)) if sampled else distribution.mode
            log_prob = distribution.log_prob(action)
        return self.agent.stored_action(action), to_host(log_prob.array), value, after

    def value(self, obs: NDArray[Any], state: Any, feedback: Feedback) -> NDArray[Any]:
        """Return V [B] of stored observations [B, ...] in these states."""
        value: NDArray[Any] = self.call(obs, state, feedback)[1]
        return value

    def choose(
        self,
        obs: NDArray[Any],
        noise: NDArray[np.float32] | None,
        carried: Carried | None,
        action_mask: NDArray[np.bool_] | None = None,
        *,
        episode_start: Any = None,
        reward: Any = None,
        info: Any = None,
    ) -> tuple[NDArray[Any], Carried]:
        """Return actions for stored observations [N, ...] and what to hand to the next call.

        Without `carried` every episode starts; `reward` [N] and `info` are what the last actions earned.
        """
        rows = len(obs)
        agent = self.agent
        if carried is None:
            start = np.ones(rows, np.bool_)
            carried = Carried(self.initial_states(rows), np.zeros((rows, *agent.action_shape), agent.action_dtype))
        elif not isinstance(carried, Carried) or len(carried.action) != rows:
            raise ValueError(
                f"predict: state must be what the last call returned for {rows} observations, or None, "
                f"got {f'one of {len(carried.action)}' if isinstance(carried, Carried) else type(carried).__name__}"
            )
        else:
            start = np.zeros(rows, np.bool_) if episode_start is None else np.asarray(episode_start, np.bool_)
            start = np.broadcast_to(start, (rows,))
        earned = np.zeros(rows, np.float32) if reward is None else np.asarray(reward, np.float32).reshape(rows)
        fields = {name: np.zeros(rows, np.float32) for name in self.info_fields}
        for name in self.info_fields if info is not None else ():
            fields[name] = np.asarray(info[name], np.float32).reshape(rows)
        before = encode_action(agent.action_space, carried.action, start)
        feedback = Feedback(before, np.where(start, np.float32(0), earned), start, fields, action_mask)
        state = reset_rows(carried.state, start, self.initial_state())
        action, _, _, after = self.act(obs, noise, state, feedback)
        return action, Carried(after, action)

    # -- learning -------------------------------------------------------------------------------------------------

    def batch(self, fragment: Fragment) -> Batch:
        """Return what learning reads of a fragment, on the policy's device: environment-wise, [T, N, ...]."""
        steps, rows = fragment["valid"].shape
        flat = self.agent.network_input(fragment.obs.reshape(steps * rows, *fragment.obs.shape[2:])).array
        names = ("log_prob", "advantages", "returns", "value", "valid")
        batch = Batch({name: fragment[name] for name in names})
        batch["input"] = flat.reshape(steps, rows, *flat.shape[1:])
        action = fragment.action.reshape(steps, rows, -1) if self.agent.action_shape else fragment.action
        batch["action"] = self.agent.learned_action(action)
        batch["feedback"], batch["state"] = sequence_feedback(fragment, self.agent.action_space), fragment.first_state
        return batch

    def minibatch(self, batch: Batch, env: NDArray[np.int64]) -> Batch:
        """Return the sequences of some environments: rows that count flat [B], the rest [T, n, ...]."""
        valid = batch.valid[:, env]
        found = Batch({name: batch[name][:, env][valid] for name in ("log_prob", "advantages", "returns", "value")})
        found["input"] = batch.input[:, to_device(env, self.agent.device)]
        found["action"] = batch.action[:, env]
        found["feedback"] = batch.feedback.map(lambda column: np.ascontiguousarray(column[:, env]))
        found["state"] = map_state(lambda leaf: leaf[env], batch.state)
        found["rows"] = None if valid.all() else np.flatnonzero(valid)
        return Batch({name: self._on_device(part) for name, part in found.items()})

    def evaluate(self, minibatch: Batch, *, with_entropy: bool) -> tuple[Any, Any, Any]:
        """Return log_prob [B], value [B] and mean entropy of a minibatch's rows, the states computed again."""
        steps, count = minibatch.input.shape[:2]
        feedback = minibatch.feedback.map(wrap)
        state = map_state(wrap, minibatch.state)
        if hasattr(self.policy, "sequence"):
            distribution, value = self.policy.sequence(wrap(minibatch.input), state, feedback)
            log_prob = distribution.log_prob(wrap(minibatch.action.reshape(steps * count, *minibatch.action.shape[2:])))
            entropy = distribution.entropy() if with_entropy else None
        else:
            log_prob, value, entropy = self._steps(minibatch, state, feedback, with_entropy)
        if minibatch.rows is not None:
            log_prob, value = log_prob[minibatch.rows], value[minibatch.rows]
            entropy = None if entropy is None else entropy[minibatch.rows]
        return log_prob, value, None if entropy is None else entropy.mean()

    def _steps(self, minibatch: Batch, state: Any, feedback: Feedback, with_entropy: bool) -> tuple[Any, Any, Any]:
        """Call the policy step by step, as it acted."""
        found: list[list[Any]] = [[], [], []]
        initial = self.policy.initial_state()
        start = minibatch.feedback.episode_start
        for t in range(len(minibatch.input)):
            if to_host(start[t]).any():
                state = map_state(partial(_reset, feedback.episode_start[t]), state, initial)
            said = feedback.map(itemgetter(t))
            distribution, value, state = self.policy(wrap(minibatch.input[t]), state, said)
            found[0].append(distribution.log_prob(wrap(minibatch.action[t])))
            found[1].append(value)
            if with_entropy:
                found[2].append(distribution.entropy())
        log_prob, value, entropy = (cat(parts) if parts else None for parts in found)
        return log_prob, value, entropy

    def _tensor(self, array: Any) -> Tensor:
        tensor: Tensor = wrap(to_device(array, self.agent.device))
        return tensor

    def _on_device(self, part: Any) -> Any:
        if self.agent.device == "cpu" or part is None:
            return part
        if isinstance(part, Feedback):
            return part.map(lambda column: to_device(column, self.agent.device))
        return map_state(lambda leaf: to_device(leaf, self.agent.device), part)

    def _anything(self, rows: int) -> tuple[Any, Any, Feedback]:
        agent = self.agent
        action = np.zeros((rows, *agent.action_shape), agent.action_dtype)
        start = np.ones(rows, np.bool_)
        fields = {name: np.zeros(rows, np.float32) for name in self.info_fields}
        feedback = Feedback(encode_action(agent.action_space, action, start), np.zeros(rows, np.float32), start, fields)
        return agent.any_obs(rows), self.initial_states(rows), feedback

    def _check(self) -> None:
        """Call the policy once and say what is wrong with what it returns."""
        obs, state, feedback = self._anything(2)
        with no_grad():
            out = self.policy(self.agent.network_input(obs), map_state(self._tensor, state), feedback.map(self._tensor))
        if not isinstance(out, tuple) or len(out) != 3 or not hasattr(out[0], "sample_from"):
            raise TypeError(
                "policy: a policy with initial_state() must return (distribution, value, next_state), "
                f"got {type(out).__name__}{f' of {len(out)}' if isinstance(out, tuple) else ''}"
            )
        if tuple(out[1].shape) != (2,):
            raise ValueError(f"policy: the value of 2 observations must have shape (2,), got {tuple(out[1].shape)}")
        map_state(_same_shape, state, out[2])


def _host(leaf: Any) -> NDArray[Any]:
    if not isinstance(leaf, Tensor):
        kind = type(leaf).__name__
        raise TypeError(f"policy: initial_state() must return tensors in tuples and dicts, got {kind}")
    return to_host(leaf.array)


def _same_shape(before: Any, after: Any) -> None:
    if tuple(before.shape) != tuple(after.shape):
        raise ValueError(
            f"policy: a state must keep its shape, for 2 environments {tuple(before.shape)}, got {tuple(after.shape)}"
        )


def _reset(start: Tensor, leaf: Tensor, first: Tensor) -> Tensor:
    reset: Tensor = where(start.reshape(-1, *[1] * (leaf.ndim - 1)), first, leaf)
    return reset
