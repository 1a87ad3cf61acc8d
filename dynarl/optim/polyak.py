"""Polyak averaging of parameters: target networks and weight averages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.device import xp
from dynarl.autograd.versions import mark_modified

__all__ = ["polyak_update"]


def polyak_update(params: Iterable[Tensor], target_params: Iterable[Tensor], tau: float) -> None:
    """Move target parameters towards the online ones: target <- tau online + (1 - tau) target, in place.

    tau is the weight of the online network (DDPG, arXiv:1509.02971, section 3). Parameters that are contiguous
    in flat buffers on both sides are updated by one vector operation. Raises ValueError for a tau outside [0, 1],
    and where the numbers or shapes of the parameters differ.
    """
    if not 0.0 <= tau <= 1.0:
        raise ValueError(f"polyak_update: tau must lie in [0, 1], got {tau}")
    online, target = list(params), list(target_params)
    if len(online) != len(target):
        raise ValueError(f"polyak_update: got {len(online)} parameters and {len(target)} target parameters")
    for source, destination in _pairs(online, target):
        if tau == 1.0:
            destination[...] = source
        else:
            scratch = xp(source).multiply(source, tau)
            destination *= 1.0 - tau
            destination += scratch
        mark_modified(destination)


def _pairs(online: list[Tensor], target: list[Tensor]) -> list[tuple[Any, Any]]:
    """Return matching arrays of both sides; parameters that are contiguous on both are one pair."""
    pairs: list[tuple[Any, Any]] = []
    source: Any = None
    destination: Any = None
    start = stop = begin = end = -1
    for index, (p, t) in enumerate(zip(online, target)):
        if p.array.shape != t.array.shape:
            raise ValueError(
                f"polyak_update: parameter {index} has shape {tuple(p.array.shape)}, its target {tuple(t.array.shape)}"
            )
        a, b = p._leaf, t._leaf
        if a is None or a.flat is None or b is None or b.flat is None:
            pairs.append((p.array, t.array))
        elif a.flat is source and b.flat is destination and a.start == stop and b.start == end:
            stop, end = a.stop, b.stop
        else:
            if source is not None:
                pairs.append((source.data[start:stop], destination.data[begin:end]))
            source, start, stop = a.flat, a.start, a.stop
            destination, begin, end = b.flat, b.start, b.stop
    if source is not None:
        pairs.append((source.data[start:stop], destination.data[begin:end]))
    return pairs
