"""Results of a path, and what it changed, as leaves and a structure that can be joined and handed out more than once.

The description refers to the objects of a `Heap` by number. Joined changes are written into the same objects, so that
every other name for them sees the change, as in plain Python. Objects that the path made are made anew each time.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.tensor import wrap
from dynarl.batching.values.heap import NO_HEAP, Heap
from dynarl.batching.values.kinds import Inseparable, Kind, SharedTensor, Through, kind_of
from dynarl.batching.values.pytree import NODES, Encoded, Structure, copied, is_simple, opaque
from dynarl.batching.values.sample_number import SampleNumber
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["decode", "encode", "packed", "unpacked"]


def encode(values: tuple[Any, ...], heap: Heap) -> Encoded:
    """Return values, and the contents of the objects of a heap that have changed, as leaves and a structure."""
    encoder = _Encoder(heap)
    parts = [encoder.structure(value) for value in values]
    changes = []
    for i in heap.changed():
        x, kind = heap.objects[i]
        changes.append((i, encoder.contents(kind, kind.read(x))))
    return Encoded(encoder.leaves, (tuple(parts), tuple(changes)))


class _Encoder:
    def __init__(self, heap: Heap) -> None:
        self.heap = heap
        self.leaves: list[Any] = []
        self.made: dict[int, tuple[int, Any]] = {}

    def structure(self, x: Any) -> Structure:
        """Return the structure of an object, with its leaves appended to `leaves`."""
        cls = x.__class__
        if cls is SampleTensor or cls in _NUMBERS:
            self.leaves.append(x)
            return "leaf"
        if x is None or cls is str:
            return "constant", x
        if isinstance(x, tuple):
            return cls, tuple([self.structure(part) for part in x])
        known = self.heap.index.get(id(x))
        if known is not None:
            return "old", known
        seen = self.made.get(id(x))
        if seen is not None:
            return "made", seen[0]
        node = NODES.get(cls)
        if node is not None:
            return cls, tuple([self.structure(part) for part in node[0](x)])
        return self._object(x)

    def _object(self, x: Any) -> Structure:
        """Return the structure of an object that the path made, or of one that cannot change."""
        if isinstance(x, Tensor) and (x._node is not None or x.requires_grad):
            self.leaves.append(x)  # part of a graph: shared as it is
            return "leaf"
        kind = kind_of(x)
        if kind is None:
            return "constant", _Value(x) if isinstance(x, _BY_EQUALITY) else opaque(x)
        if kind.__class__ is Through:
            return self._leading(x)
        number = len(self.made)
        self.made[id(x)] = number, x
        if kind.__class__ is SharedTensor:
            self.leaves.append(x)
            return "tensor", number
        return "new", (number, x.__class__, _Like(x), self.contents(kind, kind.read(x)))

    def _leading(self, x: Any) -> Structure:
        """Return the structure of a function or method that the scope made or looked up."""
        if x.__class__ is types.MethodType:
            return types.MethodType, (self.structure(x.__func__), self.structure(x.__self__))
        if x.__class__ is types.BuiltinFunctionType:
            if isinstance(x.__self__, types.ModuleType) or x.__self__ is None:
                return "constant", opaque(x)
            return "bound", (x.__name__, self.structure(x.__self__))
        if x.__class__ is types.FunctionType and not x.__closure__:
            return "constant", opaque(x)
        raise Inseparable(f"a {x.__class__.__name__} that it made")  # it would keep the variables of one path

    def contents(self, kind: Kind, contents: Any) -> Structure:
        parts = tuple([self.structure(part) for part in kind.parts(contents)])
        return _Fixed(kind, contents), parts


class _Like:
    """In a structure: an object after which others are made. All of a class are equal, but for settings."""

    def __init__(self, x: Any) -> None:
        self.x = x
        self.settings = getattr(x, "default_factory", None), getattr(x, "maxlen", None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Like) and other.settings == self.settings

    def __hash__(self) -> int:
        return hash(self.settings)


class _Fixed:
    """In a structure: contents of which only the parts may differ between paths that join."""

    def __init__(self, kind: Kind, contents: Any) -> None:
        self.kind, self.contents = kind, contents
        self.key = kind.__class__, kind.fixed(contents)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fixed) and other.key == self.key

    def __hash__(self) -> int:
        try:
            return hash(self.key)
        except TypeError:
            return hash(self.key[0])


class _Value:
    """In a structure: an object that is equal to others of its value."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Value) and other.value.__class__ is self.value.__class__ and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


_BY_EQUALITY = (np.generic, bytes, complex, frozenset, range)
_NUMBERS = frozenset((bool, int, float, SampleNumber))


def decode(encoded: Encoded, heap: Heap) -> tuple[Any, ...]:
    """Return the values of `encode`, with new objects for those that were new, and make the changes to the heap."""
    parts, changes = encoded.structure
    decoder = _Decoder(encoded.leaves, heap)
    values = tuple([decoder.value(part) for part in parts])
    new = [(heap.objects[i], decoder.contents(contents)) for i, contents in changes]
    for (x, kind), contents in new:
        kind.write(x, contents)
    return values


class _Decoder:
    def __init__(self, leaves: list[Any], heap: Heap) -> None:
        self.leaves, self.heap = iter(leaves), heap
        self.made: dict[int, Any] = {}

    def value(self, structure: Structure) -> Any:
        """Return the object of a structure."""
        if structure == "leaf":
            return next(self.leaves)
        kind, inside = structure
        if kind.__class__ is str:
            return _DECODED[kind](self, inside)
        built = [self.value(part) for part in inside]
        if kind is types.MethodType:
            return types.MethodType(*built)
        if kind in NODES:
            return NODES[kind][1](*built)
        return kind(*built) if hasattr(kind, "_fields") else kind(built)

    def contents(self, contents: Structure) -> Any:
        """Return the contents of an object that can change."""
        fixed, inside = contents
        return fixed.kind.build(fixed.contents, iter([self.value(part) for part in inside]))

    def _constant(self, inside: Any) -> Any:
        return inside.value if inside.__class__ in _CONSTANTS else inside

    def _old(self, inside: int) -> Any:
        return self.heap.objects[inside][0]

    def _made(self, inside: int) -> Any:
        return self.made[inside]

    def _bound(self, inside: Any) -> Any:
        return getattr(self.value(inside[1]), inside[0])

    def _tensor(self, inside: int) -> Any:
        leaf = next(self.leaves)
        self.made[inside] = leaf if leaf.__class__ is SampleTensor else wrap(leaf.array.copy())
        return self.made[inside]

    def _new(self, inside: Any) -> Any:
        number, _, like, contents = inside
        kind = contents[0].kind
        x = self.made[number] = kind.make(like.x)  # before its contents, which may lead back to it
        kind.write(x, self.contents(contents))
        return x


_DECODED: dict[str, Callable[[_Decoder, Any], Any]] = {
    "constant": _Decoder._constant, "old": _Decoder._old, "made": _Decoder._made, "tensor": _Decoder._tensor,
    "bound": _Decoder._bound,
    "new": _Decoder._new,
}  # fmt: skip
_CONSTANTS = frozenset((opaque(None).__class__, _Value))


def packed(result: Any) -> Any:
    """Return a result as it can be logged and handed out more than once."""
    if is_simple(result) or result.__class__ in NODES:
        return result
    if result.__class__ is tuple and all([is_simple(part) or part.__class__ in NODES for part in result]):
        return result
    return encode((result,), NO_HEAP)


def unpacked(result: Any, heap: Heap = NO_HEAP) -> Any:
    """Return a packed result for the program to keep."""
    return decode(result, heap)[0] if result.__class__ is Encoded else copied(result)
