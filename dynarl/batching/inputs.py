"""Inputs of a batched run: the arguments of a call, taken apart into batches and given to the program per sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.execution import Entry, Operands, Static
from dynarl.batching.groups.group import Rows
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.lockstep.lazy import lazy_rows
from dynarl.batching.values.object_batch import ObjectBatch, RowsOf, eager_rows
from dynarl.batching.values.pytree import Structure, unflatten
from dynarl.batching.values.ragged import Ragged
from dynarl.batching.values.shared_memory import argument

__all__ = ["Inputs"]

_OBJECTS = (Ragged, ObjectBatch)


class Inputs:
    """The arguments of one call: every tensor, array, Ragged and ObjectBatch in them has N samples."""

    def __init__(self, args: Operands, kwargs: Static) -> None:
        self.leaves: list[Any] = []
        parts = tuple([_flatten(value, self.leaves) for value in args])
        named = tuple([(name, _flatten(value, self.leaves)) for name, value in kwargs.items()])
        self.structure: Structure = tuple, ((tuple, parts), (dict, named))
        self.size = _batch_size(self.leaves)

    def tensors(self) -> list[Tensor]:
        """Return the batches that are tensors."""
        return [x for x in self.leaves if not isinstance(x, _OBJECTS)]

    def constants(self) -> list[tuple[str, Any]]:
        """Return (name, object) of the arguments that all samples share."""
        args, kwargs = self.structure[1]
        named = [(i, part) for i, part in enumerate(args[1])]
        found: list[tuple[str, Any]] = []
        for name, part in (*named, *kwargs[1]):
            _collect_constants(str(name), part, found)
        return found

    def entries(self, run: BatchedRun, *, lockstep: bool = False) -> list[Entry]:
        """Return an entry for each group that starts together: all samples whose objects have the same structure."""
        objects = [x for x in self.leaves if isinstance(x, ObjectBatch)]
        if not objects:
            return [(*unflatten(self.structure, iter(self._batches(run))), run.root)]
        structures = np.stack([x.structure for x in objects])  # [objects, N]
        _, inverse = np.unique(structures, axis=1, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)
        return self._entries(run, parts, lazy_rows if lockstep else eager_rows)

    def single_samples(self, run: BatchedRun) -> list[Entry]:
        """Return an entry for each sample alone."""
        return self._entries(run, [np.array([i]) for i in range(run.root.size)], eager_rows)

    def _batches(self, run: BatchedRun) -> list[Any]:
        """Return the leaves as all samples of a run see them."""
        return [
            argument(x, run.root)
            if not isinstance(x, _OBJECTS)
            else x.per_sample(run.root)
            if isinstance(x, Ragged)
            else x
            for x in self.leaves
        ]

    def _entries(self, run: BatchedRun, parts: list[Rows], rows_of: Callable[[Tensor], RowsOf]) -> list[Entry]:
        """Return an entry for each part of the samples."""
        root, batches = run.root, self._batches(run)
        sources = {id(x): x.sources() for x in batches if isinstance(x, ObjectBatch)}
        makers = {key: {kind: rows_of(x) for kind, x in found.items()} for key, found in sources.items()}
        entries: list[Entry] = []
        for samples in parts:
            group = root if len(samples) == root.size else root.part(samples)
            given = [
                x.of_group(group, samples, sources[id(x)], makers[id(x)]) if isinstance(x, ObjectBatch) else x
                for x in batches
            ]
            entries.append((*unflatten(self.structure, iter(given)), group))
        return entries


def _flatten(tree: Any, leaves: list[Any]) -> Structure:
    """Append the batches in a tree of arguments to `leaves` and return its structure; other objects are constants."""
    if tree.__class__ is Tensor or isinstance(tree, (Tensor, Ragged, ObjectBatch)):
        leaves.append(tree)
        return "leaf"
    if isinstance(tree, dict):
        return dict, tuple([(key, _flatten(value, leaves)) for key, value in tree.items()])
    if isinstance(tree, (tuple, list)):
        return type(tree), tuple([_flatten(value, leaves) for value in tree])
    if isinstance(tree, np.ndarray):
        leaves.append(wrap(tree))
        return "leaf"
    if hasattr(tree, "_batch_fields"):
        return _FromFields(type(tree)), tuple(_flatten(value, leaves) for value in tree._batch_fields())
    return "constant", tree


def _collect_constants(name: str, structure: Structure, found: list[tuple[str, Any]]) -> None:
    if structure == "leaf":
        return
    kind, parts = structure
    if kind == "constant":
        found.append((name, parts))
        return
    for i, part in enumerate(parts):
        key, inner = part if kind is dict else (i, part)
        _collect_constants(f"{name}[{key!r}]", inner, found)


class _FromFields:
    """In a structure: a class whose instances are made from their fields."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.__name__ = kind.__name__

    def __call__(self, fields: Sequence[Any]) -> Any:
        return self.kind(*fields)


def _batch_size(leaves: list[Any]) -> int:
    sizes = {len(x) if isinstance(x, _OBJECTS) else x.array.shape[0] if x.array.ndim else None for x in leaves}
    if not leaves:
        raise ValueError(
            "batched: at least one argument must be a tensor, an array, a Ragged or an ObjectBatch of N samples"
        )
    if len(sizes) != 1 or None in sizes:
        shapes = [f"{type(x).__name__} of {len(x)}" if isinstance(x, _OBJECTS) else tuple(x.shape) for x in leaves]
        raise ValueError(f"batched: all arguments must have the same leading axis of N samples, got {shapes}")
    (size,) = sizes
    if not size:
        raise ValueError("batched: needs at least one sample, got none")
    return int(size)
