"""Actors of SAC that are programs: one environment's distribution from its observation and feedback."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.off_policy.old_runner import OldRunner
from dynarl.agents.off_policy.records import ReplayWriter
from dynarl.agents.off_policy.sequences import SequenceRunner
from dynarl.agents.policies import FORBIDDEN
from dynarl.agents.sac.squashed import Gaussian
from dynarl.agents.user_policy.policy import UserPolicy
from dynarl.autograd import Tensor, float32, no_grad
from dynarl.autograd.ops.activation import log_softmax
from dynarl.autograd.ops.elementwise import log, where
from dynarl.autograd.ops.shape import cat
from dynarl.autograd.tape import wrap
from dynarl.batching import Draws
from dynarl.distributions import Categorical, Independent, Normal
from dynarl.envs.spaces import action_layout
from dynarl.nn import Module
from dynarl.rollout import Batch, Feedback
from dynarl.rollout.feedback import encode_action, state_leaves

__all__ = ["CriticInputs", "UserActor", "check_actor", "feedback_size", "state_size"]


class CriticInputs(NamedTuple):
    """What an update looks at: inputs of the critics for obs and next_obs, and the rows of the batch they belong to.

    `policies` are what the actor says of next_obs and of obs where that takes a whole sequence, else None.
    """

    obs: Tensor
    next_obs: Tensor
    batch: Batch
    policies: tuple[Any, Any] | None = None


class UserActor(Module):
    """Calls a program as SAC calls its own actors, with what `inputs` returned.

    The program returns a Normal of [A] before it is squashed into [-1, 1], or a Categorical. The critics see its
    feedback and its state beside the observation, as further features through which no gradient reaches it.
    """

    def __init__(
        self, stateful: OldRunner, experience: ReplayWriter, actions: int, *, discrete: bool, burn_in: int
    ) -> None:
        super().__init__()
        self.program = stateful.program.policy
        self.discrete, self.noise_size = discrete, 1 if discrete else actions
        self.stateful, self.experience = stateful, experience
        self.told = feedback_size(stateful.program, stateful.agent.action_space)
        self.along: SequenceRunner | None = None
        if state_leaves(stateful.initial_state()):
            self.along = SequenceRunner(stateful, experience, burn_in=burn_in)

    def see(self, batch: Batch, grad_steps: int) -> CriticInputs:
        """Return what an update on a batch looks at; of sequences, the rows to learn from."""
        if self.along is None:
            return CriticInputs(self.inputs(batch.obs), self.inputs(batch.next_obs), batch)
        met = self.along.met(batch)
        found = self.along.run(self.stateful.program, met, grad_steps, "update")
        rows = np.flatnonzero(self.along.counted(batch))
        said = [self.parameters_of(out, m.feedback.action_mask) for m, (out, _) in zip(met, found)]
        with no_grad():
            seen = [self._features(m.obs, m.feedback, state) for m, (_, state) in zip(met, found)]
            obs, next_obs, next_policy = cat(seen[:-1])[rows], cat(seen[1:])[rows], _joined(said[1:], rows)
        kept = {name: column[:, rows] if name == "noise" else column[rows] for name, column in batch.items()}
        return CriticInputs(obs, next_obs, Batch(kept), (next_policy, _joined(said[:-1], rows)))

    def inputs(self, obs: NDArray[Any]) -> Tensor:
        """Return stored observations [B, ...] as tensors, and where the program has feedback, that beside them."""
        stateful = self.stateful
        obs, _, feedback = self.experience.records.unpack(obs, None)
        encoded: Tensor = stateful.agent.network_input(obs)
        return encoded if not stateful.program.has_state else self._features(encoded, feedback.map(stateful.tensor), ())

    def _features(self, obs: Tensor, feedback: Feedback, state: Any) -> Tensor:
        columns = [obs, feedback.action, feedback.reward, feedback.episode_start, *feedback.info.values()]
        columns += state_leaves(state)
        rows = len(obs)
        features: Tensor = cat([column.detach().reshape(rows, -1).to(float32) for column in columns], -1)
        return features

    def forward(self, inputs: Tensor, mask: Any = None, *, key: tuple[str, int] = ("update", 0)) -> Any:
        """Return the Gaussian over [B, A], or log-probabilities [B, K]; `key` (purpose, step) is that of its draws."""
        stateful = self.stateful
        program, rows = stateful.program, len(inputs)
        purpose, step = key
        draws = None
        if program.per_sample:
            draws = Draws(stateful.agent.seed, np.arange(rows), np.full(rows, step), purpose=purpose)
        obs, feedback = self._split(inputs, mask)
        distribution, _ = program(obs, (), feedback, draws=draws)
        if program.per_sample:
            stateful.compute.add("learning", program.last)
        return self.parameters_of(distribution, mask)

    def parameters_of(self, distribution: Any, mask: Any = None) -> Any:
        """Return a distribution as SAC's losses take it."""
        if self.discrete:
            logits = distribution.logits
            return log_softmax(logits if mask is None else where(wrap(mask), logits, FORBIDDEN), -1)
        normal = distribution.base_dist if isinstance(distribution, Independent) else distribution
        return Gaussian(normal.loc, log(normal.scale))

    def _split(self, inputs: Tensor, mask: Any) -> tuple[Tensor, Feedback]:
        mask = None if mask is None else wrap(mask)
        if not self.stateful.program.has_state:
            nothing = inputs[..., :0]
            return inputs, Feedback(nothing, nothing, nothing, {}, mask)
        names = self.stateful.info_fields
        action = self.told - 2 - len(names)
        at = inputs.shape[-1] - self.told
        rest = inputs[:, at + action :]
        info = {name: rest[:, 2 + i] for i, name in enumerate(names)}
        return inputs[:, :at], Feedback(inputs[:, at : at + action], rest[:, 0], rest[:, 1] > 0.5, info, mask)


def _joined(said: list[Any], rows: NDArray[np.int64]) -> Any:
    """Return what an actor said at several steps, [B / L] each, as rows of one batch [B]."""
    if isinstance(said[0], Gaussian):
        return Gaussian(cat([g.mean for g in said])[rows], cat([g.log_std for g in said])[rows])
    return cat(said)[rows]


def state_size(program: UserPolicy) -> int:
    """Return how many numbers a program's state has."""
    return sum(math.prod(getattr(leaf, "shape", ())) for leaf in state_leaves(program.initial_state()))


def feedback_size(program: UserPolicy, action_space: Any) -> int:
    """Return how many features a program's feedback is beside the observation."""
    if not program.has_state:
        return 0
    shape, dtype = action_layout(action_space)
    action = encode_action(action_space, np.zeros((1, *shape), dtype), np.ones(1, np.bool_))
    return int(action.shape[1]) + 2 + len(program.info_fields)


def check_actor(program: UserPolicy, outputs: tuple[Any, ...], actions: int, *, discrete: bool) -> tuple[str, int]:
    """Refuse what is no Categorical over K actions, or Normal over A, of 2 rows; return its noise."""
    (found,) = outputs
    normal = found.base_dist if isinstance(found, Independent) else found
    kind, shown = type(normal).__name__, None
    if discrete and isinstance(found, Categorical):
        shown = tuple(found.logits.shape)
    elif not discrete and isinstance(normal, Normal):
        shown = tuple(normal.loc.shape)
    if shown != (2, actions):
        wanted = f"a Categorical over {actions} actions" if discrete else f"a Normal of shape ({actions},)"
        got = kind if shown is None else f"{kind} of {shown[1:]}"
        raise program.wrong(f"{got} where {wanted} is needed")
    return ("uniform", 1) if discrete else ("normal", actions)
