"""Actors of SAC that are programs: one environment's distribution from its observation and feedback."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.agents.experience import Experience
from dynarl.agents.policies import FORBIDDEN
from dynarl.agents.programs import Program
from dynarl.agents.squashed import Gaussian
from dynarl.agents.stateful import Stateful
from dynarl.autograd import Tensor
from dynarl.autograd.ops.activation import log_softmax
from dynarl.autograd.ops.elementwise import log, where
from dynarl.autograd.ops.shape import cat
from dynarl.autograd.tape import wrap
from dynarl.batching import Draws
from dynarl.distributions import Categorical, Independent, Normal
from dynarl.envs.spaces import action_layout
from dynarl.nn import Module
from dynarl.rollout import Feedback
from dynarl.rollout.feedback import encode_action, state_leaves

__all__ = ["ProgramActor", "check_actor", "feedback_size"]


class ProgramActor(Module):
    """Calls a program as SAC calls its own actors, with what `inputs` returned.

    The program returns a Normal of [A] before it is squashed into [-1, 1], or a Categorical. The critics see its
    feedback beside the observation, as further features.
    """

    def __init__(self, stateful: Stateful, experience: Experience, actions: int, *, discrete: bool) -> None:
        super().__init__()
        if state_leaves(stateful.initial_state()):
            raise ValueError(
                f"policy: {stateful.program.where} has a state, but SAC learns from single transitions, so no gradient "
                "would reach what it remembers; initial_state() must return (), PPO and DQN learn through states"
            )
        self.program = stateful.program.policy
        self.discrete, self.noise_size = discrete, 1 if discrete else actions
        self.stateful, self.experience = stateful, experience
        self.told = feedback_size(stateful.program, stateful.agent.action_space)

    def inputs(self, obs: NDArray[Any]) -> Tensor:
        """Return stored observations [B, ...] as tensors, and where the program has feedback, that beside them."""
        stateful = self.stateful
        obs, _, feedback = self.experience.records.unpack(obs, None)
        encoded: Tensor = stateful.agent.network_input(obs)
        if not stateful.program.has_state:
            return encoded
        columns = [feedback.reward, feedback.episode_start, *feedback.info.values()]
        told = np.concatenate((feedback.action, np.stack(columns, axis=1)), axis=1, dtype=np.float32)
        both: Tensor = cat([encoded, stateful.tensor(told)], -1)
        return both

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


def feedback_size(program: Program, action_space: Any) -> int:
    """Return how many features a program's feedback is beside the observation."""
    if not program.has_state:
        return 0
    shape, dtype = action_layout(action_space)
    action = encode_action(action_space, np.zeros((1, *shape), dtype), np.ones(1, np.bool_))
    return int(action.shape[1]) + 2 + len(program.info_fields)


def check_actor(program: Program, outputs: tuple[Any, ...], actions: int, *, discrete: bool) -> tuple[str, int]:
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
