"""What programs take and return: nested tuples, lists, dicts and distributions with tensors in their leaves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.device import xp
from dynarl.autograd.dtypes import result_type
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.group import PerSampleError, SampleGroup
from dynarl.batching.groups.rows import joined as joined_rows
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["flatten", "join", "map_leaves", "node_of", "register_node", "unflatten"]

_NODES: dict[type, tuple[Callable[[Any], tuple[Any, ...]], Callable[..., Any]]] = {}
_NUMBERS = (bool, int, float)
_LEAVES = frozenset((SampleTensor, Tensor, *_NUMBERS))
_LEAF_KINDS = (Tensor, *_NUMBERS)


def register_node(kind: type, parts: Callable[[Any], tuple[Any, ...]], build: Callable[..., Any]) -> None:
    """Let programs return objects of a class: `parts` takes one apart, `build(*parts)` puts it together."""
    _NODES[kind] = parts, build


def node_of(kind: type) -> tuple[Callable[[Any], tuple[Any, ...]], Callable[..., Any]] | None:
    """Return how objects of a class are taken apart and put together, if it was registered."""
    if kind not in _NODES:
        _know_distributions()
    return _NODES.get(kind)


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """Return (leaves, structure) of a tree."""
    leaves: list[Any] = []
    return leaves, _take_apart(tree, leaves)


def _take_apart(tree: Any, leaves: list[Any]) -> Any:
    kind = tree.__class__
    if kind in _LEAVES or isinstance(tree, _LEAF_KINDS):
        leaves.append(tree)
        return "leaf"
    if kind is tuple:
        return tuple, tuple([_take_apart(part, leaves) for part in tree])
    if isinstance(tree, (np.generic, np.ndarray)):
        leaves.append(wrap(np.asarray(tree)))
        return "leaf"
    if kind in (tuple, list) or isinstance(tree, tuple):
        return kind, tuple([_take_apart(part, leaves) for part in tree])
    if isinstance(tree, dict):
        return dict, tuple((key, _take_apart(tree[key], leaves)) for key in sorted(tree, key=str))
    if tree is None or isinstance(tree, str):
        return "constant", tree
    node = node_of(kind)
    if node is not None:
        return kind, tuple(_take_apart(part, leaves) for part in node[0](tree))
    return "constant", _Opaque(tree)


class _Opaque:
    """An object that is passed on as it is; two are equal when they are one."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Opaque) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _refuse_opaque(structure: Any) -> None:
    if structure == "leaf":
        return
    kind, parts = structure
    if kind == "constant":
        if isinstance(parts, _Opaque):
            raise TypeError(
                "a per-sample program may return tensors, numbers, None, strings, distributions, and tuples, lists and "
                f"dicts of them, got {type(parts.value).__name__}; teach it by dynarl.batching.register_node"
            )
        return
    for part in parts:
        _refuse_opaque(part[1] if kind is dict else part)


def unflatten(structure: Any, leaves: Any) -> Any:
    """Undo `flatten`; `leaves` is an iterator."""
    if structure == "leaf":
        return next(leaves)
    kind, parts = structure
    if kind == "constant":
        return parts.value if isinstance(parts, _Opaque) else parts
    if kind is dict:
        return {key: unflatten(part, leaves) for key, part in parts}
    built = [unflatten(part, leaves) for part in parts]
    if kind in _NODES:
        return _NODES[kind][1](*built)
    return kind(*built) if hasattr(kind, "_fields") else kind(built)


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to every leaf."""
    leaves, structure = flatten(tree)
    return unflatten(structure, iter([function(leaf) for leaf in leaves]))


def join(
    results: list[tuple[SampleGroup, Any]], group: SampleGroup, *, numbers: bool, apart: bool = False
) -> list[tuple[Any, SampleGroup]]:
    """Join the results of a group's parts row by row: [(tree, group)], one entry if all can be joined.

    Python numbers that differ keep their parts apart, or with `numbers` become a tensor of each sample's own. A number
    may join other parts' tensors, but not with `apart`: to ask a tensor is a decision, to ask a number is none.
    """
    trees = [tree for _, tree in results]
    if len(trees) == 1 and trees[0].__class__ is SampleTensor and trees[0].group is group:
        return [(trees[0], group)]
    if _alike(trees, numbers):
        parts = [part for part, _ in results]
        target = group if sum([part.size for part in parts]) == group.size else _union(parts, group)
        return [(_join_alike(trees, parts, target, numbers), target)]
    flat = [(part, *flatten(tree)) for part, tree in results]
    first = flat[0][2]
    if numbers:
        _refuse_opaque(first)
    groups: dict[Any, list[Any]] = {}
    likes: dict[Any, Any] = {}
    for part, leaves, structure in flat:
        if numbers and structure != first:
            raise PerSampleError(
                "the program returned different structures on different paths: "
                f"{_shown(first)} for samples {flat[0][0].samples()[:4].tolist()}, {_shown(structure)} for samples "
                f"{part.samples()[:4].tolist()}; return the same nesting of tuples, dicts and distributions everywhere"
            )
        groups.setdefault(_key(structure, leaves, [] if apart else flat, numbers, likes), []).append(
            (part, leaves, structure)
        )
    joined = []
    for members in groups.values():
        whole = sum(part.size for part, _, _ in members) == group.size
        target = group if whole else _union([part for part, _, _ in members], group)
        columns = zip(*[leaves for _, leaves, _ in members])
        parts = [part for part, _, _ in members]
        places = tuple([_place(part, target) for part in parts])
        leaves = [_join_leaf(column, parts, target, places, numbers) for column in columns]
        joined.append((unflatten(members[0][2], iter(leaves)), target))
    joined.sort(key=lambda entry: -entry[1].size)
    return joined


def _alike(trees: Any, numbers: bool) -> bool:
    """Tell whether trees, usual ones, are joined to one in any case: tuples of lanes (and of equal numbers)."""
    first = trees[0]
    kind = first.__class__
    if kind is SampleTensor:
        return _are_lanes_like(first, trees)
    if kind is tuple:
        size = len(first)
        for tree in trees:
            if tree.__class__ is not tuple or len(tree) != size:
                return False
        for column in zip(*trees):  # noqa: SIM110  (all() costs three times as much)
            if not _alike(column, numbers):
                return False
        return True
    if first is not None and (numbers or kind not in _NUMBERS):
        return False
    return all([tree.__class__ is kind and tree == first for tree in trees])


def _are_lanes_like(first: Any, trees: Any) -> bool:
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


def _join_alike(trees: Any, parts: list[SampleGroup], target: SampleGroup, numbers: bool) -> Any:
    places = tuple([_place(part, target) for part in parts])

    def joined(trees: Any) -> Any:
        first = trees[0]
        if first.__class__ is SampleTensor:
            return _join_lanes(trees, parts, target, places, numbers)
        return tuple([joined(column) for column in zip(*trees)]) if first.__class__ is tuple else first

    return joined(trees)


def _join_lanes(
    lanes: Any, parts: list[SampleGroup], target: SampleGroup, places: tuple[Any, ...], numbers: bool
) -> Any:
    """Join lanes of one shape and dtype."""
    first = lanes[0]
    if not numbers:
        for lane in lanes:
            if lane is not first:
                break
        else:
            if target.within(first.group):
                return first  # what no path touched
    tensors = []
    sources: list[Any] = []
    for lane, part in zip(lanes, parts):
        tensor = lane.held(part)
        sources.append(part.rows_in(lane.group) if tensor is None else None)
        tensors.append(lane.tensor if tensor is None else tensor)
    if len(parts) == 1 and parts[0] is target and sources[0] is None:
        return SampleTensor(tensors[0], target)
    return SampleTensor(joined_rows(tuple(tensors), tuple(sources), places, target.size), target)


def _key(structure: Any, leaves: list[Any], flat: list[Any], numbers: bool, likes: dict[Any, Any]) -> Any:
    """What must be equal for two parts to be joined: structure and Python numbers that stay numbers."""
    if numbers:
        return None
    kinds = [
        _kind_of_number(leaf, i, structure, flat, likes) if leaf.__class__ in _NUMBERS else (leaf.shape, leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    return structure, tuple(kinds)


def _kind_of_number(leaf: Any, i: int, structure: Any, flat: list[Any], likes: dict[Any, Any]) -> Any:
    """A number joins one kind of tensor, if it can without losing anything: `halted = 0.0`."""
    if (i, structure) not in likes:
        column = [leaves[i] for _, leaves, other in flat if other == structure]
        kinds = {(x.shape, x.dtype): x for x in column if x.__class__ not in _NUMBERS}
        likes[i, structure] = next(iter(kinds.values())) if len(kinds) == 1 else None
    like = likes[i, structure]
    return (like.shape, like.dtype) if like is not None and _fits(leaf, like) else (leaf.__class__, leaf)


def _fits(number: Any, like: Any) -> bool:
    kind = like.dtype.kind
    return like.shape == () and (
        kind == "b" if number.__class__ is bool else kind == "f" or (kind == "i" and number.__class__ is int)
    )


def _union(parts: list[SampleGroup], group: SampleGroup) -> SampleGroup:
    if len(parts) == 1:
        return parts[0]
    return group.part(np.sort(np.concatenate([part.rows_in(group) for part in parts])))


def _join_leaf(
    column: tuple[Any, ...], parts: list[SampleGroup], target: SampleGroup, places: tuple[Any, ...], numbers: bool
) -> Any:
    first = column[0]
    if not numbers:
        if first.__class__ in _NUMBERS:
            if all([leaf.__class__ in _NUMBERS and leaf == first for leaf in column]):
                return first
        elif all([leaf is first for leaf in column]) and (
            first.__class__ is not SampleTensor or target.within(first.group)
        ):
            return first  # what no path touched, or all share
    tensors, sources = _as_rows(column, parts)
    if len(parts) == 1 and parts[0] is target and sources[0] is None:
        return SampleTensor(tensors[0], target)
    return SampleTensor(joined_rows(tuple(tensors), tuple(sources), places, target.size), target)


def _place(part: SampleGroup, target: SampleGroup) -> Any:
    """Return where a part's samples stand in a target that contains it."""
    if part is target:
        return np.arange(target.size)
    return part.rows_in(target) if part.within(target) else np.searchsorted(target.samples(), part.samples())


def _as_rows(column: tuple[Any, ...], parts: list[SampleGroup]) -> tuple[list[Tensor], list[Any]]:
    """Return tensors that hold the parts' rows, and which of their rows these are (None: all)."""
    like = next((leaf for leaf in column if isinstance(leaf, (SampleTensor, Tensor))), None)
    tensors: list[Tensor] = []
    sources: list[Any] = []
    for leaf, part in zip(column, parts):
        rows = None
        if leaf.__class__ is SampleTensor:
            tensor = leaf.held(part)
            if tensor is None:
                tensor, rows = leaf.tensor, part.rows_in(leaf.group)
        elif isinstance(leaf, Tensor):
            tensor = leaf.expand((part.size, *leaf.shape))
        else:
            tensor = _filled(leaf, like, part.size, column)
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


def _filled(number: Any, like: Any, size: int, column: tuple[Any, ...]) -> Tensor:
    """Return a number as the rows of a tensor, in the dtype it takes beside its like."""
    if like is None:
        return wrap(np.full((size,), number, dtype=_dtype_of(column)))
    namespace = xp(like.tensor.array if like.__class__ is SampleTensor else like.array)
    return wrap(namespace.full((size, *like.shape), number, dtype=result_type(like, number)))


def _dtype_of(column: tuple[Any, ...]) -> Any:
    kinds = {type(leaf) for leaf in column}
    return np.dtype(np.float32 if float in kinds else np.int64 if int in kinds else np.bool_)


def _shown(structure: Any) -> str:
    if structure == "leaf":
        return "tensor"
    kind, parts = structure
    if kind == "constant":
        return repr(parts)
    if kind is dict:
        return "{" + ", ".join(f"{key}: {_shown(part)}" for key, part in parts) + "}"
    return f"{kind.__name__}({', '.join(_shown(part) for part in parts)})"


@functools.cache
def _know_distributions() -> None:
    """Register dynarl's distributions, on the first object of an unknown class."""
    from dynarl.distributions import Bernoulli, Branched, Categorical, Independent, MultiCategorical, Normal, Product

    register_node(Categorical, lambda d: (d._logits,), lambda x: Categorical(logits=x, validate_args=False))
    register_node(Bernoulli, lambda d: (d.logits,), lambda x: Bernoulli(logits=x, validate_args=False))
    register_node(Normal, lambda d: (d._loc, d._scale), lambda m, s: Normal(m, s, validate_args=False))
    register_node(
        Independent,
        lambda d: (d.base_dist, d.reinterpreted_batch_ndims),
        lambda base, n: Independent(base, _number(n), validate_args=False),
    )
    register_node(
        MultiCategorical,
        lambda d: (d._logits, tuple(d.nvec)),
        lambda x, nvec: MultiCategorical(x, [_number(n) for n in nvec], validate_args=False),
    )
    register_node(
        Branched, lambda d: (d.base, d.branch_log_prob, d.branch_entropy), lambda base, *terms: Branched(base, *terms)
    )
    register_node(Product, lambda d: d.parts, lambda *parts: Product(parts, validate_args=False))


def _number(x: Any) -> int:
    if isinstance(x, int):
        return x
    return int((x.tensor if x.__class__ is SampleTensor else x).array.reshape(-1)[0])  # the same for all samples
