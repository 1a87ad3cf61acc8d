"""Policies that are programs or have a state, as collectors and `predict` call them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.agents.user_policy.auxiliary import check_extra, extra_of
from dynarl.agents.user_policy.cost import ComputeMeter
from dynarl.agents.user_policy.policy import UserPolicy
from dynarl.autograd import Tensor, no_grad, tensor
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.ops.elementwise import where
from dynarl.autograd.tape import wrap
from dynarl.batching import DecisionRecorder, Draws
from dynarl.envs.masks import mask_size
from dynarl.rollout import ActResult, Feedback, Rows, map_state
from dynarl.rollout.feedback import encode_action, state_leaves
from dynarl.rollout.stateful_collector import reset_rows

__all__ = ["PolicyRunner", "PolicyState", "check_actor_critic", "kept"]


class PolicyState(NamedTuple):
    """What `predict` hands from one call to the next: the policy's state, the last actions as stored, and a count."""

    state: Any
    action: NDArray[Any]
    step: int = 0


class PolicyRunner:
    """Runs an agent's policy with its state; the contract of policies stands in dynarl/rollout/feedback.py.

    `agent` gives ``network_input, device, action_space, action_shape, action_dtype, seed`` and two functions of what
    the policy returns besides its state: ``check_outputs(program, outputs)``, which refuses what is wrong of 2 rows
    and returns kind and size of the noise of a row, and ``decide(outputs, noise, action_mask)``, which returns
    actions as stored, log_prob and value (None where the agent has no use for them). `sequence_length` steps are
    learned from together; a policy whose state is empty learns from single steps. With `record_paths`, acting keeps
    what per-sample programs decide.
    """

    def __init__(self, agent: Any, program: UserPolicy, *, sequence_length: int, record_paths: bool = False) -> None:
        self.agent, self.program, self.compute = agent, program, ComputeMeter()
        self.info_fields = program.info_fields
        self.sequence_length = sequence_length if state_leaves(program.initial_state()) else 1
        self.keeps_paths = record_paths and program.per_sample
        self.noise_kind, self.noise_size = self._check()
        self.noise_period = 1

    def check_replay(self, config: Any) -> None:
        """Refuse settings of agents that learn from a replay which a policy with a state cannot have."""
        if not state_leaves(self.program.initial_state()):
            return
        prioritized = getattr(config, "prioritized", False)
        if prioritized or config.n_step > 1:
            what = "prioritized" if prioritized else f"n_step {config.n_step}"
            raise ValueError(f"{what}: not with a policy that has a state, which learns from sequences drawn uniformly")
        if config.batch_size < config.sequence_length:
            raise ValueError(
                f"batch_size: must be at least sequence_length {config.sequence_length}, got {config.batch_size}"
            )

    def initial_state(self) -> Any:
        """Return the state of one environment before its first step, as arrays without batch axis."""
        with no_grad():
            return map_state(lambda leaf: to_host(leaf.array), self.initial())

    def initial(self) -> Any:
        """Return that state as tensors, with their gradients."""
        return map_state(self._leaf, self.program.initial_state())

    def begin(self, start: Tensor, state: Any) -> Any:
        """Return states [N, ...] with the initial one, and gradients to it, where an episode starts."""

        def reset(leaf: Tensor, first: Tensor) -> Any:
            return where(start.reshape(-1, *[1] * (leaf.ndim - 1)), first, leaf)

        return map_state(reset, state, self.initial())

    def initial_states(self, rows: int) -> Any:
        """Return the state of `rows` environments before their first step."""
        return map_state(lambda leaf: np.repeat(leaf[None], rows, axis=0), self.initial_state())

    def draws(self, rows: Rows, purpose: str = "per-sample") -> Draws | None:
        """Return the random streams of rows in a per-sample program."""
        if not self.program.per_sample:
            return None
        return Draws(self.agent.seed, rows.env, rows.step, purpose=purpose)

    def call(
        self,
        obs: NDArray[Any],
        state: Any,
        feedback: Feedback,
        draws: Any = None,
        recorder: DecisionRecorder | None = None,
    ) -> tuple[tuple[Any, ...], Any]:
        """Return what the policy returns for stored observations [N, ...], and its next state as arrays."""
        with no_grad():
            inputs = self.agent.network_input(obs)
            given = map_state(self.tensor, state), feedback.map(self.tensor)
            out = self.program(inputs, *given, draws=draws, recorder=recorder)
            *outputs, after = out[: self.program.returned]
            after = map_state(kept, state, after)
        return tuple(outputs), map_state(lambda leaf: to_host(leaf.array), after)

    def act(
        self,
        obs: NDArray[Any],
        noise: NDArray[np.float32] | None,
        state: Any,
        feedback: Feedback,
        rows: Rows,
        purpose: str = "per-sample",
    ) -> ActResult:
        """Return what the policy does; the mode without noise."""
        recorder = DecisionRecorder(len(obs), keep=self.keeps_paths) if self.program.per_sample else None
        outputs, after = self.call(obs, state, feedback, self.draws(rows, purpose), recorder)
        action, log_prob, value = self.agent.decide(outputs, noise, feedback.action_mask)
        paths = None
        if recorder is not None:
            paths = recorder.paths() if self.keeps_paths else None
            if purpose == "per-sample":
                self.compute.add("acting", self.program.last, recorder.steps)
        return ActResult(action, log_prob, value, after, paths)

    def value(self, obs: NDArray[Any], state: Any, feedback: Feedback, rows: Rows) -> NDArray[Any]:
        """Return V [B] of stored observations [B, ...] in these states."""
        value: NDArray[Any] = to_host(self.call(obs, state, feedback, self.draws(rows))[0][1].array)
        return value.reshape(-1)

    def choose(
        self,
        obs: NDArray[Any],
        noise: NDArray[np.float32] | None,
        carried: PolicyState | None,
        action_mask: NDArray[np.bool_] | None = None,
        *,
        episode_start: Any = None,
        reward: Any = None,
        info: Any = None,
    ) -> tuple[NDArray[Any], PolicyState]:
        """Return actions for stored observations [N, ...] and what to hand to the next call.

        Without `carried` every episode starts; `reward` [N] and `info` are what the last actions earned.
        """
        rows = len(obs)
        agent = self.agent
        if carried is None:
            start = np.ones(rows, np.bool_)
            carried = PolicyState(self.initial_states(rows), np.zeros((rows, *agent.action_shape), agent.action_dtype))
        elif not isinstance(carried, PolicyState) or len(carried.action) != rows:
            raise ValueError(
                f"predict: state must be what the last call returned for {rows} observations, or None, "
                f"got {f'one of {len(carried.action)}' if isinstance(carried, PolicyState) else type(carried).__name__}"
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
        step = carried.step if noise is None else agent.predictions
        at = Rows(np.arange(rows), np.full(rows, step))
        acted = self.act(obs, noise, state, feedback, at, "evaluate" if noise is None else "predict")
        return acted.action, PolicyState(acted.state, acted.action, carried.step + 1)

    def tensor(self, array: Any) -> Tensor:
        """Return an array as a tensor on the agent's device."""
        tensor: Tensor = wrap(to_device(array, self.agent.device))
        return tensor

    def _leaf(self, leaf: Any) -> Tensor:
        """Return a leaf of the initial state as a tensor; a policy may give it as a number."""
        if isinstance(leaf, (bool, int, float)):
            return tensor(leaf, device=self.agent.device)
        if not isinstance(leaf, Tensor):
            kind = type(leaf).__name__
            raise TypeError(f"policy: initial_state() must return tensors and numbers in tuples and dicts, got {kind}")
        return leaf

    def anything(self, rows: int) -> tuple[Any, Any, Feedback]:
        """Return valid observations, states and feedback of some rows."""
        agent = self.agent
        action = np.zeros((rows, *agent.action_shape), agent.action_dtype)
        start = np.ones(rows, np.bool_)
        fields = {name: np.zeros(rows, np.float32) for name in self.info_fields}
        mask = None
        if isinstance(agent.action_space, spaces.Discrete | spaces.MultiDiscrete) and (
            self.program.has_state or self.program.needs_mask
        ):
            mask = np.ones((rows, mask_size(agent.action_space)), np.bool_)
        before = encode_action(agent.action_space, action, start)
        feedback = Feedback(before, np.zeros(rows, np.float32), start, fields, mask)
        return agent.any_obs(rows), self.initial_states(rows), feedback

    def _check(self) -> tuple[str, int]:
        """Call the policy once, say what is wrong with what it returns, and return the noise it takes."""
        program, (obs, state, feedback) = self.program, self.anything(2)
        with no_grad():
            given = map_state(self.tensor, state), feedback.map(self.tensor)
            out = program.first_call(self.agent.network_input(obs), *given)
        count = program.returned
        if not isinstance(out, tuple) or not count <= len(out) <= count + program.takes_extra:
            shown = out if program.has_state else (*out[: count - 1], *out[count:]) if len(out) > 2 else out[0]
            raise program.wrong(f"{type(shown).__name__}{f' of {len(shown)}' if isinstance(shown, tuple) else ''}")
        kind, size = self.agent.check_outputs(program, out[: count - 1])
        map_state(kept, state, out[count - 1])
        check_extra(extra_of(out), 2)
        return str(kind), int(size)


def check_actor_critic(program: UserPolicy, outputs: tuple[Any, ...]) -> tuple[str, int]:
    """Refuse what is no distribution and value of 2 rows; return the noise that the distribution takes."""
    distribution, value = outputs
    if not hasattr(distribution, "sample_from"):
        raise program.wrong(f"{type(distribution).__name__} in place of the distribution")
    lead, shape = tuple(distribution.batch_shape), tuple(getattr(value, "shape", ()))
    if program.per_sample and (lead != (2,) or shape not in ((2,), (2, 1))):
        raise program.wrong(f"a distribution of batch_shape {lead[1:]} and a value of shape {shape[1:]}")
    if shape not in ((2,), (2, 1))[: 1 + program.per_sample]:
        raise ValueError(f"policy: the value of 2 observations must have shape (2,), got {shape}")
    noise: tuple[str, int] = distribution.noise
    return noise


def kept(before: Any, after: Any) -> Any:
    """Return the next state in the dtype of the one before; raise for another shape or one that loses digits."""
    if tuple(before.shape) != tuple(after.shape):
        raise ValueError(
            f"policy: a state must keep its shape, for {len(before)} environments {tuple(before.shape)}, "
            f"got {tuple(after.shape)}"
        )
    if before.dtype == after.dtype:
        return after
    if "biuf".index(after.dtype.kind) > "biuf".index(before.dtype.kind):
        raise TypeError(
            f"policy: a state must keep its dtype, {before.dtype} in initial_state() cannot hold {after.dtype}"
        )
    return after.to(before.dtype)
