"""Observations as users give them to `predict`: one or a batch, in the space's own form."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.ragged_rows import holds_rows, row_array

__all__ = ["stored_rows"]


def stored_rows(space: spaces.Space[Any], obs: Any, layout: Any) -> tuple[NDArray[Any], bool]:
    """Return observations as agents store them, [N, ...], and whether it was one alone; raises ValueError."""
    if layout.dtype == object:
        return _rows(space, obs, layout)
    single = _is_single(space, obs, layout)
    return _stored(space, obs, layout, single), single


def _is_single(space: Any, obs: Any, layout: Any) -> bool:
    if layout.pack is not None:
        space, part = _first_leaf(space, obs)
        return isinstance(part, str) if isinstance(space, spaces.Text) else np.ndim(part) == len(space.shape or ())
    shape = np.shape(obs)
    if shape == layout.shape:
        return True
    if shape[1:] == layout.shape and len(shape) == len(layout.shape) + 1:
        return False
    raise ValueError(f"predict: obs must have shape {layout.shape} or [N, {layout.shape}], got {shape}")


def _stored(space: Any, obs: Any, layout: Any, single: bool) -> NDArray[Any]:
    if layout.pack is not None:
        lead = () if single else (len(_first_leaf(space, obs)[1]),)
        packed: NDArray[Any] = layout.pack(obs, lead)
        return packed[None] if single else packed
    array = np.asarray(obs, dtype=layout.dtype)
    return array[None] if single else array


def _rows(space: Any, obs: Any, layout: Any) -> tuple[NDArray[Any], bool]:
    """Return observations of varying size as rows [N], and whether it was one alone."""
    if isinstance(obs, np.ndarray) and obs.dtype == object and holds_rows(obs):
        return obs, False
    try:
        return row_array([layout.pack(obs, ())]), True
    except ValueError as error:
        try:
            batch: NDArray[Any] = layout.pack(obs, (len(_first_leaf(space, obs)[1]),))
        except (KeyError, IndexError, TypeError, ValueError):
            raise ValueError(f"predict: obs must lie in its space, or be a batch of such: {error}") from None
        return batch, False


def _first_leaf(space: Any, obs: Any) -> tuple[Any, Any]:
    """Return a part of a nested space that holds numbers or text, and what the observation has there."""
    while isinstance(space, spaces.Dict | spaces.Tuple):
        key: Any = next(iter(space.spaces)) if isinstance(space, spaces.Dict) else 0
        space, obs = space[key], obs[key]
    return space, obs
