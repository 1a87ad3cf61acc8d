"""Contents of what can change, piece by piece, to find and undo a change."""

from __future__ import annotations

import array
import contextvars
import functools
import types
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.device import to_host
from dynarl.batching.guard.generators import is_generator
from dynarl.batching.guard.reach import (
    INTERNAL,
    LARGEST,
    NOT_STATE,
    UNASSIGNED,
    cell_content,
    context_value,
    slots_of,
)
from dynarl.batching.values.sample_number import SampleNumber
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.nn import Module

__all__ = ["LARGEST_ARRAY", "Attributes", "Content", "OfArray", "OfVariable", "content_of"]

Pairs = list[tuple[Any, Any]]


class Content:
    """How the pieces of an object are read, by key, and given back."""

    def __init__(self, x: Any) -> None:
        self.x = x
        self.before = self.pieces()

    def pieces(self) -> Pairs:
        """Return (key, value) of every piece."""
        raise NotImplementedError

    def restore(self) -> None:
        """Give the object the pieces that it had."""
        raise NotImplementedError

    def describe(self, key: Any) -> str:
        """Return a piece as text behind the name of the object."""
        return ""

    def changed(self) -> list[Any]:
        """Return the keys of pieces that are not what they were."""
        now, before = dict(self.pieces()), dict(self.before)
        return [
            key
            for key in {**before, **now}
            if not _same(now.get(key, UNASSIGNED), before.get(key, UNASSIGNED)) and not self.harmless(key, now.get(key))
        ]

    def harmless(self, key: Any, value: Any) -> bool:
        """Return whether a changed piece is a cache of what does not differ between samples."""
        return False


class Attributes(Content):
    """The attributes of a Module or of another object, also in slots."""

    def __init__(self, x: Any) -> None:
        self.slots = slots_of(type(x))
        super().__init__(x)

    def pieces(self) -> Pairs:
        x = self.x
        found = [(name, value) for name, value in getattr(x, "__dict__", {}).items() if name not in INTERNAL]
        for name in self.slots:
            value = getattr(x, name, UNASSIGNED)
            if value is not UNASSIGNED:
                found.append((name, value))
        return found

    def restore(self) -> None:
        x = self.x
        held = x.__dict__ if hasattr(x, "__dict__") else {}
        for name, _ in self.pieces():
            if name not in dict(self.before):
                if name in held:
                    del held[name]
                else:
                    object.__delattr__(x, name)
        for name, value in self.before:
            if name in self.slots:
                object.__setattr__(x, name, value)
            else:
                held[name] = value

    def describe(self, key: Any) -> str:
        return f".{key}"

    def harmless(self, key: Any, value: Any) -> bool:
        cached = next((vars(base)[key] for base in type(self.x).__mro__ if key in vars(base)), None)
        kept = value.__class__ is SampleTensor or is_generator(value)
        return isinstance(cached, functools.cached_property) and not kept


class OfFunction(Attributes):
    """The attributes of a function, without what the engine keeps there."""

    def __init__(self, x: Any) -> None:
        self.slots = ()
        Content.__init__(self, x)

    def pieces(self) -> Pairs:
        return [(name, value) for name, value in self.x.__dict__.items() if not name.startswith("_dynarl_")]


class OfClass(Content):
    """The attributes of a class."""

    def pieces(self) -> Pairs:
        return [(name, value) for name, value in vars(self.x).items() if name not in NOT_STATE]

    def restore(self) -> None:
        before = dict(self.before)
        for name in self.changed():
            if name in before:
                setattr(self.x, name, before[name])
            else:
                delattr(self.x, name)

    def describe(self, key: Any) -> str:
        return f".{key}"


class OfList(Content):
    """The elements of a list or deque; of a long one only how many there are."""

    def pieces(self) -> Pairs:
        x = self.x
        return [("length", len(x)), *(enumerate(x) if len(x) <= LARGEST else ())]

    def restore(self) -> None:
        x, size = self.x, self.before[0][1]
        if len(self.before) > 1 or size == 0:
            values = [value for _, value in self.before[1:]]
            if isinstance(x, list):
                list.__setitem__(x, slice(None), values)
            else:
                deque.clear(x)
                deque.extend(x, values)
        else:
            while len(x) > size:
                x.pop()


class OfDict(Content):
    """The entries of a dict; of a large one only how many there are."""

    def pieces(self) -> Pairs:
        x = self.x
        items = (OrderedDict if isinstance(x, OrderedDict) else dict).items(x) if len(x) <= LARGEST else ()
        return [("length", len(x)), *[((_Key(key),), value) for key, value in items]]

    def restore(self) -> None:
        x, size = self.x, self.before[0][1]
        base = OrderedDict if isinstance(x, OrderedDict) else dict
        if len(self.before) > 1 or size == 0:
            base.clear(x)
            for (key,), value in self.before[1:]:
                base.__setitem__(x, key.key, value)
        else:
            while len(x) > size:
                x.popitem()

    def describe(self, key: Any) -> str:
        return "" if key == "length" or type(key[0].key) is SampleNumber else f"[{key[0].key!r}]"


class _Key:
    """A key of a dict by identity: its own hash may read a value, or its own equality compare tensors."""

    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key

    def __hash__(self) -> int:
        return id(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.key is other.key


class OfSet(Content):
    """The elements of a set."""

    def pieces(self) -> Pairs:
        return [("elements", frozenset(self.x) if len(self.x) <= LARGEST else len(self.x))]

    def restore(self) -> None:
        elements = self.before[0][1]
        if elements.__class__ is frozenset:
            set.clear(self.x)
            set.update(self.x, elements)


class OfCell(Content):
    """The content of a variable."""

    def pieces(self) -> Pairs:
        return [("content", cell_content(self.x))]

    def restore(self) -> None:
        value = self.before[0][1]
        if value is not UNASSIGNED:
            self.x.cell_contents = value
        else:
            del self.x.cell_contents


class OfVariable(Content):
    """The content of a global."""

    def pieces(self) -> Pairs:
        return [("content", self.x.namespace.get(self.x.name, UNASSIGNED))]

    def restore(self) -> None:
        value = self.before[0][1]
        if value is not UNASSIGNED:
            self.x.namespace[self.x.name] = value
        else:
            self.x.namespace.pop(self.x.name, None)


LARGEST_ARRAY = 1 << 16
"""Elements of an array that is compared as a whole; of larger ones every so many."""


class OfArray(Content):
    """The numbers of a NumPy array."""

    def pieces(self) -> Pairs:
        return [("numbers", self.read())]

    def read(self) -> Any:
        """Return the bytes of the array, or of some of its elements."""
        x = self.x
        return x.tobytes() if x.size <= LARGEST_ARRAY else x.reshape(-1)[:: x.size // 1024].tobytes()

    def restore(self) -> None:
        x = self.x
        if x.size <= LARGEST_ARRAY:
            x[...] = np.frombuffer(self.before[0][1], x.dtype).reshape(x.shape)


class OfTensor(OfArray):
    """The numbers of a small Tensor, which NumPy may change."""

    def read(self) -> Any:
        return to_host(self.x.array).tobytes()

    def restore(self) -> None:
        x = self.x.array
        if isinstance(x, np.ndarray):
            x[...] = np.frombuffer(self.before[0][1], x.dtype).reshape(x.shape)


class OfBytes(OfArray):
    """The elements of a bytearray or an array of Python's library."""

    def read(self) -> Any:
        return bytes(self.x)

    def restore(self) -> None:
        before = self.before[0][1]
        self.x[:] = before if isinstance(self.x, bytearray) else array.array(self.x.typecode, before)


class OfContext(Content):
    """The value of a context variable."""

    def pieces(self) -> Pairs:
        return [("value", context_value(self.x))]

    def restore(self) -> None:
        if self.before[0][1] is not UNASSIGNED:
            self.x.set(self.before[0][1])


_EQUAL = frozenset((int, str, bytes, bool, frozenset))


def _same(a: Any, b: Any) -> bool:
    kind = type(a)
    if a is b or kind is not type(b):
        return a is b
    return repr(a) == repr(b) if kind in (float, complex) else kind in _EQUAL and bool(a == b)


def content_of(x: Any) -> Content:
    """Return how to read and restore an object that a walk found."""
    if isinstance(x, Module):
        return Attributes(x)
    for kind, content in _CONTENTS.items():
        if isinstance(x, kind):
            return content(x)
    return Attributes(x)


_CONTENTS: dict[type, Callable[[Any], Content]] = {
    types.FunctionType: OfFunction, types.CellType: OfCell, list: OfList, deque: OfList, dict: OfDict, set: OfSet,
    np.ndarray: OfArray, type: OfClass, Tensor: OfTensor, bytearray: OfBytes, array.array: OfBytes,
    contextvars.ContextVar: OfContext,
}  # fmt: skip
