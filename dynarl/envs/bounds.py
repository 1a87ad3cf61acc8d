"""Bounds of stored observations, and the name of each stored number within the observation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from dynarl.envs.spaces import flat_size, is_ragged, named_leaves

__all__ = ["element_name", "stored_bounds"]

_Bounds = tuple[NDArray[Any], NDArray[Any]]


def stored_bounds(space: Space[Any]) -> _Bounds | None:
    """Return the lowest and highest values of stored observations, each with their shape.

    None if the space is unbounded, and for observations of varying size.
    """
    if is_ragged(space):
        return None
    if isinstance(space, spaces.Box):
        bounds: _Bounds = space.low, space.high
    elif isinstance(space, spaces.Dict | spaces.Tuple):
        each = [_flat_bounds(leaf) for _, leaf in named_leaves(space, "")]
        bounds = np.concatenate([low for low, _ in each]), np.concatenate([high for _, high in each])
    else:
        return None
    low, high = bounds
    least, most = _limits(low.dtype)
    return None if (low == least).all() and (high == most).all() else bounds


def element_name(space: Space[Any], element: Sequence[int], field: str = "obs") -> str:
    """Return the name of the number at an index of a stored observation, for example ``obs['arm'][2]``."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return f"{field}{list(element)}" if element else field
    (column,) = element
    for name, leaf in named_leaves(space, field):
        size = flat_size(leaf)
        if column < size:
            if isinstance(leaf, spaces.Box | spaces.MultiBinary) and leaf.shape:
                name += str([int(i) for i in np.unravel_index(column, leaf.shape)])
            return name
        column -= size
    raise IndexError(f"element_name: {space} has no column {element[0]}")


def _flat_bounds(leaf: Space[Any]) -> _Bounds:
    if isinstance(leaf, spaces.Box):
        limits = _limits(leaf.low.dtype)
        low = np.where(leaf.low == limits[0], -np.inf, leaf.low)
        high = np.where(leaf.high == limits[1], np.inf, leaf.high)
        # Bounds in the stored dtype: rounding must not put a value at the bound outside
        return low.ravel().astype(np.float32), high.ravel().astype(np.float32)
    size = flat_size(leaf)
    if isinstance(leaf, spaces.MultiBinary):
        return np.zeros(size, np.float32), np.ones(size, np.float32)
    return np.full(size, -np.inf, np.float32), np.full(size, np.inf, np.float32)


def _limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the values that mean "no bound": infinities, or the ends of an integer type."""
    if dtype.kind == "f":
        return -np.inf, np.inf
    if dtype.kind == "b":
        return False, True
    return np.iinfo(dtype).min, np.iinfo(dtype).max
