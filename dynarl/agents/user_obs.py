"""Observations in the form of their space, one or a batch, as users pass them to `predict`."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.ragged_rows import holds_rows, row_array

__all__ = ["stored_rows"]


def stored_rows(space: spaces.Space[Any], obs: Any, layout: Any) -> tuple[NDArray[Any], bool]:
    """Return stored observations [N, ...], and whether `obs` is a single one; raises ValueError for a wrong shape."""
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
    """Return observations of varying size as rows [N], and whether `obs` is a single one."""
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
    """Return the first part of a nested space that holds numbers or text, and the observation's value of it."""
    while isinstance(space, spaces.Dict | spaces.Tuple):
        key: Any = next(iter(space.spaces)) if isinstance(space, spaces.Dict) else 0
        space, obs = space[key], obs[key]
    return space, obs
