"""ObjectBatch: a batch of Python objects, such as trees, of which every sample has one."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.ops.shape import stack
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.lockstep.lazy import TensorSpec, lazy_rows, spec_of
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["ObjectBatch"]


class ObjectBatch:
    """N Python objects, one for each sample: trees, graphs, records of nested tuples, lists, dicts and dataclasses.

    Inside a per-sample program it is the sample's own object. Arrays and tensors in it are the sample's tensors;
    numbers, strings and None stay what they are, for `if`, `len` and recursion to go by. Samples whose objects have
    the same structure run together, and all of them side by side in `mode="lockstep"`, which "auto" chooses when
    structures are many.
    """

    def __init__(self, objects: Sequence[Any]) -> None:
        if len(objects) == 0:
            raise ValueError("ObjectBatch: needs at least one object, got none")
        self.objects = list(objects)
        found: list[list[Any]] = []
        structures: dict[Any, int] = {}
        self.structure = np.empty(len(self.objects), np.int64)
        members: list[list[int]] = []
        for i, item in enumerate(self.objects):
            key: list[Any] = []
            leaves: list[Any] = []
            _take_apart(item, key, leaves)
            found.append(leaves)
            g = self.structure[i] = structures.setdefault(tuple(key), len(members))
            if g == len(members):
                members.append([])
            members[g].append(i)
        # arrays of one shape and dtype lie in one source, those of a group's samples and place side by side
        self.position = np.empty(len(self.objects), np.int64)
        self._parts: dict[Any, list[Any]] = {}
        self._places: list[list[tuple[Any, int]]] = []
        for alike in members:
            for place, i in enumerate(alike):
                self.position[i] = place
            places = []
            for column in zip(*[found[i] for i in alike]):
                first = column[0]
                kind = tuple(first.shape), first.dtype
                parts = self._parts.setdefault(kind, [])
                places.append((kind, len(parts)))
                parts.extend(column)
            self._places.append(places)
        self._sources: dict[Any, Tensor] = {}

    def __len__(self) -> int:
        return len(self.objects)

    def sources(self) -> dict[Any, tuple[Tensor, TensorSpec]]:
        """Return the stacked arrays, and what one row of each is; kept where no gradient flows through them."""
        made = {}
        for kind, parts in self._parts.items():
            source = self._sources.get(kind)
            if source is None:
                if all([part.__class__ is np.ndarray for part in parts]):
                    shape = len(parts), *kind[0]
                    rows = np.concatenate(parts).reshape(shape) if len(shape) > 1 else np.array(parts)
                    source = self._sources[kind] = wrap(rows)
                else:
                    source = stack([part if isinstance(part, Tensor) else wrap(part) for part in parts])
                    if source._node is None:
                        self._sources[kind] = source
            made[kind] = source, spec_of(source)
        return made

    def of_group(
        self, group: SampleGroup, rows: Any, sources: dict[Any, tuple[Tensor, TensorSpec]], *, deferred: bool
    ) -> Any:
        """Return the object of a group of samples `rows` whose objects are alike, its arrays as lanes."""
        first = int(rows[0])
        places = self._places[self.structure[first]]
        n = len(rows)
        at = int(self.position[first])
        positions = self.position[rows] if n > 1 else None
        if positions is None or bool((positions[1:] - positions[:-1] == 1).all()):
            if deferred:
                lanes = [lazy_rows(*sources[k], group, start + at) for k, start in places]
            else:
                lanes = [SampleTensor(sources[k][0][start + at : start + at + n], group) for k, start in places]
        else:
            lanes = [SampleTensor(sources[k][0][start + positions], group) for k, start in places]
        return _rebuilt(self.objects[first], iter(lanes))


def _take_apart(item: Any, key: list[Any], leaves: list[Any]) -> None:
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
                _take_apart(part, key, leaves)
    elif kind is np.ndarray or isinstance(item, (Tensor, np.generic)):
        leaves.append(item)
        key += (tuple(item.shape), item.dtype)
    elif kind in _PLAIN:
        key += (kind, item)
    elif isinstance(item, dict):
        key += (kind, tuple(item))
        for part in item.values():
            _take_apart(part, key, leaves)
    elif dataclasses.is_dataclass(item) or isinstance(item, tuple):
        key.append(kind)
        for part in _fields(item):
            _take_apart(part, key, leaves)
    else:
        key.append(id(item))


def _fields(item: Any) -> Any:
    return item if isinstance(item, tuple) else [getattr(item, field.name) for field in dataclasses.fields(item)]


def _rebuilt(item: Any, lanes: Iterator[Any]) -> Any:
    kind = item.__class__
    if kind is tuple or kind is list:
        parts = [next(lanes) if part.__class__ is np.ndarray else _rebuilt(part, lanes) for part in item]
        return parts if kind is list else tuple(parts)
    if kind is np.ndarray or isinstance(item, (Tensor, np.generic)):
        return next(lanes)
    if kind in _PLAIN:
        return item
    if isinstance(item, dict):
        return {name: _rebuilt(part, lanes) for name, part in item.items()}
    if dataclasses.is_dataclass(item):
        made = copy.copy(item)
        for field in dataclasses.fields(item):
            object.__setattr__(made, field.name, _rebuilt(getattr(item, field.name), lanes))
        return made
    return kind(*[_rebuilt(part, lanes) for part in item]) if isinstance(item, tuple) else item


_PLAIN = frozenset((int, float, bool, str, type(None)))
