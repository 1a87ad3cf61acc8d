"""Checks fragments from workers before the learner uses them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.distributed.worker import Delivery

__all__ = ["FragmentValidator"]

_NUMBERS = ("reward", "log_prob", "value", "next_value")
_FLAGS = ("terminated", "truncated", "valid", "episode_start")


class Layouts(Protocol):
    """An Actor, as the validator sees it."""

    @property
    def action_space(self) -> Any:
        """The environments' action space."""
        ...

    def stored_layout(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Return (shape, dtype) of an observation and of an action in fragments."""
        ...


class FragmentValidator:
    """Checks deliveries from workers: shapes, dtypes, finite numbers, actions within their space.

    A call returns the first error of a delivery with its location, or None.
    """

    def __init__(self, actor: Layouts, envs_per_group: int) -> None:
        self._num_envs = envs_per_group
        self._expected: dict[str, tuple[tuple[int, ...], Any]] = {
            **actor.stored_layout(),
            **{name: ((), np.dtype(np.float32)) for name in _NUMBERS},
            **{name: ((), np.dtype(np.bool_)) for name in _FLAGS},
        }
        self._counts = _counts(actor.action_space)
        self._steps: int | None = None

    def __call__(self, delivery: Delivery) -> str | None:
        """Return the first error, None if there is none."""
        fragment = delivery.fragment
        self._steps = self._steps or fragment["valid"].shape[0]
        lead = (self._steps, self._num_envs)
        for name, (shape, dtype) in self._expected.items():
            array = fragment.get(name)
            if array is None:
                continue
            if array.shape != (*lead, *shape) or array.dtype != dtype:
                return (
                    f"{name} of its fragment must be {dtype} {[*lead, *shape]}, got {array.dtype} {list(array.shape)}"
                )
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return self._not_finite(name, array, fragment)
        if self._counts is not None and "action" in fragment:
            action = fragment["action"]
            if (action < 0).any() or (action >= self._counts).any():
                return f"action of its fragment must lie in [0, {self._counts}), got {action.min()} to {action.max()}"
        return None

    def _not_finite(self, name: str, array: NDArray[Any], fragment: Any) -> str:
        t, n, *rest = np.argwhere(~np.isfinite(array))[0].tolist()
        step, env = fragment.first_step + t, int(fragment.env_ids[n])
        found = array[(t, n, *rest)]
        return f"{name}{rest or ''} of its fragment must be finite, got {found} in environment {env}, step {step}"


def _counts(space: Any) -> Any:
    """Return the number of actions, for spaces that count them."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiBinary):
        return 2
    return space.nvec.reshape(-1) if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 else None
