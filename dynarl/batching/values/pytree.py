"""Pytrees: what programs take and return, nested tuples, lists, dicts and distributions with tensors as leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.tensor import wrap
from dynarl.batching.values.sample_number import SampleNumber
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.distributions import Bernoulli, Branched, Categorical, Independent, MultiCategorical, Normal, Product

__all__ = [
    "NODES",
    "NUMBERS",
    "Encoded",
    "copied",
    "describe",
    "flatten",
    "is_simple",
    "map_leaves",
    "opaque",
    "refuse_opaque",
    "register_node",
    "unflatten",
]

Structure = Any
"""A hashable description of the nesting of a tree: "leaf", ("constant", value), or (class, structures)."""
Parts = Callable[[Any], tuple[Any, ...]]
Build = Callable[..., Any]

NUMBERS = (bool, int, float)
_LEAVES = frozenset((SampleTensor, SampleNumber, Tensor, *NUMBERS))
_LEAF_KINDS = (Tensor, *NUMBERS)


def _number(x: Any) -> int:
    """Return a number that became a tensor on the way: it is equal for all samples."""
    if isinstance(x, int):
        return x
    return int((x.tensor if x.__class__ is SampleTensor else x).array.reshape(-1)[0])


NODES: dict[type, tuple[Parts, Build]] = {
    Categorical: (lambda d: (d._logits,), lambda x: Categorical(logits=x, validate_args=False)),
    Bernoulli: (lambda d: (d.logits,), lambda x: Bernoulli(logits=x, validate_args=False)),
    Normal: (lambda d: (d._loc, d._scale), lambda m, s: Normal(m, s, validate_args=False)),
    Independent: (
        lambda d: (d.base_dist, d.reinterpreted_batch_ndims),
        lambda base, n: Independent(base, _number(n), validate_args=False),
    ),
    MultiCategorical: (
        lambda d: (d._logits, tuple(d.nvec)),
        lambda x, nvec: MultiCategorical(x, [_number(n) for n in nvec], validate_args=False),
    ),
    Branched: (lambda d: (d.base, d.branch_log_prob, d.branch_entropy), Branched),
    Product: (lambda d: d.parts, lambda *parts: Product(parts, validate_args=False)),
}


def register_node(kind: type, parts: Parts, build: Build) -> None:
    """Let programs return objects of a class: `parts(object)` returns its tree, `build(*parts)` undoes that."""
    NODES[kind] = parts, build


class Encoded:
    """A tree that is described already: see `dynarl.batching.values.heap`."""

    __slots__ = ("leaves", "structure")

    def __init__(self, leaves: list[Any], structure: Structure) -> None:
        self.leaves, self.structure = leaves, structure


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """Return (leaves, structure) of a tree."""
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(tree: Any, leaves: list[Any]) -> Structure:
    kind = tree.__class__
    if kind in _LEAVES or isinstance(tree, _LEAF_KINDS):
        leaves.append(tree)
        return "leaf"
    if kind is tuple:
        return tuple, tuple([_flatten(part, leaves) for part in tree])
    if isinstance(tree, (np.generic, np.ndarray)):
        leaves.append(wrap(np.asarray(tree)))
        return "leaf"
    if kind in (tuple, list) or isinstance(tree, tuple):
        return kind, tuple([_flatten(part, leaves) for part in tree])
    if isinstance(tree, dict):
        return dict, tuple((key, _flatten(tree[key], leaves)) for key in sorted(tree, key=str))
    if tree is None or isinstance(tree, str):
        return "constant", tree
    node = NODES.get(kind)
    if node is not None:
        return kind, tuple(_flatten(part, leaves) for part in node[0](tree))
    if kind is Encoded:
        leaves.extend(tree.leaves)
        return Encoded, (len(tree.leaves), tree.structure)
    return "constant", _Opaque(tree)


class _Opaque:
    """An object that is passed on unchanged; two are equal if they are the same object."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Opaque) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def opaque(value: object) -> Structure:
    """Return an object as a constant of a structure, equal to itself only."""
    return _Opaque(value)


def refuse_opaque(structure: Structure) -> None:
    """Raise TypeError if a structure has an object that cannot be a result."""
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
        refuse_opaque(part[1] if kind is dict else part)


def unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    """Return the tree of a structure with leaves taken from an iterator."""
    if structure == "leaf":
        return next(leaves)
    kind, parts = structure
    if kind == "constant":
        return parts.value if isinstance(parts, _Opaque) else parts
    if kind is Encoded:
        return Encoded([next(leaves) for _ in range(parts[0])], parts[1])
    if kind is dict:
        return {key: unflatten(part, leaves) for key, part in parts}
    built = [unflatten(part, leaves) for part in parts]
    if kind in NODES:
        return NODES[kind][1](*built)
    return kind(*built) if hasattr(kind, "_fields") else kind(built)


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to every leaf."""
    leaves, structure = flatten(tree)
    return unflatten(structure, iter([function(leaf) for leaf in leaves]))


def copied(tree: Any) -> Any:
    """Return a tree with the same leaves but new lists, dicts and distributions (these cache what they compute).

    Each execution gets containers of its own, since the program may change them.
    """
    kind = tree.__class__
    if kind is tuple:
        return tuple([part if part.__class__ is SampleTensor else copied(part) for part in tree])
    if kind is list:
        return [copied(part) for part in tree]
    if kind is dict:
        return {key: copied(part) for key, part in tree.items()}
    if kind in _IMMUTABLE:
        return tree
    node = NODES.get(kind)
    return tree if node is None else node[1](*[copied(part) for part in node[0](tree)])


_IMMUTABLE = (SampleTensor, SampleNumber, Tensor, int, float, bool, str, type(None))


def is_simple(tree: Any) -> bool:
    """Return whether a value is a tensor, number, string or None, or a tuple of them: it can be handed out again."""
    kind = tree.__class__
    if kind is tuple:
        return all([part.__class__ in _SIMPLE or is_simple(part) for part in tree])
    return kind in _SIMPLE


_SIMPLE = frozenset((SampleTensor, SampleNumber, int, float, bool, str, type(None)))


def describe(structure: Structure) -> str:
    """Return a structure as text, for messages."""
    if structure == "leaf":
        return "tensor"
    kind, parts = structure
    if kind == "constant":
        return repr(parts.value if isinstance(parts, _Opaque) else parts)
    if kind is Encoded:
        return "state"
    if kind is dict:
        return "{" + ", ".join(f"{key}: {describe(part)}" for key, part in parts) + "}"
    return f"{kind.__name__}({', '.join(describe(part) for part in parts)})"
