"""What a PPO policy may return besides distribution, value and state: its own loss, and numbers worth logging.

The last part of the result may be a dict of numbers ([N] tensors, in a policy with a state written for batches)::

    return Categorical(logits), value, {"loss": 0.01 * steps, "steps": steps}

``loss`` is added to the agent's loss, its mean over a minibatch with weight 1: the price of thinking
(arXiv:1603.08983), the KL of a halting distribution (arXiv:2107.05407), a distillation loss. The mean of every entry
is logged as ``policy/NAME``: steps of computation, experts used, depth reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Extra", "check_extra", "extra_of"]

Extra = Mapping[str, Any]


def extra_of(out: tuple[Any, ...]) -> Extra:
    """Return what stands behind distribution, value and state in a policy's result; empty where nothing does."""
    extra: Extra = out[3] if len(out) > 3 else {}
    return extra


def check_extra(extra: Any, rows: int) -> None:
    """Refuse an extra that is no dict of tensors [rows]."""
    if not isinstance(extra, Mapping):
        raise TypeError(
            f"policy: the extra after its other results must be a dict of tensors, got {type(extra).__name__}"
        )
    for name, column in extra.items():
        shape = tuple(getattr(column, "shape", ()))
        if shape != (rows,):
            raise ValueError(f"policy: extra[{name!r}] of {rows} observations must have shape ({rows},), got {shape}")
