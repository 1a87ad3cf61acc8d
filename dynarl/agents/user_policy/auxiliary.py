"""Auxiliary outputs (aux) of a PPO policy: its own loss, and numbers to log.

The last part of a policy's result may be a dict of numbers, or of tensors [N] in a policy written for batches::

    return Categorical(logits), value, {"loss": 0.01 * steps, "steps": steps}

PPO adds the mean of ``loss`` over a minibatch to its own loss with weight 1: the cost of computation
(arXiv:1603.08983), the KL divergence of a halting distribution (arXiv:2107.05407), a distillation loss. The mean of
every entry is logged as ``policy/NAME``: steps of computation, experts used, depth reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Aux", "aux_of", "check_aux"]

Aux = Mapping[str, Any]


def aux_of(out: tuple[Any, ...]) -> Aux:
    """Return the auxiliary outputs in a policy's result (distribution, value, state, aux); empty without any."""
    aux: Aux = out[3] if len(out) > 3 else {}
    return aux


def check_aux(aux: object, rows: int) -> None:
    """Raise TypeError or ValueError unless the auxiliary outputs are a dict of tensors [rows]."""
    if not isinstance(aux, Mapping):
        raise TypeError(f"policy: aux, the last output, must be a dict of tensors, got {type(aux).__name__}")
    for name, column in aux.items():
        shape = tuple(getattr(column, "shape", ()))
        if shape != (rows,):
            raise ValueError(f"policy: aux[{name!r}] of {rows} observations must have shape ({rows},), got {shape}")
