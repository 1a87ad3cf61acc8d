"""ObjectBatch: a batch of Python objects, such as trees, one for each sample."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.ops.shape import stack
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.group import PerSampleError, Rows, SampleGroup, number_key
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.values.shared_memory import argument
from dynarl.nn import Module

__all__ = ["ObjectBatch", "RowsOf", "eager_rows"]

Kind = tuple[tuple[int, ...], Any]
"""Shape and dtype of an array."""
RowsOf = Callable[[SampleGroup, int], SampleTensor]
"""Makes the SampleTensor of a group whose rows begin at a row of a stacked array."""


class ObjectBatch:
    """N Python objects, one for each sample: trees, graphs, records of nested tuples, lists, dicts and dataclasses.

    Inside a per-sample program it is the sample's own object. Arrays and tensors in it are the sample's tensors;
    numbers, strings and None stay unchanged, for `if`, `len` and recursion. Objects of other classes are copied deeply:
    the program changes its own. Pointers to a parent and two names for one object stay what they are. Samples whose
    objects have the same structure run as one group. With many different structures use `mode="lockstep"`, which "auto"
    then chooses.
    """

    def __init__(self, objects: Sequence[Any]) -> None:
        if len(objects) == 0:
            raise ValueError("ObjectBatch: needs at least one object, got none")
        self.objects = list(objects)
        self.structure: Rows = np.empty(len(self.objects), np.int64)  # [N], equal for objects of the same structure
        found: list[list[Any]] = []
        structures: dict[tuple[Any, ...], int] = {}
        members: list[list[int]] = []
        for i, item in enumerate(self.objects):
            key: list[Any] = []
            leaves: list[Any] = []
            _flatten(item, key, leaves, {})
            found.append(leaves)
            g = self.structure[i] = structures.setdefault(tuple(key), len(members))
            if g == len(members):
                members.append([])
            members[g].append(i)
        self._stack(found, members)

    def _stack(self, found: list[list[Any]], members: list[list[int]]) -> None:
        """Arrange all arrays of one shape and dtype in one stack.

        The arrays at one place of the objects of one structure are consecutive, so that a group's rows are a slice.
        """
        self.position: Rows = np.empty(len(self.objects), np.int64)  # [N], place among objects of the same structure
        self._parts: dict[Kind, list[Any]] = {}
        self._places: list[list[tuple[Kind, int]]] = []
        for same in members:
            for place, i in enumerate(same):
                self.position[i] = place
            places = []
            for column in zip(*[found[i] for i in same]):
                first = column[0]
                kind = tuple(first.shape), first.dtype
                parts = self._parts.setdefault(kind, [])
                places.append((kind, len(parts)))
                parts.extend(column)
            self._places.append(places)
        self._sources: dict[Kind, Tensor] = {}

    def __len__(self) -> int:
        return len(self.objects)

    def sources(self) -> dict[Kind, Tensor]:
        """Return the stacked arrays; those through which no gradient flows are kept for the next call."""
        made = {}
        for kind, parts in self._parts.items():
            source = self._sources.get(kind)
            if source is None:
                if all([part.__class__ is np.ndarray for part in parts]):
                    shape = len(parts), *kind[0]
                    # concatenate and reshape is several times faster than np.stack on many small arrays
                    rows = np.concatenate(parts).reshape(shape) if len(shape) > 1 else np.array(parts)
                    source = self._sources[kind] = wrap(rows)
                else:
                    source = stack([part if isinstance(part, Tensor) else wrap(part) for part in parts])
                    if source._node is None:
                        self._sources[kind] = source
            made[kind] = source
        return made

    def of_group(
        self, group: SampleGroup, samples: Rows, sources: Mapping[Kind, Tensor], rows_of: Mapping[Kind, RowsOf]
    ) -> Any:
        """Return the object of a group of samples with the same structure, its arrays as SampleTensors."""
        first = int(samples[0])
        places = self._places[self.structure[first]]
        start = int(self.position[first])
        positions = self.position[samples] if len(samples) > 1 else None
        if positions is None or bool((positions[1:] - positions[:-1] == 1).all()):
            tensors = [rows_of[kind](group, base + start) for kind, base in places]
        else:
            tensors = [argument(sources[kind][base + positions], group) for kind, base in places]
        return _rebuild(self.objects[first], iter(tensors), {})

    def tensors(self) -> list[Tensor]:
        """Return the tensors in the objects through which gradients flow."""
        return [x for parts in self._parts.values() for x in parts if isinstance(x, Tensor) and x._node is not None]

    def of_sample(self, sample: int, noise: Callable[[Any], Any]) -> tuple[Any, list[Tensor]]:
        """Return the object of one sample, its arrays as plain Tensors after a function, and these Tensors."""
        leaves: list[Any] = []
        _flatten(self.objects[sample], [], leaves, {})
        tensors = [noise(leaf if isinstance(leaf, Tensor) else wrap(np.asarray(leaf))) for leaf in leaves]
        return _rebuild(self.objects[sample], iter(tensors), {}), tensors


def eager_rows(source: Tensor) -> RowsOf:
    """Return what makes SampleTensors of consecutive rows of a stacked array."""
    return lambda group, start: argument(source[start : start + group.size], group)


def _flatten(item: Any, key: list[Any], leaves: list[Any], seen: dict[int, int]) -> None:
    """Append an object's arrays to `leaves`, and to `key` everything that must be equal for a common structure.

    `seen` numbers the mutable objects: a second name for one of them, or a pointer to a parent, is its number.
    """
    kind = item.__class__
    if kind in _CONSTANTS:
        key += (kind, number_key(item))
        return
    if kind is not tuple:
        number = seen.get(id(item))
        if number is not None:
            key += (_SAME, number)
            return
        if kind is not list:
            _flatten_other(item, key, leaves, seen)
            return
        seen[id(item)] = len(seen)
    key.append(kind)
    key.append(len(item))
    for part in item:
        if part.__class__ is np.ndarray and part.dtype in _DTYPES:
            leaves.append(part)
            key.append(part.shape)
            key.append(part.dtype)
        else:
            _flatten(part, key, leaves, seen)


def _flatten_other(item: Any, key: list[Any], leaves: list[Any], seen: dict[int, int]) -> None:
    kind = item.__class__
    if _is_numeric(item):
        leaves.append(item)
        key += (tuple(item.shape), item.dtype)
        return
    seen[id(item)] = len(seen)
    if isinstance(item, np.generic):  # text and dates of NumPy
        key += (kind, item)
    elif isinstance(item, dict):
        key += (kind, tuple(item))
        for part in item.values():
            _flatten(part, key, leaves, seen)
    elif dataclasses.is_dataclass(item) or isinstance(item, tuple):
        key.append(kind)
        for part in _fields(item):
            _flatten(part, key, leaves, seen)
    else:
        key.append(id(item))


def _is_numeric(item: Any) -> bool:
    """Return whether an item is the sample's tensor in a program: an array or a tensor of numbers."""
    return isinstance(item, Tensor) or (isinstance(item, (np.ndarray, np.generic)) and item.dtype.kind in _NUMERIC)


def _fields(item: Any) -> Sequence[Any]:
    return item if isinstance(item, tuple) else [getattr(item, field.name) for field in dataclasses.fields(item)]


def _rebuild(item: Any, tensors: Iterator[Tensor], made: dict[int, Any]) -> Any:
    """Return a copy of an object with the tensors in place of its arrays; `made` has the copies of mutable objects."""
    kind = item.__class__
    if kind in _CONSTANTS:
        return item
    if kind is tuple:
        return tuple([_rebuild(part, tensors, made) for part in item])
    if (kind is np.ndarray and item.dtype in _DTYPES) or _is_numeric(item):
        return next(tensors)
    known = made.get(id(item))
    if known is not None:
        return known
    if kind is list:
        parts = made[id(item)] = []
        parts.extend([_rebuild(part, tensors, made) for part in item])
        return parts
    return _rebuild_other(item, tensors, made)


def _rebuild_other(item: Any, tensors: Iterator[Tensor], made: dict[int, Any]) -> Any:
    if isinstance(item, np.generic):
        return item
    if isinstance(item, dict):
        names: dict[Any, Any] = {}
        made[id(item)] = names
        names.update({name: _rebuild(part, tensors, made) for name, part in item.items()})
        return names
    if dataclasses.is_dataclass(item):
        copied = made[id(item)] = copy.copy(item)
        for field in dataclasses.fields(item):
            object.__setattr__(copied, field.name, _rebuild(getattr(item, field.name), tensors, made))
        return copied
    if isinstance(item, tuple):
        return item.__class__(*[_rebuild(part, tensors, made) for part in item])
    return _own(item, made)


def _own(item: Any, made: dict[int, Any]) -> Any:
    """Return a copy of an object of another class: a program may change it, and the original is the caller's."""
    if isinstance(item, Module) or getattr(item.__class__, "_batching_constant", False):
        return item
    try:
        return copy.deepcopy(item, made)
    except Exception as error:
        raise PerSampleError(
            f"ObjectBatch: an object of class {type(item).__name__} cannot be copied ({error}), and a program may "
            "change it more often than once; make it in the program, or give its class __deepcopy__"
        ) from error


_NUMERIC = "biufc"
_DTYPES = frozenset(map(np.dtype, (np.float32, np.float64, np.int64, np.bool_)))  # known at once
_SAME = "an object that came before"
_CONSTANTS = frozenset((int, float, bool, str, type(None)))
