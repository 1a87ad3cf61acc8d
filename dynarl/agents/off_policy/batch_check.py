"""Checks of the batches of transitions that DQN and SAC learn from, before an update changes anything."""

from __future__ import annotations

from typing import Any, Literal

from dynarl.rollout import Batch
from dynarl.rollout.fragment import ReplayBatch

__all__ = ["BatchCheck", "stored_shape"]

_COMMON = ("obs", "action", "reward", "next_obs", "discount")
_ENDS = {"done", "terminated", "truncated"}


class BatchCheck:
    """Refuses a batch [B] that a user made wrongly, in one line that names the array.

    `needed` are the arrays that the algorithm requires besides those of a transition, `optional` those that it may
    have. `shapes` holds the dimensions of an array behind the first; None stands for any, an array that is not named
    has none. `actions` is the number of discrete actions, "box" for numbers in [-1, 1], or None where the number is
    known only when the network has run; then `actions_below` checks them.
    """

    def __init__(
        self,
        learner: str,
        *,
        needed: tuple[str, ...],
        optional: tuple[str, ...],
        shapes: dict[str, tuple[int, ...] | None],
        actions: int | Literal["box"] | None,
    ) -> None:
        self.learner, self.actions = learner, actions
        self._required = (*_COMMON, *needed)
        names = (*self._required, *optional)
        self._known = {*names, "index", "td_error", "kept"}  # those that a replay and prioritised learning add
        self._shapes = [(name, shapes.get(name, ())) for name in names if name != "reward"]

    def __call__(self, batch: Any) -> None:
        """Raise TypeError or ValueError for a batch that cannot be learned from.

        Samples of a replay pass unread: they have the replay's layout, and reading their values would wait for a GPU.
        """
        if isinstance(batch, ReplayBatch):
            return
        if not isinstance(batch, Batch):
            raise TypeError(
                f"{self.learner}.update: needs a dynarl.rollout.Batch, got {type(batch).__name__}; "
                "Batch(**arrays) makes one"
            )
        if missing := [name for name in self._required if name not in batch]:
            raise self._error(f"the batch must have {', '.join(self._required)}; got no {', '.join(missing)}")
        if not batch.keys() <= self._known:
            unknown = sorted(batch.keys() - self._known)
            hint = "; discount is gamma, and 0 where the episode terminated" if _ENDS & set(unknown) else ""
            raise self._error(f"unknown arrays {', '.join(unknown)}{hint}")
        self._check_shapes(batch)
        if self.actions is not None:
            self._check_actions(batch.action, self.actions)

    def actions_below(self, batch: Batch, num_actions: int) -> None:
        """Raise ValueError for actions that are not below `num_actions`, unless `actions` was known before."""
        if self.actions is None and not isinstance(batch, ReplayBatch):
            self._check_actions(batch.action, num_actions)

    def _check_actions(self, action: Any, actions: int | Literal["box"]) -> None:
        low, high, kinds, what = (-1, 1, "f", "floats") if actions == "box" else (0, actions - 1, "iu", "integers")
        if action.dtype.kind not in kinds:
            raise self._error(f"action must be {what} in {low} ... {high}, got {action.dtype}")
        if not (low <= action.min() and action.max() <= high):  # NaN is outside too
            raise self._error(f"action must be {what} in {low} ... {high}, got {action.min()} to {action.max()}")

    def _check_shapes(self, batch: Batch) -> None:
        rows = getattr(batch.reward, "shape", None)
        if rows is None or len(rows) != 1 or not rows[0]:
            raise self._error(f"reward must be an array [B] of at least one row, got {_description(batch.reward)}")
        for name, trailing in self._shapes:
            if (array := batch.get(name)) is None:
                continue
            shape = getattr(array, "shape", None)
            if shape is None or (shape[:1] != rows if trailing is None else shape != (*rows, *trailing)):
                wanted = f"[{rows[0]}, ...]" if trailing is None else [*rows, *trailing]
                raise self._error(f"{name} must be an array {wanted}, got {_description(array)}")
        if batch.obs.shape != batch.next_obs.shape:
            raise self._error(
                f"next_obs must have the shape of obs, {list(batch.obs.shape)}, got {list(batch.next_obs.shape)}"
            )

    def _error(self, text: str) -> ValueError:
        return ValueError(f"{self.learner}.update: {text}")


def stored_shape(encode: Any, otherwise: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the shape of the observations that an encoder takes, `otherwise` for a function without a layout."""
    layout = getattr(encode, "layout", None)
    return otherwise if layout is None else tuple(layout.shape)


def _description(array: Any) -> str:
    return str(list(array.shape)) if hasattr(array, "shape") else f"a {type(array).__name__}"
