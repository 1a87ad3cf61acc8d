"""How observations of any supported space are stored: as one array, or as rows where their size varies."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space

from dynarl.envs.ragged_spaces import check_ragged, row_of, split_batch
from dynarl.envs.spaces import ObservationLayout, fixed_layout, is_ragged
from dynarl.ragged_rows import row_array

__all__ = ["observation_layout"]


def observation_layout(space: Space[Any]) -> ObservationLayout:
    """Return how observations of ``space`` are stored; raises ValueError for an unsupported space."""
    if not is_ragged(space):
        return fixed_layout(space)
    check_ragged(space)

    def pack(obs: Any, lead: tuple[int, ...]) -> Any:
        if not lead:
            return row_of(space, obs)
        return row_array(row_of(space, one) for one in split_batch(space, obs, lead[0]))

    return ObservationLayout(space, (), np.dtype(object), pack)
