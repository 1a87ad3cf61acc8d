"""Joining: the results of a group's parts become one result, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.device import xp
from dynarl.autograd.dtypes import result_type
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.group import PerSampleError, Rows, SampleGroup
from dynarl.batching.groups.rows import join_unchecked
from dynarl.batching.values.pytree import NUMBERS, Structure, describe, flatten, refuse_opaque, unflatten
from dynarl.batching.values.sample_number import SampleNumber, kind_of_number, numbers_of
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.values.shared_memory import note_joined, tracks_views

__all__ = ["join", "join_all"]

Groups = list[SampleGroup]
_Flat = tuple[SampleGroup, list[Any], Structure]


def join(
    results: Sequence[tuple[SampleGroup, Any]], group: SampleGroup, *, apart: bool = False
) -> list[tuple[Any, SampleGroup]]:
    """Join results where a scope ends: [(tree, group)], with more than one entry if some cannot be joined.

    Parts with different structures or different Python numbers stay apart, the largest first. A number joins tensors
    of other parts if it can be one without loss, but not with `apart`, for recorded paths: reading a tensor is a
    decision, reading a number is not.
    """
    trees = [tree for _, tree in results]
    parts = [part for part, _ in results]
    if len(trees) == 1 and parts[0] is group and trees[0].__class__ is SampleTensor and trees[0].group is group:
        return [(trees[0], group)]
    if _similar(trees, final=False):
        target = _union(parts, group)
        return [(_join_similar(trees, parts, target, final=False), target)]
    flat = [(part, *flatten(tree)) for part, tree in results]
    classes: dict[Any, list[_Flat]] = {}
    likes: dict[Any, Any] = {}
    for part, leaves, structure in flat:
        key = _key(structure, leaves, [] if apart else flat, likes)
        classes.setdefault(key, []).append((part, leaves, structure))
    joined = [_join_flat(members, group, final=False) for members in classes.values()]
    joined.sort(key=lambda entry: -entry[1].size)
    return joined


def join_all(results: Sequence[tuple[SampleGroup, Any]], group: SampleGroup) -> Any:
    """Join the results of a whole program into one tree of SampleTensors; Python numbers become tensors [n]."""
    trees = [tree for _, tree in results]
    if len(trees) == 1 and trees[0].__class__ is SampleTensor and trees[0].group is group:
        return trees[0]
    if _similar(trees, final=True):
        parts = [part for part, _ in results]
        return _join_similar(trees, parts, _union(parts, group), final=True)
    flat = [(part, *flatten(tree)) for part, tree in results]
    first = flat[0][2]
    refuse_opaque(first)
    for part, _, structure in flat:
        if structure != first:
            raise PerSampleError(
                "the program returned different structures on different paths: "
                f"{describe(first)} for samples {flat[0][0].samples()[:4].tolist()}, {describe(structure)} for samples "
                f"{part.samples()[:4].tolist()}; return the same nesting of tuples, dicts and distributions everywhere"
            )
    return _join_flat(flat, group, final=True)[0]


def _union(parts: Groups, group: SampleGroup) -> SampleGroup:
    """Return the group of all samples of some parts of a group."""
    if sum([part.size for part in parts]) == group.size:
        return group
    if len(parts) == 1:
        return parts[0]
    return group.part(np.sort(np.concatenate([part.rows_in(group) for part in parts])))


def _place(part: SampleGroup, target: SampleGroup) -> Rows:
    """Return the rows of a part's samples in a target that contains them."""
    if part is target:
        return np.arange(target.size)
    return part.rows_in(target) if part.within(target) else np.searchsorted(target.samples(), part.samples())


# -- the common case: tuples of tensors of one shape and dtype ------------------------------------------------------


def _similar(trees: Sequence[Any], *, final: bool) -> bool:
    """Return whether trees are tuples of SampleTensors, equal at every place but for their values (and equal numbers).

    These join without being flattened.
    """
    first = trees[0]
    kind: Any = type(first)  # not __class__, which a SampleNumber has of its values
    if kind is SampleTensor:
        return _similar_tensors(first, trees)
    if kind is tuple:
        size = len(first)
        for tree in trees:
            if tree.__class__ is not tuple or len(tree) != size:
                return False
        for column in zip(*trees):  # noqa: SIM110  (all() takes three times as long)
            if not _similar(column, final=final):
                return False
        return True
    if first is not None and (final or kind not in NUMBERS):
        return False
    if kind is float:
        first = repr(first)
        return all([type(tree) is float and repr(tree) == first for tree in trees])
    return all([type(tree) is kind and tree == first for tree in trees])


def _similar_tensors(first: SampleTensor, trees: Sequence[Any]) -> bool:
    array = first.tensor.array
    shape, dtype = array.shape[1:], array.dtype
    for tree in trees:
        if tree is not first:
            if tree.__class__ is not SampleTensor:
                return False
            array = tree.tensor.array
            if array.dtype is not dtype or array.shape[1:] != shape:
                return False
    return True


def _join_similar(trees: Sequence[Any], parts: Groups, target: SampleGroup, *, final: bool) -> Any:
    places = tuple([_place(part, target) for part in parts])

    def joined(trees: Sequence[Any]) -> Any:
        first = trees[0]
        if first.__class__ is SampleTensor:
            return _join_tensors(trees, parts, target, places, final=final)
        return tuple([joined(column) for column in zip(*trees)]) if first.__class__ is tuple else first

    return joined(trees)


def _join_tensors(
    column: Sequence[SampleTensor], parts: Groups, target: SampleGroup, places: tuple[Rows, ...], *, final: bool
) -> SampleTensor:
    """Join SampleTensors of one shape and dtype."""
    first = column[0]
    if not final:
        for x in column:
            if x is not first:
                break
        else:
            if target.within(first.group):
                return first  # no path changed it
    tensors = []
    sources: list[Rows | None] = []
    for x, part in zip(column, parts):
        tensor = x.held(part)
        sources.append(part.rows_in(x.group) if tensor is None else None)
        tensors.append(x.tensor if tensor is None else tensor)
    joined = _joined(tensors, sources, parts, target, places)
    if tracks_views():
        note_joined(joined, column)
    return joined


def _joined(
    tensors: list[Tensor], sources: list[Rows | None], parts: Groups, target: SampleGroup, places: tuple[Rows, ...]
) -> SampleTensor:
    if len(parts) == 1 and parts[0] is target and sources[0] is None:
        return SampleTensor(tensors[0], target)
    return SampleTensor(join_unchecked(tensors, tuple(sources), places, target.size), target)


# -- the general case: flattened trees, numbers beside tensors ------------------------------------------------------


def _key(structure: Structure, leaves: list[Any], flat: list[_Flat], likes: dict[Any, Any]) -> Any:
    """Return what two parts must share to be joined: structure, shapes, dtypes, and numbers that stay numbers."""
    kinds = [
        (leaf.shape, leaf.dtype) if kind_of_number(leaf) is None else _kind_of_number(leaf, i, structure, flat, likes)
        for i, leaf in enumerate(leaves)
    ]
    return structure, tuple(kinds)


def _kind_of_number(leaf: Any, i: int, structure: Structure, flat: list[_Flat], likes: dict[Any, Any]) -> Any:
    """Return shape and dtype of the tensors that a number can join, as in `halted = 0.0`, else its class."""
    if (i, structure) not in likes:
        column = [leaves[i] for _, leaves, other in flat if other == structure]
        kinds = {(x.shape, x.dtype): x for x in column if kind_of_number(x) is None}
        likes[i, structure] = next(iter(kinds.values())) if len(kinds) == 1 else None
    like = likes[i, structure]
    number = kind_of_number(leaf)
    return (like.shape, like.dtype) if like is not None and _fits(number, like) else number


def _fits(number: type | None, like: Any) -> bool:
    """Return whether numbers of a class become elements of a tensor without loss."""
    kind = like.dtype.kind
    return like.shape == () and (kind == "b" if number is bool else kind == "f" or (kind == "i" and number is int))


def _join_flat(members: list[_Flat], group: SampleGroup, *, final: bool) -> tuple[Any, SampleGroup]:
    parts = [part for part, _, _ in members]
    target = _union(parts, group)
    places = tuple([_place(part, target) for part in parts])
    columns = zip(*[leaves for _, leaves, _ in members])
    leaves = [_join_leaves(column, parts, target, places, final=final) for column in columns]
    return unflatten(members[0][2], iter(leaves)), target


def _join_leaves(
    column: tuple[Any, ...], parts: Groups, target: SampleGroup, places: tuple[Rows, ...], *, final: bool
) -> Any:
    first = column[0]
    if not final:
        if all([kind_of_number(leaf) is not None for leaf in column]):
            return _join_numbers(column, parts, target, places)
        if all([leaf is first for leaf in column]) and (
            first.__class__ is not SampleTensor or target.within(first.group)
        ):
            return first  # no path changed it, or all samples share it
    tensors, sources = _as_rows(column, parts)
    joined = _joined(tensors, sources, parts, target, places)
    if tracks_views():
        note_joined(joined, column)
    return joined


def _join_numbers(column: tuple[Any, ...], parts: Groups, target: SampleGroup, places: tuple[Rows, ...]) -> Any:
    """Join Python numbers of one class: equal ones stay what they are, others become a SampleNumber."""
    first = column[0]
    if type(first) is SampleNumber and target.within(first.group) and all([leaf is first for leaf in column]):
        return first
    kind = kind_of_number(first)
    arrays = [leaf.at(part) if type(leaf) is SampleNumber else leaf for leaf, part in zip(column, parts)]
    wide = any([x.dtype == object if type(x) is np.ndarray else kind is int and abs(x) >> 62 for x in arrays])
    values: Any = np.empty(target.size, object if wide else _DTYPES[kind])
    for numbers, place in zip(arrays, places):
        values[place] = numbers
    return numbers_of(values.tolist() if wide else values, target)


_DTYPES: dict[Any, Any] = {bool: np.bool_, int: np.int64, float: np.float64}


def _as_rows(column: tuple[Any, ...], parts: Groups) -> tuple[list[Tensor], list[Rows | None]]:
    """Return Tensors that hold the rows of the parts, and which of their rows these are (None: all)."""
    like = next((leaf for leaf in column if isinstance(leaf, (SampleTensor, Tensor))), None)
    tensors: list[Tensor] = []
    sources: list[Rows | None] = []
    for leaf, part in zip(column, parts):
        rows = None
        if leaf.__class__ is SampleTensor:
            tensor = leaf.held(part)
            if tensor is None:
                tensor, rows = leaf.tensor, part.rows_in(leaf.group)
        elif isinstance(leaf, Tensor):
            tensor = leaf.expand((part.size, *leaf.shape))  # shared: [...] -> [n, ...]
        else:
            tensor = _filled(leaf, like, part, column)
        tensors.append(tensor)
        sources.append(rows)
    shapes = {t.array.shape[1:] for t in tensors}
    if len(shapes) > 1:
        raise PerSampleError(
            f"paths of the program return tensors of different shapes {sorted(shapes)} in the same place; "
            "pad them, or reduce them to one shape before they meet"
        )
    if len({t.array.dtype for t in tensors}) > 1:
        dtype = result_type(*(t.array for t in tensors))
        tensors = [t.to(dtype) for t in tensors]
    return tensors, sources


def _filled(number: Any, like: Any, part: SampleGroup, column: tuple[Any, ...]) -> Tensor:
    """Return a number as rows of a tensor, in the dtype that an operation of it and `like` gives."""
    if type(number) is SampleNumber:
        dtype = _dtype_of(column) if like is None else result_type(like, number.kind())
        rows = number.at(part).astype(dtype)
        rows = rows if like is None else xp(_array(like)).asarray(rows)
    elif like is None:
        rows = np.full((part.size,), number, dtype=_dtype_of(column))
    else:
        rows = xp(_array(like)).full((part.size, *like.shape), number, dtype=result_type(like, number))
    filled: Tensor = wrap(rows)
    return filled


def _array(like: Any) -> Any:
    return like.tensor.array if like.__class__ is SampleTensor else like.array


def _dtype_of(column: tuple[Any, ...]) -> np.dtype[Any]:
    kinds = {kind_of_number(leaf) for leaf in column}
    return np.dtype(np.float32 if float in kinds else np.int64 if int in kinds else np.bool_)
