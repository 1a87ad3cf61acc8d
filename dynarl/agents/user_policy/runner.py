"""Policies with a state, or written for one environment, as collectors and `predict` call them."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.agents.encoders.observation_encoder import ObservationEncoder
from dynarl.agents.encoders.stored_actions import StoredActions
from dynarl.agents.user_policy.auxiliary import aux_of, check_aux
from dynarl.agents.user_policy.cost import ComputeMeter
from dynarl.agents.user_policy.policy import UserPolicy
from dynarl.autograd import Tensor, no_grad, tensor
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.ops.elementwise import where
from dynarl.autograd.tensor import wrap
from dynarl.batching import DecisionRecorder, Draws
from dynarl.envs.masks import mask_size
from dynarl.rollout import ActResult, Feedback, Rows, map_state
from dynarl.rollout.feedback import encode_action, state_leaves
from dynarl.rollout.stateful_collector import reset_rows

__all__ = ["Decider", "PolicyRunner", "PolicyState", "kept"]


class PolicyState(NamedTuple):
    """The state that `predict` returns for its next call: the policy's state, the last stored actions, and a count."""

    state: Any
    action: NDArray[Any]
    step: int = 0


class Decider(Protocol):
    """Turns the outputs of a policy, without its state, into actions."""

    def check(self, policy: UserPolicy, outputs: tuple[Any, ...]) -> tuple[str, int]:
        """Raise TypeError or ValueError for wrong outputs of 2 rows; return kind and size of a row's noise."""
        ...

    def decide(
        self, outputs: tuple[Any, ...], noise: NDArray[np.float32] | None, action_mask: Any = None
    ) -> tuple[NDArray[Any], Any, Any]:
        """Return (stored actions, log_prob, value) [N, ...]; greedy without noise.

        log_prob and value are None where the algorithm does not use them.
        """
        ...


class PolicyRunner:
    """Runs a policy with its state. The contract of policies is in dynarl/rollout/feedback.py.

    A learner back-propagates through `sequence_length` steps; a policy with an empty state learns from single steps.
    With `record_paths`, acting records the decisions of per-sample policies.
    """

    noise_period = 1

    def __init__(
        self,
        policy: UserPolicy,
        encoder: ObservationEncoder,
        actions: StoredActions,
        decider: Decider,
        *,
        seed: int,
        sequence_length: int,
        record_paths: bool = False,
    ) -> None:
        self.policy, self.encoder, self.actions, self.decider = policy, encoder, actions, decider
        self.seed, self.device, self.compute = seed, encoder.device, ComputeMeter()
        self.info_fields = policy.info_fields
        self.sequence_length = sequence_length if state_leaves(policy.initial_state()) else 1
        self.keeps_paths = record_paths and policy.per_sample
        self.noise_kind, self.noise_size = self._check()

    def initial_state(self) -> Any:
        """Return the state of one environment before its first step, as arrays without batch axis."""
        with no_grad():
            return map_state(lambda leaf: to_host(leaf.array), self.initial())

    def initial(self) -> Any:
        """Return the initial state as tensors through which gradients reach its parameters."""
        return map_state(self._leaf, self.policy.initial_state())

    def begin(self, start: Tensor, state: Any) -> Any:
        """Return states [N, ...] with the initial state, and gradients to it, in the rows where an episode starts."""

        def reset(leaf: Tensor, first: Tensor) -> Any:
            return where(start.reshape(-1, *[1] * (leaf.ndim - 1)), first, leaf)

        return map_state(reset, state, self.initial())

    def initial_states(self, rows: int) -> Any:
        """Return the state of `rows` environments before their first step."""
        return map_state(lambda leaf: np.repeat(leaf[None], rows, axis=0), self.initial_state())

    def draws(self, rows: Rows, purpose: str = "per-sample") -> Draws | None:
        """Return the random streams of rows in a per-sample policy, None for other policies."""
        if not self.policy.per_sample:
            return None
        return Draws(self.seed, rows.env, rows.step, purpose=purpose)

    def call(
        self,
        obs: NDArray[Any],
        state: Any,
        feedback: Feedback,
        draws: Any = None,
        recorder: DecisionRecorder | None = None,
    ) -> tuple[tuple[Any, ...], Any]:
        """Return the policy's outputs for stored observations [N, ...], and its next state as arrays."""
        with no_grad():
            inputs = self.encoder(obs)
            given = map_state(self.tensor, state), feedback.map(self.tensor)
            out = self.policy(inputs, *given, draws=draws, recorder=recorder)
            *outputs, after = out[: self.policy.returned]
            after = map_state(kept, state, after)
        return tuple(outputs), map_state(lambda leaf: to_host(leaf.array), after)

    def act(
        self,
        obs: NDArray[Any],
        noise: NDArray[np.float32] | None,
        state: Any,
        feedback: Feedback,
        rows: Rows,
        *,
        purpose: str = "per-sample",
    ) -> ActResult:
        """Return the policy's actions for stored observations [N, ...]; greedy without noise."""
        recorder = DecisionRecorder(len(obs), keep=self.keeps_paths) if self.policy.per_sample else None
        outputs, after = self.call(obs, state, feedback, self.draws(rows, purpose), recorder)
        action, log_prob, value = self.decider.decide(outputs, noise, feedback.action_mask)
        paths = None
        if recorder is not None:
            paths = recorder.paths() if self.keeps_paths else None
            if purpose == "per-sample":
                self.compute.add("acting", self.policy.last, recorder.steps)
        return ActResult(action, log_prob, value, after, paths)

    def value(self, obs: NDArray[Any], state: Any, feedback: Feedback, rows: Rows) -> NDArray[Any]:
        """Return V [B] of stored observations [B, ...] in these states."""
        value: NDArray[Any] = to_host(self.call(obs, state, feedback, self.draws(rows))[0][1].array)
        return value.reshape(-1)

    def predict(
        self,
        obs: NDArray[Any],
        noise: NDArray[np.float32] | None,
        before: PolicyState | None,
        action_mask: NDArray[np.bool_] | None = None,
        *,
        draw: int,
        episode_start: Any = None,
        reward: Any = None,
        info: Any = None,
    ) -> tuple[NDArray[Any], PolicyState]:
        """Return stored actions for stored observations [N, ...], and the state for the next call.

        Without `before` all episodes start. `reward` [N] and `info` are those of the last actions. `draw` keys the
        random numbers inside per-sample policies in calls with noise.
        """
        rows = len(obs)
        if before is None:
            start = np.ones(rows, np.bool_)
            before = PolicyState(self.initial_states(rows), self.actions.zeros(rows))
        elif not isinstance(before, PolicyState) or len(before.action) != rows:
            raise ValueError(
                f"predict: state must be what the last call returned for {rows} observations, or None, "
                f"got {f'one of {len(before.action)}' if isinstance(before, PolicyState) else type(before).__name__}"
            )
        else:
            start = np.zeros(rows, np.bool_) if episode_start is None else np.asarray(episode_start, np.bool_)
            start = np.broadcast_to(start, (rows,))
        earned = np.zeros(rows, np.float32) if reward is None else np.asarray(reward, np.float32).reshape(rows)
        fields = {name: np.zeros(rows, np.float32) for name in self.info_fields}
        for name in self.info_fields if info is not None else ():
            fields[name] = np.asarray(info[name], np.float32).reshape(rows)
        last = encode_action(self.actions.space, before.action, start)
        feedback = Feedback(last, np.where(start, np.float32(0), earned), start, fields, action_mask)
        state = reset_rows(before.state, start, self.initial_state())
        step, purpose = (before.step, "evaluate") if noise is None else (draw, "predict")
        at = Rows(np.arange(rows), np.full(rows, step))
        acted = self.act(obs, noise, state, feedback, at, purpose=purpose)
        return acted.action, PolicyState(acted.state, acted.action, before.step + 1)

    def tensor(self, array: Any) -> Tensor:
        """Return an array as a tensor on the policy's device."""
        tensor: Tensor = wrap(to_device(array, self.device))
        return tensor

    def _leaf(self, leaf: Any) -> Tensor:
        """Return a leaf of the initial state, a number or a tensor, as a tensor."""
        if isinstance(leaf, (bool, int, float)):
            return tensor(leaf, device=self.device)
        if not isinstance(leaf, Tensor):
            kind = type(leaf).__name__
            raise TypeError(f"policy: initial_state() must return tensors and numbers in tuples and dicts, got {kind}")
        return leaf

    def example_inputs(self, rows: int) -> tuple[Any, Any, Feedback]:
        """Return valid stored observations, states and feedback of some rows."""
        space, start = self.actions.space, np.ones(rows, np.bool_)
        fields = {name: np.zeros(rows, np.float32) for name in self.info_fields}
        mask = None
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and (
            self.policy.has_state or self.policy.needs_mask
        ):
            mask = np.ones((rows, mask_size(space)), np.bool_)
        last = encode_action(space, self.actions.zeros(rows), start)
        feedback = Feedback(last, np.zeros(rows, np.float32), start, fields, mask)
        return self.encoder.example(rows), self.initial_states(rows), feedback

    def _check(self) -> tuple[str, int]:
        """Call the policy once, raise an error that explains a wrong result, and return the noise it takes."""
        policy, (obs, state, feedback) = self.policy, self.example_inputs(2)
        with no_grad():
            given = map_state(self.tensor, state), feedback.map(self.tensor)
            out = policy.first_call(self.encoder(obs), *given)
        count = policy.returned
        if not isinstance(out, tuple) or not count <= len(out) <= count + policy.takes_aux:
            shown = out if policy.has_state else (*out[: count - 1], *out[count:]) if len(out) > 2 else out[0]
            raise policy.wrong(f"{type(shown).__name__}{f' of {len(shown)}' if isinstance(shown, tuple) else ''}")
        kind, size = self.decider.check(policy, out[: count - 1])
        map_state(kept, state, out[count - 1])
        check_aux(aux_of(out), 2)
        return str(kind), int(size)


def kept(before: Any, after: Any) -> Any:
    """Return the next state in the dtype of the state before.

    Raises ValueError for another shape, TypeError for a dtype that would lose digits.
    """
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
