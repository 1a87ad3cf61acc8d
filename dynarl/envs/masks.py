"""Action masks of environments as one boolean array.

An environment gives its mask in ``info["action_mask"]`` at every reset and step, or by a method ``action_masks()``.
A mask has one entry per action of a Discrete space; for MultiDiscrete the entries of the components are
concatenated, or given as a tuple of masks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

__all__ = ["MaskSource", "draw_allowed", "flat_mask", "is_maskable", "mask_size"]

KEY, METHOD = "action_mask", "action_masks"


def is_maskable(space: Space[Any]) -> bool:
    """Return whether actions of a space can be masked."""
    return isinstance(space, spaces.Discrete | spaces.MultiDiscrete)


def mask_size(space: Space[Any]) -> int:
    """Return the number of entries of a mask; raises ValueError for spaces whose actions cannot be masked."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(np.sum(space.nvec))
    raise ValueError(
        f"action mask: the action space must be Discrete or MultiDiscrete, got {space}; remove action_mask from the "
        "info, or the method action_masks"
    )


def flat_mask(space: Space[Any], mask: Any, where: str) -> NDArray[np.bool_]:
    """Return one mask as a boolean array [M]; raises ValueError naming ``where`` if it does not fit.

    Each component must allow at least one action.
    """
    size = mask_size(space)
    if isinstance(mask, tuple | list) and mask and np.ndim(mask[0]) > 0:
        mask = np.concatenate([np.ravel(part) for part in mask])
    flat = np.asarray(mask).reshape(-1)
    if flat.size != size:
        raise ValueError(f"{where}: the action mask must have {size} entries for {space}, got {flat.size}")
    flat = flat.astype(np.bool_)
    counts = np.ravel(space.nvec).tolist() if isinstance(space, spaces.MultiDiscrete) else [size]
    for part in np.split(flat, np.cumsum(counts)[:-1]):
        if not part.any():
            raise ValueError(f"{where}: the action mask must allow an action; end the episode or allow a no-op")
    return flat


def draw_allowed(uniform: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return actions [N], uniform over those that masks [N, K] allow, from numbers [N] in [0, 1)."""
    # float64: in float32 the product with a number just below 1 can round up to the count
    wanted = (uniform.astype(np.float64) * mask.sum(axis=1)).astype(np.int64)
    drawn: NDArray[np.int64] = (mask.cumsum(axis=1) > wanted[:, None]).argmax(axis=1)
    return drawn


class MaskSource:
    """Reads masks of N environments. ``kind`` is "info", "method", or None if there are none.

    The first reset of these environments decides, whatever was restored before it: from then on every reset and step
    must give a mask, or none may.
    """

    def __init__(self, space: Space[Any], num_envs: int, *, has_method: bool) -> None:
        self.space, self.num_envs = space, num_envs
        self.kind: str | None = "method" if has_method else None
        self._settled = has_method
        if has_method:
            mask_size(space)

    def settle(self, info: Any) -> None:
        """Decide by the info of the first reset whether it contains masks; later calls change nothing."""
        if not self._settled and isinstance(info, dict) and KEY in info:
            mask_size(self.space)
            self.kind = "info"
        self._settled = True

    def empty(self) -> NDArray[np.bool_] | None:
        """Return memory for the masks [N, M], all allowed."""
        return None if self.kind is None else np.ones((self.num_envs, mask_size(self.space)), np.bool_)

    def one(self, env: Any, info: Any, where: str) -> NDArray[np.bool_]:
        """Return the mask [M] of one environment after a reset or step with this info."""
        if self.kind == "method":
            return flat_mask(self.space, env.get_wrapper_attr(METHOD)(), where)
        if KEY not in info:
            raise ValueError(f"{where}: info must have {KEY!r}, as in the first reset; set it at every reset and step")
        return flat_mask(self.space, info[KEY], where)

    def all(self, given: Any, where: str, default: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Return masks [N, M] of a vector environment: an array, or a sequence with one entry per environment.

        An entry None (no mask for that environment) is replaced by that of ``default``.
        """
        if (
            isinstance(given, tuple | list)
            and isinstance(self.space, spaces.MultiDiscrete)
            and len(given)
            and (np.shape(given[0])[:1] == (self.num_envs,) and len(given) == np.size(self.space.nvec))
        ):  # gymnasium batches a tuple of masks as a tuple of [N, n] -> [N, M]
            given = np.concatenate([np.asarray(part).reshape(self.num_envs, -1) for part in given], axis=1)
        rows = []
        for i in range(self.num_envs):
            if given[i] is None and default is not None:
                rows.append(default[i])
            else:
                rows.append(flat_mask(self.space, given[i], f"{where}, environment {i}"))
        return np.stack(rows)
