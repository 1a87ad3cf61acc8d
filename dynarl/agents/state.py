"""What an object saves: a declared tuple of attribute names, written and read by one pair of functions.

    saved = ("learner.policy", "learner.optimizer", "env_steps", "actor.lockstep_flags as merging?")

A name may lead through parts of the object; the key of the checkpoint is its last part, or the name after "as" where
that is another. "?" marks what older checkpoints lack. Attributes are Modules, optimisers, random generators, Tensors,
arrays, numbers, lists of numbers, or objects with `state_dict` and `load_state_dict`; those that are None are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any

import numpy as np

from dynarl.autograd import Tensor, from_numpy
from dynarl.autograd.device import to_device, to_host
from dynarl.nn import Module
from dynarl.optim import Optimizer

__all__ = ["from_plain", "load_attributes", "save_attributes", "to_plain"]


def save_attributes(owner: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return {key: state} of an object's attributes, as nested dicts of arrays and JSON scalars."""
    state = {}
    for name in names:
        path, key = _path_and_key(name)
        value = attrgetter(path)(owner)
        if value is not None:
            state[key] = _state_of(value)
    return state


def load_attributes(owner: Any, names: Iterable[str], state: Mapping[str, Any]) -> None:
    """Restore an object's attributes from what `save_attributes` returned; raises KeyError for a missing key."""
    for name in names:
        path, key = _path_and_key(name)
        value = attrgetter(path)(owner)
        if value is None or (name.endswith("?") and key not in state):
            continue
        if not _restore(value, state[key]):
            parent, _, attribute = path.rpartition(".")
            setattr(attrgetter(parent)(owner) if parent else owner, attribute, _like(value, state[key]))


def _path_and_key(name: str) -> tuple[str, str]:
    path, _, key = name.removesuffix("?").partition(" as ")
    return path, key or path.rpartition(".")[2]


def _state_of(value: Any) -> Any:
    if isinstance(value, Module | Optimizer):
        return to_plain(value.state_dict())
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, Tensor | np.ndarray):
        return np.array(to_host(value.array if isinstance(value, Tensor) else value))
    return value.state_dict() if hasattr(value, "state_dict") else value


def _restore(value: Any, state: Any) -> bool:
    """Restore an object in place; return False for values that are replaced."""
    if isinstance(value, Optimizer):
        value.load_state_dict(from_plain(state))
    elif isinstance(value, np.random.Generator):
        value.bit_generator.state = state
    elif isinstance(value, Tensor):
        value.array[...] = to_device(np.asarray(state), str(value.device))
    elif hasattr(value, "load_state_dict"):
        value.load_state_dict(state)
    else:
        return False
    return True


def _like(value: Any, state: Any) -> Any:
    """Return a saved value in the type of the present one; a checkpoint may hold a number as an array."""
    return np.array(state) if isinstance(value, np.ndarray) else type(value)(state)


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
