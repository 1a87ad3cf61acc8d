"""Actors that users write: one environment's distribution from its observation, state and feedback.

The policy returns a Normal of [A] before it is squashed into [-1, 1], or a Categorical. The critics see its feedback
and its state as further features, through which no gradient reaches the policy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.agents.off_policy.records import RecordLayout
from dynarl.agents.off_policy.sequence_runner import SequenceRunner
from dynarl.agents.sac.actions import ActionKind
from dynarl.agents.sac.policy_evaluator import CriticInputs
from dynarl.agents.sac.squashed import Gaussian
from dynarl.agents.user_policy.policy import UserPolicy
from dynarl.agents.user_policy.runner import PolicyRunner
from dynarl.autograd import Tensor, float32, no_grad
from dynarl.autograd.ops.shape import cat
from dynarl.autograd.tensor import wrap
from dynarl.batching import Draws
from dynarl.envs.spaces import action_layout
from dynarl.nn import Module
from dynarl.rollout import Batch, Feedback
from dynarl.rollout.feedback import encode_action, state_leaves

__all__ = ["FeedbackPolicy", "SequencePolicy", "UserActor", "feedback_size", "make_user_policy", "state_size"]


class UserActor(Module):
    """Holds the user's policy, under the name that it has in checkpoints."""

    def __init__(self, program: Module) -> None:
        super().__init__()
        self.program = program


class FeedbackPolicy:
    """Evaluates a policy without a state on transitions in any order (a `PolicyEvaluator`)."""

    def __init__(self, runner: PolicyRunner, records: RecordLayout, actions: ActionKind) -> None:
        self._runner, self._records, self._actions = runner, records, actions
        self.num_feedback = feedback_size(runner.policy, actions.space)

    def inputs(self, batch: Batch, grad_steps: int) -> CriticInputs:
        """Return the observations of a batch with their feedback."""
        return CriticInputs(self.features(batch.obs), self.features(batch.next_obs), batch, grad_steps)

    def at_next_obs(self, inputs: CriticInputs) -> Any:
        """Return the policy at next_obs."""
        return self._policy(inputs.next_obs, inputs.batch.get("next_action_mask"), "next", inputs.grad_steps)

    def at_obs(self, inputs: CriticInputs) -> Any:
        """Return the policy at obs."""
        return self._policy(inputs.obs, inputs.batch.get("action_mask"), "update", inputs.grad_steps)

    def features(self, records: NDArray[Any]) -> Tensor:
        """Return stored records [B, ...] as the critics' features: the observation, then its feedback if it is read."""
        runner = self._runner
        obs, _, feedback = self._records.unpack(records, None)
        encoded: Tensor = runner.encoder(obs)
        return encoded if self._records.plain else critic_features(encoded, feedback.map(runner.tensor), ())

    def split(self, features: Tensor, mask: Any) -> tuple[Tensor, Feedback]:
        """Return observation and feedback of features [B, F], with the action mask [B, K]."""
        mask = None if mask is None else wrap(mask)
        if self._records.plain:
            empty = features[..., :0]
            return features, Feedback(empty, empty, empty, {}, mask)
        names = self._runner.info_fields
        size = self.num_feedback - 2 - len(names)
        start = features.shape[-1] - self.num_feedback
        rest = features[:, start + size :]  # reward, episode_start, info fields
        info = {name: rest[:, 2 + i] for i, name in enumerate(names)}
        return features[:, :start], Feedback(
            features[:, start : start + size], rest[:, 0], rest[:, 1] > 0.5, info, mask
        )

    def _policy(self, features: Tensor, mask: Any, purpose: str, grad_steps: int) -> Any:
        """Return the policy of features; `purpose` and `grad_steps` key the random numbers inside of it."""
        runner, policy, rows = self._runner, self._runner.policy, len(features)
        draws = None
        if policy.per_sample:
            draws = Draws(runner.seed, np.arange(rows), np.full(rows, grad_steps), purpose=purpose)
        obs, feedback = self.split(features, mask)
        distribution, _ = policy(obs, (), feedback, draws=draws)
        if policy.per_sample:
            runner.compute.add("learning", policy.last)
        return self._actions.policy(distribution, mask)


class SequencePolicy:
    """Evaluates a policy with a state along sequences of the replay (a `PolicyEvaluator`)."""

    def __init__(self, sequences: SequenceRunner, actions: ActionKind) -> None:
        self.sequences, self._actions = sequences, actions

    def inputs(self, batch: Batch, grad_steps: int) -> CriticInputs:
        """Return observations, feedback and states of the rows to learn from, and the policies along the sequences."""
        steps = self.sequences.inputs(batch)
        outputs = self.sequences.run(self.sequences.runner.policy, steps, grad_steps, "update")
        rows = np.flatnonzero(self.sequences.counted(batch))
        policies = [self._actions.policy(out, s.feedback.action_mask) for s, (out, _) in zip(steps, outputs)]
        with no_grad():
            features = [critic_features(s.obs, s.feedback, state) for s, (_, state) in zip(steps, outputs)]
            obs, next_obs = cat(features[:-1])[rows], cat(features[1:])[rows]
            next_policy = _joined(policies[1:], rows)
        counted = Batch({name: column[rows] for name, column in batch.items()})
        return CriticInputs(obs, next_obs, counted, grad_steps, (next_policy, _joined(policies[:-1], rows)))

    def at_next_obs(self, inputs: CriticInputs) -> Any:
        """Return the policy at next_obs."""
        assert inputs.policies is not None
        return inputs.policies[0]

    def at_obs(self, inputs: CriticInputs) -> Any:
        """Return the policy at obs."""
        assert inputs.policies is not None
        return inputs.policies[1]


def make_user_policy(
    runner: PolicyRunner, records: RecordLayout, actions: ActionKind, *, burn_in: int
) -> FeedbackPolicy | SequencePolicy:
    """Return what evaluates a user's policy on batches of the replay."""
    if not state_leaves(runner.initial_state()):
        return FeedbackPolicy(runner, records, actions)
    return SequencePolicy(SequenceRunner(runner, records, burn_in=burn_in), actions)


def critic_features(obs: Tensor, feedback: Feedback, state: Any) -> Tensor:
    """Return observation, feedback and state as features [B, F] of float32, without gradient."""
    columns = [obs, feedback.action, feedback.reward, feedback.episode_start, *feedback.info.values()]
    columns += state_leaves(state)
    rows = len(obs)
    features: Tensor = cat([column.detach().reshape(rows, -1).to(float32) for column in columns], -1)
    return features


def state_size(policy: UserPolicy) -> int:
    """Return how many numbers a policy's state has."""
    return sum(math.prod(getattr(leaf, "shape", ())) for leaf in state_leaves(policy.initial_state()))


def feedback_size(policy: UserPolicy, action_space: spaces.Space[Any]) -> int:
    """Return how many features a policy's feedback has."""
    if not policy.has_state:
        return 0
    shape, dtype = action_layout(action_space)
    action = encode_action(action_space, np.zeros((1, *shape), dtype), np.ones(1, np.bool_))
    return int(action.shape[1]) + 2 + len(policy.info_fields)


def _joined(policies: list[Any], rows: NDArray[np.int64]) -> Any:
    """Return policies at L steps, [n] each, as the given rows of [L * n]."""
    if isinstance(policies[0], Gaussian):
        return Gaussian(cat([g.mean for g in policies])[rows], cat([g.log_std for g in policies])[rows])
    return cat(policies)[rows]
