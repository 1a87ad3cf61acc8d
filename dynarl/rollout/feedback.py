"""The contract of user policies: the arguments they are called with, and their results.

A policy is a Module written for ONE environment, without a batch axis. Agents batch it automatically, so Python's
`if`, `while`, `break`, recursion and exceptions may depend on any input or intermediate value:

    class Policy(nn.Module):
        info_fields = ("energy",)                     # numeric fields of the info dict to receive; optional

        def initial_state(self): ...                  # the state at the start of an episode

        def forward(self, obs, state, feedback): ...  # -> (distribution, value, next_state)

* ``obs``: the encoded observation: Box unchanged, Discrete and MultiDiscrete one-hot, Dict and Tuple concatenated.
* ``state``: the state that the last call returned, or ``initial_state()`` at the start of an episode. Tensors and
  numbers in tuples and dicts, always with the same structure, shapes and dtypes; ``()`` for none.
* ``feedback``: a `Feedback`, the environment's response to the previous action.
* ``distribution`` over one action, ``value`` a number, [] or [1].

A policy without ``initial_state`` is called as ``forward(obs) -> (distribution, value)``, or ``forward(obs,
action_mask)`` if the environment masks actions. In place of (distribution, value), DQN's policies return q [A],
SAC's the distribution alone: a Normal over [A] before squashing, or a Categorical. Both learn states along sequences
of their replay (`sequence_length`, `burn_in`); SAC's critics receive the state in addition to the observation.

PPO's policies may return a further dict ``{"loss": ..., "steps": ...}``: an auxiliary loss and numbers to log, see
dynarl/agents/user_policy/auxiliary.py.

A class with the attribute ``takes_batch = True`` has a batch axis: obs [N, ...], states [N, ...], feedback [N, ...],
value [N]. Such a policy with a state may also offer ``sequence(obs, state, feedback) -> (distribution, value)``: obs
and feedback [T, N, ...], state [N, ...] before the first step, and a distribution and values over the T * N rows in
time-major order. It must reset its state where ``feedback.episode_start``; learning then calls it once instead of T
times.

A random branch (`dynarl.bernoulli`, `dynarl.categorical`) is part of the action: return ``Branched(distribution,
log_prob)`` of dynarl.distributions with the branch's log-probability, and the policy gradient reaches the parameters
from which the branch was drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from dynarl.envs.spaces import action_layout, encode, leaves_of

__all__ = ["Feedback", "encode_action", "map_state", "state_leaves"]


class Feedback(NamedTuple):
    """The environment's response to the previous action: tensors in a policy (without the axis N in a policy for one
    environment), arrays in storage.

    ``action`` [N, A] float32: the policy's previous action (Discrete and MultiDiscrete one-hot, others as numbers).
    ``reward`` [N] float32: the raw reward it earned. Both are 0 at the start of an episode. ``episode_start`` [N] bool.
    ``info``: the declared fields, float32 [N] each; at the start of an episode those of the reset's info, or 0.
    ``action_mask`` [N, M] bool: the actions allowed now, None if the environment allows all; the policy's distribution
    must give the others probability 0.
    """

    action: Any
    reward: Any
    episode_start: Any
    info: Mapping[str, Any]
    action_mask: Any = None

    def map(self, function: Callable[[Any], Any]) -> Feedback:
        """Apply a function to every array."""
        info = {name: function(column) for name, column in self.info.items()}
        mask = None if self.action_mask is None else function(self.action_mask)
        return Feedback(function(self.action), function(self.reward), function(self.episode_start), info, mask)


def encode_action(space: Space[Any], action: NDArray[Any], start: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return stored actions [..., *shape] as feedback [..., A], with 0 where an episode starts."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        columns, parts = 0, []
        for leaf in leaves_of(space):
            shape, dtype = action_layout(leaf)
            part = action[..., columns : columns + prod(shape)].astype(dtype)
            parts.append(_encoded(leaf, part.reshape(*start.shape, *shape), start.shape))
            columns += prod(shape)
        features = np.concatenate(parts, axis=-1)
    else:
        features = _encoded(space, action, start.shape)
    return features * ~start[..., None] if start.any() else features


def _encoded(space: Space[Any], action: NDArray[Any], lead: tuple[int, ...]) -> NDArray[np.float32]:
    """Return actions of a space that is not a Dict or Tuple, stored counted from 0, as numbers [..., A]."""
    counted: Space[Any] = space
    if isinstance(space, spaces.Box):
        return action.astype(np.float32).reshape(*lead, -1)
    if isinstance(space, spaces.Discrete):
        counted = spaces.Discrete(int(space.n))
    elif isinstance(space, spaces.MultiDiscrete):
        counted = spaces.MultiDiscrete(space.nvec)
    return encode(counted, action).reshape(*lead, -1)


def map_state(function: Callable[..., Any], state: Any, *others: Any) -> Any:
    """Apply a function to the leaves of states with one structure; raises ValueError if the structures differ."""
    if state is None and all(other is None for other in others):
        return None
    if isinstance(state, Mapping):
        if any(not isinstance(other, Mapping) or set(other) != set(state) for other in others):
            raise ValueError(_differ(state, others))
        return {key: map_state(function, state[key], *(other[key] for other in others)) for key in state}
    if isinstance(state, (tuple, list)):
        if any(not isinstance(other, (tuple, list)) or len(other) != len(state) for other in others):
            raise ValueError(_differ(state, others))
        return tuple(map_state(function, *parts) for parts in zip(state, *others))
    if any(isinstance(other, (tuple, list, Mapping)) or other is None for other in others):
        raise ValueError(_differ(state, others))
    return function(state, *others)


def state_leaves(state: Any) -> list[Any]:
    """Return the leaves of a state in order."""
    found: list[Any] = []
    map_state(found.append, state)
    return found


def _differ(state: Any, others: Any) -> str:
    found = ", ".join(_structure(other) for other in others)
    return f"policy: a state must keep the structure of initial_state(), {_structure(state)}, got {found}"


def _structure(state: Any) -> str:
    if isinstance(state, Mapping):
        return "{" + ", ".join(f"{key}: {_structure(part)}" for key, part in state.items()) + "}"
    if isinstance(state, (tuple, list)):
        return "(" + ", ".join(map(_structure, state)) + ")"
    return type(state).__name__
