"""Gradients: of some elements only, accumulation into the `.grad` of a leaf, hooks on tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.autograd.device import xp
from dynarl.autograd.graph import Leaf
from dynarl.autograd.tensor import wrap

__all__ = ["IndexedGradient", "accumulate", "add_at", "apply_hooks", "dense"]


class IndexedGradient:
    """A gradient that is zero outside an index without repeated elements (TensorFlow's IndexedSlices).

    A gradient function on raw arrays may return it in place of a full array: the gradient of `x[i]` then costs the
    size of the slice, and many slices of one tensor add into one array.
    """

    __slots__ = ("index", "shape", "values")

    def __init__(self, values: Any, index: Any, shape: tuple[int, ...]) -> None:
        self.values, self.index, self.shape = values, index, shape

    def dense(self) -> Any:
        """Return the gradient as a full array."""
        out = xp(self.values).zeros(self.shape, dtype=self.values.dtype)
        out[self.index] = self.values
        return out


def add_at(total: Any, index: Any, values: Any) -> None:
    """Add values in place at an index without repeated elements."""
    if index.__class__ is not np.ndarray or index.dtype.kind == "b":
        total[index] += values
        return
    rows = total.take(index, axis=0)  # take is a quarter faster than total[index]
    rows += values
    total[index] = rows


def dense(g: Any) -> Any:
    """Return a gradient as a full array."""
    return g.dense() if g.__class__ is IndexedGradient else g


def accumulate(leaf: Leaf, g: Any) -> None:
    """Add a raw gradient to a leaf: copied into the flat buffer the first time, added in place after that."""
    grad = leaf.grad
    if grad is None:
        grad_view = leaf.grad_view
        if grad_view is None:
            leaf.grad = wrap(xp(g).array(g))
        else:
            if g is not grad_view.array:
                xp(grad_view.array).copyto(grad_view.array, g)
            leaf.grad = grad_view
    elif grad._node is not None:
        leaf.grad = grad + wrap(g)
    else:
        grad.array += g


def apply_hooks(hooks: Any, g: Any) -> Any:
    """Call a tensor's hooks with its gradient; a value that a hook returns replaces the gradient."""
    for (hook,) in tuple(hooks) if hooks else ():
        raw = not hasattr(g, "_node")
        changed = hook(wrap(g) if raw else g)
        if changed is not None:
            g = changed.array if raw else changed
    return g
