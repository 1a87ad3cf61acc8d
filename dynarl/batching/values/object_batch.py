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
from dynarl.batching.groups.group import Rows, SampleGroup, number_key
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.values.shared_memory import argument

__all__ = ["ObjectBatch", "RowsOf", "eager_rows"]

Kind = tuple[tuple[int, ...], Any]
"""Shape and dtype of an array."""
RowsOf = Callable[[SampleGroup, int], SampleTensor]
"""Makes the SampleTensor of a group whose rows begin at a row of a stacked array."""


class ObjectBatch:
    """N Python objects, one for each sample: trees, graphs, records of nested tuples, lists, dicts and dataclasses.

    Inside a per-sample program it is the sample's own object. Arrays and tensors in it are the sample's tensors;
    numbers, strings and None stay unchanged, for `if`, `len` and recursion. Samples whose objects have the same
    structure run as one group. With many different structures use `mode="lockstep"`, which "auto" then chooses.
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
            _flatten(item, key, leaves)
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
        return _rebuild(self.objects[first], iter(tensors))


def eager_rows(source: Tensor) -> RowsOf:
    """Return what makes SampleTensors of consecutive rows of a stacked array."""
    return lambda group, start: argument(source[start : start + group.size], group)


def _flatten(item: Any, key: list[Any], leaves: list[Any]) -> None:
    """Append an object's arrays to `leaves`, and to `key` everything that must be equal for a common structure."""
    kind = item.__class__
    if kind is tuple or kind is list:
        key.append(kind)
        key.append(len(item))
        for part in item:
            if part.__class__ is np.ndarray:
                leaves.append(part)
                key.append(part.shape)
                key.append(part.dtype)
            else:
                _flatten(part, key, leaves)
    elif kind is np.ndarray or isinstance(item, (Tensor, np.generic)):
        leaves.append(item)
        key += (tuple(item.shape), item.dtype)
    elif kind in _CONSTANTS:
        key += (kind, number_key(item))
    elif isinstance(item, dict):
        key += (kind, tuple(item))
        for part in item.values():
            _flatten(part, key, leaves)
    elif dataclasses.is_dataclass(item) or isinstance(item, tuple):
        key.append(kind)
        for part in _fields(item):
            _flatten(part, key, leaves)
    else:
        key.append(id(item))


def _fields(item: Any) -> Sequence[Any]:
    return item if isinstance(item, tuple) else [getattr(item, field.name) for field in dataclasses.fields(item)]


def _rebuild(item: Any, tensors: Iterator[SampleTensor]) -> Any:
    """Return a copy of an object with the tensors in place of its arrays."""
    kind = item.__class__
    if kind is tuple or kind is list:
        parts = [next(tensors) if part.__class__ is np.ndarray else _rebuild(part, tensors) for part in item]
        return parts if kind is list else tuple(parts)
    if kind is np.ndarray or isinstance(item, (Tensor, np.generic)):
        return next(tensors)
    if kind in _CONSTANTS:
        return item
    if isinstance(item, dict):
        return {name: _rebuild(part, tensors) for name, part in item.items()}
    if dataclasses.is_dataclass(item):
        made = copy.copy(item)
        for field in dataclasses.fields(item):
            object.__setattr__(made, field.name, _rebuild(getattr(item, field.name), tensors))
        return made
    return kind(*[_rebuild(part, tensors) for part in item]) if isinstance(item, tuple) else item


_CONSTANTS = frozenset((int, float, bool, str, type(None)))
