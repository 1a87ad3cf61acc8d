"""Gradients and where they gather: gradients of a few elements, the `.grad` of a leaf, hooks on tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.autograd.device import xp
from dynarl.autograd.graph import Leaf
from dynarl.autograd.tensor import wrap

__all__ = ["IndexedGradient", "accumulate", "add_at", "apply_hooks", "dense"]


class IndexedGradient:
    """A gradient that is zero outside some index, which names no element twice; a vjp on raw arrays may return it."""

    __slots__ = ("index", "shape", "values")

    def __init__(self, values: Any, index: Any, shape: tuple[int, ...]) -> None:
        self.values, self.index, self.shape = values, index, shape

    def dense(self) -> Any:
        """Return the whole array."""
        out = xp(self.values).zeros(self.shape, dtype=self.values.dtype)
        out[self.index] = self.values
        return out


def add_at(total: Any, index: Any, values: Any) -> None:
    """Add values in place at an index that names no element twice."""
    if index.__class__ is not np.ndarray or index.dtype.kind == "b":
        total[index] += values
        return
    rows = total.take(index, axis=0)  # a quarter faster than NumPy's indexing
    rows += values
    total[index] = rows


def dense(g: Any) -> Any:
    """Return the whole array of a gradient that may be a part."""
    return g.dense() if g.__class__ is IndexedGradient else g


def accumulate(leaf: Leaf, g: Any) -> None:
    """Add a raw gradient to a leaf: the first one fills its home in the flat buffer, later ones add in place."""
    grad = leaf.grad
    if grad is None:
        home = leaf.home
        if home is None:
            leaf.grad = wrap(xp(g).array(g))
        else:
            if g is not home.array:
                xp(home.array).copyto(home.array, g)
            leaf.grad = home
    elif grad._node is not None:
        leaf.grad = grad + wrap(g)
    else:
        grad.array += g


def apply_hooks(hooks: Any, g: Any) -> Any:
    """Run a tensor's hooks over its gradient; what a hook returns replaces it."""
    for (hook,) in tuple(hooks) if hooks else ():
        raw = not hasattr(g, "_node")
        changed = hook(wrap(g) if raw else g)
        if changed is not None:
            g = changed.array if raw else changed
    return g
