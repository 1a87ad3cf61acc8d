"""State dicts of optimisers as checkpoints hold them: arrays and JSON scalars, every key a string."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dynarl.autograd import Tensor, from_numpy
from dynarl.autograd.device import to_host

__all__ = ["from_plain", "to_plain"]


def to_plain(tree: Any) -> Any:
    """Return a nested state with Tensors as NumPy arrays of their own memory and keys as strings."""
    if isinstance(tree, Mapping):
        return {str(key): to_plain(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [to_plain(value) for value in tree]
    if isinstance(tree, Tensor):
        return np.array(to_host(tree.array))
    return tree


def from_plain(tree: Any) -> Any:
    """Undo `to_plain`: arrays as Tensors, keys of digits as integers."""
    if isinstance(tree, Mapping):
        return {int(key) if key.isdigit() else key: from_plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [from_plain(value) for value in tree]
    if isinstance(tree, np.ndarray):
        return from_numpy(np.array(tree))
    return tree
