"""Observations and actions of gymnasium spaces as plain arrays.

An observation of a Box, Discrete, MultiDiscrete or MultiBinary space is stored unchanged, a Text as the ids of its
characters, a Dict or Tuple of those as one flat float32 vector. `encode` makes network input of all. An action of a
Dict or Tuple is one flat float32 vector too. Sequence and Graph, and spaces that contain one, are rows of varying
size (`dynarl.envs.ragged_spaces`); `dynarl.envs.observations` covers both kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

__all__ = [
    "ObservationLayout",
    "action_layout",
    "encode",
    "env_action_map",
    "fixed_layout",
    "flat_size",
    "integer_range",
    "is_ragged",
    "leaves_of",
    "named_leaves",
    "parts_of",
]

_OBSERVATIONS = (
    "Box, Discrete, MultiDiscrete, MultiBinary, Text, Dict or Tuple of those, and Sequence or Graph of them, "
    "which may stand in a Dict or Tuple"
)
_ACTIONS = "Discrete, Box (floating point), MultiDiscrete, MultiBinary, and Dict or Tuple of those"


class ObservationLayout(NamedTuple):
    """The stored form of one observation: the space the policy sees, its shape and dtype.

    ``pack`` converts an observation of the environment, single or batched, to that array; None if it is one already.
    Its second argument ``lead`` is the shape of the batch. Observations of varying size have dtype object: each is a
    `dynarl.ragged_rows.RaggedRow`.
    """

    space: Space[Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pack: Callable[[Any, tuple[int, ...]], NDArray[Any]] | None


def fixed_layout(space: Space[Any]) -> ObservationLayout:
    """Return the layout of observations with a fixed size; raises ValueError for an unsupported space."""
    size = flat_size(space)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        flat = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        return ObservationLayout(flat, (size,), np.dtype(np.float32), partial(_pack, space))
    if isinstance(space, spaces.Discrete):
        return ObservationLayout(space, (), np.dtype(np.int64), None)
    if isinstance(space, spaces.Text):
        return ObservationLayout(space, (size,), np.dtype(np.int32), partial(_ids, space))
    assert space.shape is not None and space.dtype is not None
    return ObservationLayout(space, tuple(space.shape), np.dtype(space.dtype), None)


def is_ragged(space: Space[Any]) -> bool:
    """Return whether observations vary in size: those of a Sequence, a Graph, or a Dict or Tuple with one in it."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return any(is_ragged(part) for _, part in parts_of(space))
    return isinstance(space, spaces.Sequence | spaces.Graph)


def flat_size(space: Space[Any]) -> int:
    """Return the number of features that `encode` makes of one observation.

    Box: its elements; MultiBinary: its bits; Discrete and MultiDiscrete: one per value (one-hot); Text: one id per
    possible character; Dict and Tuple: the sum over their parts. Raises ValueError for any other space.
    """
    match space:
        case spaces.Discrete():
            size = int(space.n)
        case spaces.MultiDiscrete():
            size = int(np.sum(space.nvec))
        case spaces.Box() | spaces.MultiBinary():
            size = prod(space.shape or ())
        case spaces.Text():
            size = int(space.max_length)
        case spaces.Dict() | spaces.Tuple():
            size = sum(flat_size(part) for _, part in parts_of(space))
        case spaces.Sequence() | spaces.Graph():
            raise ValueError(
                f"observation space: {space} has no fixed number of features; pass a network as features, "
                "or use encoder 'auto'"
            )
        case _:
            raise ValueError(f"observation space: supported are {_OBSERVATIONS}, got {space}")
    if size == 0:
        raise ValueError(f"observation space: an observation must have at least one element, got {space}")
    return size


def encode(space: Space[Any], obs: Any, *, flatten: bool = True) -> NDArray[np.float32]:
    """Convert stored observations to network input, float32 [..., F] with F = ``flat_size(space)``.

    ``obs`` is [..., *shape] with any leading dimensions. Discrete and MultiDiscrete values become one-hot (counted from
    the space's start), all others are cast. ``flatten=False`` keeps the shape of a Box or MultiBinary (images).
    """
    obs = np.asarray(obs)
    if isinstance(space, spaces.Text):
        return obs.astype(np.float32)
    if isinstance(space, spaces.Discrete):
        return _one_hot(obs[..., None], np.array([space.n]), np.array([space.start]))
    lead = obs.shape[: obs.ndim - len(space.shape or ())]
    if isinstance(space, spaces.MultiDiscrete):
        return _one_hot(obs.reshape(*lead, space.nvec.size), space.nvec.ravel(), np.asarray(space.start).ravel())
    if flatten and len(space.shape or ()) != 1:
        obs = obs.reshape(*lead, prod(space.shape or ()))
    features: NDArray[np.float32] = obs.astype(np.float32, copy=False)
    return features


def action_layout(space: Space[Any]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype of stored actions.

    Discrete: int64 scalars counted from 0; MultiDiscrete and MultiBinary: int64; Box: float32, before any clipping;
    Dict and Tuple: float32 [D], the numbers of all parts concatenated. Raises ValueError for an unsupported space.
    """
    match space:
        case spaces.Discrete():
            return (), np.dtype(np.int64)
        case spaces.MultiDiscrete() | spaces.MultiBinary() if prod(space.shape) > 0:
            return tuple(space.shape), np.dtype(np.int64)
        case spaces.Box() if np.issubdtype(space.dtype, np.floating) and prod(space.shape) > 0:
            return tuple(space.shape), np.dtype(np.float32)
        case spaces.Dict() | spaces.Tuple() if leaves_of(space):
            return (sum(_width(leaf) for leaf in leaves_of(space)),), np.dtype(np.float32)
    raise ValueError(f"action space: supported are {_ACTIONS}, got {space}")


def leaves_of(space: Space[Any]) -> list[Space[Any]]:
    """Return the leaves of a nested Dict or Tuple, in the order of their columns in a stored row."""
    return [leaf for _, leaf in named_leaves(space, "")]


def named_leaves(space: Space[Any], name: str) -> list[tuple[str, Space[Any]]]:
    """Return the `leaves_of` a space called ``name`` with their names, for example ``obs['arm']``."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return [leaf for key, part in parts_of(space) for leaf in named_leaves(part, f"{name}[{key!r}]")]
    return [(name, space)]


def _width(leaf: Space[Any]) -> int:
    return prod(action_layout(leaf)[0])


def _mixed_action_map(space: Space[Any]) -> Callable[[NDArray[Any]], Any]:
    """Return the function from [N, D] to a list of N nested actions."""
    leaves = leaves_of(space)
    layouts = [action_layout(leaf) for leaf in leaves]
    maps = [env_action_map(leaf) for leaf in leaves]
    ends = np.cumsum([prod(shape) for shape, _ in layouts])[:-1]

    def build(part: Space[Any], columns: Any, row: int) -> Any:
        if isinstance(part, spaces.Dict):
            built = {key: build(inner, columns, row) for key, inner in parts_of(part)}
            return {key: built[key] for key in part.spaces}
        if isinstance(part, spaces.Tuple):
            return tuple(build(inner, columns, row) for _, inner in parts_of(part))
        return next(columns)[row]

    def to_env(action: NDArray[Any]) -> list[Any]:
        pieces = np.split(np.asarray(action), ends, axis=1)
        columns = [
            to_leaf(piece.astype(dtype).reshape(-1, *shape))
            for to_leaf, piece, (shape, dtype) in zip(maps, pieces, layouts)
        ]
        return [build(space, iter(columns), row) for row in range(len(action))]

    return to_env


def env_action_map(space: Space[Any]) -> Callable[[NDArray[Any]], Any]:
    """Return the function from the policy's actions [N, ...] to the environment's.

    Box actions are clipped to the bounds and cast; the start of a Discrete or MultiDiscrete is added; for a Dict or
    Tuple the result is a list of N nested actions. The result never shares memory with the policy's array, to which an
    environment could otherwise write.
    """
    action_layout(space)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return _mixed_action_map(space)
    if isinstance(space, spaces.Box):
        low, high = space.low, space.high
        dtype: Any = space.dtype
        if np.isneginf(low).all() and np.isposinf(high).all():
            return partial(_cast, dtype)
        return partial(_clipped, low, high, dtype)
    start = getattr(space, "start", None)
    dtype = space.dtype
    if start is not None and np.any(start):
        return partial(_shifted, start, dtype)
    return partial(_cast, dtype)


# Functions of a module, not lambdas: an agent can be pickled.


def _cast(dtype: Any, action: NDArray[Any]) -> NDArray[Any]:
    return action.astype(dtype)


def _clipped(low: Any, high: Any, dtype: Any, action: NDArray[Any]) -> NDArray[Any]:
    return np.minimum(np.maximum(action, low), high).astype(dtype, copy=False)


def _shifted(start: Any, dtype: Any, action: NDArray[Any]) -> NDArray[Any]:
    return (action + start).astype(dtype, copy=False)


def _one_hot(values: NDArray[Any], nvec: NDArray[Any], start: NDArray[Any]) -> NDArray[np.float32]:
    """Convert values [..., K] to [..., sum(nvec)]."""
    index = values.astype(np.int64) - start
    if index.size and ((index < 0) | (index >= nvec)).any():
        raise ValueError(
            f"encode: values must lie in [start, start + n), start {start.tolist()} and n {nvec.tolist()}, "
            f"got values from {values.min()} to {values.max()}"
        )
    offset = np.concatenate(([0], np.cumsum(nvec)[:-1]))
    rows = (index + offset).reshape(-1, len(nvec))
    out = np.zeros((len(rows), int(np.sum(nvec))), np.float32)
    out[np.arange(len(rows))[:, None], rows] = 1.0
    return out.reshape(*values.shape[:-1], out.shape[1])


def parts_of(space: spaces.Dict | spaces.Tuple[Any]) -> list[tuple[Any, Space[Any]]]:
    """Return keys and sub-spaces; those of a Dict by sorted key, whatever the order of its definition."""
    if isinstance(space, spaces.Dict):
        return sorted(space.spaces.items(), key=lambda item: str(item[0]))
    return list(enumerate(space.spaces))


def _pack(space: Space[Any], obs: Any, lead: tuple[int, ...], name: str = "obs") -> NDArray[np.float32]:
    """Convert a (nested) Dict or Tuple observation with leading shape ``lead`` to float32 [*lead, F]."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        packed = []
        for key, part in parts_of(space):
            try:
                inner = obs[key]
            except (KeyError, IndexError, TypeError):
                raise ValueError(f"{name}[{key!r}] is missing, {name} must lie in {space}") from None
            packed.append(_pack(part, inner, lead, f"{name}[{key!r}]"))
        return np.concatenate(packed, axis=-1)
    try:
        if isinstance(space, spaces.Text):
            return _ids(space, obs, lead).astype(np.float32)
        array = np.asarray(obs)
        shape = (*lead, *(space.shape or ()))
        if array.shape != shape:
            raise ValueError(f"must have shape {shape}, got {array.shape} for {space}")
        if isinstance(space, spaces.Box) and not np.can_cast(array.dtype, space.dtype, "same_kind"):
            raise ValueError(f"must have dtype {space.dtype}, got {array.dtype} for {space}")
        return encode(space, array).reshape(*lead, -1)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


def _ids(space: spaces.Text, text: Any, lead: tuple[int, ...]) -> NDArray[np.int32]:
    """Convert text with leading shape ``lead`` ((), or (N,): a sequence) to int32 [*lead, max_length].

    A character is its position in the space's character set, counted from 1; 0 is padding.
    """
    texts = list(text) if lead else [text]
    out = np.zeros((len(texts), int(space.max_length)), np.int32)
    for row, one in zip(out, texts):
        if not isinstance(one, str) or not space.contains(one):
            raise ValueError(f"a text must lie in {space}, got {one!r}")
        row[: len(one)] = [space.character_index(c) + 1 for c in one]
    return out if lead else out[0]


def integer_range(space: Space[Any]) -> tuple[Any, Any] | None:
    """Return the lowest and highest value of a discrete space, None for others."""
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.start + space.n - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    if isinstance(space, spaces.MultiBinary):
        return 0, 1
    return None
