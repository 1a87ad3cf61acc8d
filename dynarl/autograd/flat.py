"""Flat buffers: parameters and gradients as views of one vector each, which makes clip and Adam vector operations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dynarl.autograd.device import device_of, xp
from dynarl.autograd.tensor import wrap

__all__ = ["Flat", "flatten"]


class Flat:
    """One vector of parameters and one of their gradients, of one dtype on one device."""

    __slots__ = ("__weakref__", "data", "grad")

    def __init__(self, data: Any, grad: Any) -> None:
        self.data, self.grad = data, grad


def flatten(parameters: Iterable[Any]) -> None:
    """Move leaf tensors that have no Flat yet into a new one per dtype and device; values stay, memory changes."""
    groups: dict[Any, list[Any]] = {}
    for p in dict.fromkeys(parameters):
        if p._leaf is None or p._leaf.flat is None:
            groups.setdefault((p.array.dtype, str(device_of(p.array))), []).append(p)
    for members in groups.values():
        _move_in(members)


def _move_in(members: list[Any]) -> None:
    first = members[0].array
    np_ = xp(first)
    total = sum(p.array.size for p in members)
    flat = Flat(np_.empty(total, dtype=first.dtype), np_.zeros(total, dtype=first.dtype))
    start = 0
    for p in members:
        if p._leaf is None:  # a frozen parameter joins the buffer as well, so that it can be unfrozen later
            p.requires_grad_()
            p.requires_grad_(False)
        leaf, shape, stop = p._leaf, p.array.shape, start + p.array.size
        view = flat.data[start:stop].reshape(shape)
        view[...] = p.array
        p.array = view
        leaf.flat, leaf.start, leaf.stop = flat, start, stop
        leaf.grad_view = wrap(flat.grad[start:stop].reshape(shape))
        if leaf.grad is not None:
            leaf.grad_view.array[...] = leaf.grad.array
            leaf.grad = leaf.grad_view
        start = stop
