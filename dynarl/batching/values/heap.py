"""The mutable objects that a scope of a program can reach: their contents before it, and what a path changed.

Each path of a scope must find everything as the scope found it, and what the paths changed must be joined behind it.
`Heap` walks from the scope's variables and arguments to every list, dict, array and object that is reachable. Before a
path runs, all of them get their contents back. After it, `encode` describes the results and the changes as leaves and a
structure, as `flatten` does, with references to the objects that existed before. Joined changes are written into the
same objects, so that every other name for them sees the change, as in plain Python.
"""

from __future__ import annotations

import copy
import dis
import enum
import functools
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from dynarl.autograd import Parameter, Tensor
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.execution import state
from dynarl.batching.values.pytree import NODES, Encoded, Structure, copied, opaque
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.nn import Module

__all__ = [
    "EMPTY", "FIXED", "NO_HEAP", "Heap", "Inseparable", "decode", "encode", "heap_of", "is_simple", "outer_cells",
    "packed", "reached_by", "unpacked",
]

_MOST_OBJECTS = 10_000
_LARGEST_ARRAY = 1 << 16
"""Elements of an array that a scope copies before it runs."""


class Inseparable(BaseException):
    """Raised when paths of a scope cannot have an object each to themselves; the scope then runs without joins."""


class _Empty:
    """The content of a variable that is not assigned."""

    def __repr__(self) -> str:
        return "<unassigned>"


EMPTY = _Empty()

FIXED: set[type] = {
    SampleTensor, int, float, bool, str, bytes, complex, type(None), type, range, slice, frozenset, _Empty, Parameter,
    types.ModuleType, types.BuiltinFunctionType, type(Ellipsis), type(NotImplemented), types.CodeType,
    types.MethodWrapperType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodDescriptorType,
    types.GetSetDescriptorType, types.MappingProxyType, property, staticmethod, classmethod,
}  # fmt: skip
"""Classes whose objects a program cannot change, or whose changes are refused elsewhere (Modules, parameters)."""


# -- kinds of objects -----------------------------------------------------------------------------------------------


class _Kind:
    """How objects of a class are read, written and made."""

    def read(self, x: Any) -> Any:
        """Return the contents of an object, none of which later changes."""
        raise NotImplementedError

    def write(self, x: Any, contents: Any) -> None:
        """Give an object contents."""
        raise NotImplementedError

    def make(self, like: Any) -> Any:
        """Return a new object of the class and settings of another, to be written."""
        return copy.copy(like)

    def parts(self, contents: Any) -> Iterable[Any]:
        """Return the objects in contents."""
        return contents  # type: ignore[no-any-return]

    def build(self, contents: Any, parts: Iterator[Any]) -> Any:
        """Return contents like the given ones with other parts."""
        return [*parts]

    def fixed(self, contents: Any) -> Any:
        """Return what must be equal for contents to be joined, apart from their parts."""
        return len(contents)

    def same(self, a: Any, b: Any) -> bool:
        """Return whether contents are the same, object for object."""
        return len(a) == len(b) and all(map(_is, a, b))


def _is(a: Any, b: Any) -> bool:
    return a is b or (a.__class__ in _BY_VALUE and a.__class__ is b.__class__ and a == b and str(a) == str(b))


_BY_VALUE = frozenset((int, float, str, bool))


class _List(_Kind):
    def read(self, x: Any) -> Any:
        return list(x)

    def write(self, x: Any, contents: Any) -> None:
        x[:] = contents


class _Deque(_List):
    def write(self, x: Any, contents: Any) -> None:
        x.clear()
        x.extend(contents)


class _Dict(_Kind):
    """Contents are [keys, values]; the keys are fixed."""

    def read(self, x: Any) -> Any:
        return [tuple(x), *x.values()]

    def write(self, x: Any, contents: Any) -> None:
        x.clear()
        x.update(zip(contents[0], contents[1:]))

    def parts(self, contents: Any) -> Iterable[Any]:
        return contents[1:]  # type: ignore[no-any-return]

    def build(self, contents: Any, parts: Iterator[Any]) -> Any:
        return [contents[0], *parts]

    def fixed(self, contents: Any) -> Any:
        return tuple([(key.__class__, key) for key in contents[0]])

    def same(self, a: Any, b: Any) -> bool:
        return self.fixed(a) == self.fixed(b) and all(map(_is, a[1:], b[1:]))


class _Set(_Kind):
    """The elements are fixed."""

    def read(self, x: Any) -> Any:
        return set(x)

    def write(self, x: Any, contents: Any) -> None:
        x.clear()
        x.update(contents)

    def parts(self, contents: Any) -> Iterable[Any]:
        return ()

    def build(self, contents: Any, parts: Iterator[Any]) -> Any:
        return contents

    def fixed(self, contents: Any) -> Any:
        return frozenset(contents)

    def same(self, a: Any, b: Any) -> bool:
        return bool(a == b)


class _Bytes(_Set):
    def read(self, x: Any) -> Any:
        return bytes(x)

    def write(self, x: Any, contents: Any) -> None:
        x[:] = contents

    def fixed(self, contents: Any) -> Any:
        return contents


class _Array(_Set):
    """A NumPy array; its numbers are fixed."""

    def read(self, x: Any) -> Any:
        if x.size > _LARGEST_ARRAY:
            raise Inseparable(f"an array of {x.size} elements")
        return x.copy()

    def write(self, x: Any, contents: Any) -> None:
        if x.shape != contents.shape:
            raise Inseparable("an array whose shape changed")
        x[...] = contents

    def make(self, like: Any) -> Any:
        return like.copy()

    def fixed(self, contents: Any) -> Any:
        return contents.shape, contents.dtype, contents.tobytes()

    def same(self, a: Any, b: Any) -> bool:
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


class _SharedTensor(_Array):
    """A plain Tensor: its numbers are equal for all samples and fixed."""

    def read(self, x: Any) -> Any:
        return super().read(x.array)

    def write(self, x: Any, contents: Any) -> None:
        super().write(x.array, contents)

    def make(self, like: Any) -> Any:
        return wrap(like.array.copy())


class _Cell(_Kind):
    def read(self, x: Any) -> Any:
        try:
            return [x.cell_contents]
        except ValueError:
            return [EMPTY]

    def write(self, x: Any, contents: Any) -> None:
        if contents[0] is not EMPTY:
            x.cell_contents = contents[0]
        elif self.read(x)[0] is not EMPTY:
            del x.cell_contents

    def make(self, like: Any) -> Any:
        raise Inseparable("a variable of an inner function")


class _Object(_Kind):
    """An object of a Python class: contents are [names, values] of its attributes."""

    def __init__(self, slots: tuple[str, ...]) -> None:
        self.slots = slots

    def read(self, x: Any) -> Any:
        values = dict(getattr(x, "__dict__", {}))
        for name in self.slots:
            value = getattr(x, name, EMPTY)
            if value is not EMPTY:
                values[name] = value
        return [tuple(values), *values.values()]

    def write(self, x: Any, contents: Any) -> None:
        values = dict(zip(contents[0], contents[1:]))
        for name in self.slots:
            value = values.pop(name, EMPTY)
            if value is not EMPTY:
                object.__setattr__(x, name, value)
            elif getattr(x, name, EMPTY) is not EMPTY:
                object.__delattr__(x, name)
        if hasattr(x, "__dict__"):
            x.__dict__.clear()
            x.__dict__.update(values)

    def make(self, like: Any) -> Any:
        return object.__new__(like.__class__)

    parts, build, fixed, same = _Dict.parts, _Dict.build, _Dict.fixed, _Dict.same


class _Frozen(_Object):
    """An object that cannot change, but leads to others: a frozen dataclass."""


class _Through(_Kind):
    """An object that cannot change, but leads to others: a function, a method, a partial or a tuple."""

    def __init__(self, parts: Callable[[Any], Iterable[Any]]) -> None:
        self.parts = parts  # type: ignore[method-assign]

    def read(self, x: Any) -> Any:
        return x

    def write(self, x: Any, contents: Any) -> None:
        pass

    def same(self, a: Any, b: Any) -> bool:
        return True


def _parts_of_function(function: Any) -> Iterable[Any]:
    """Return what a function leads to: its variables if it may assign them, else only what they hold."""
    cells = function.__closure__ or ()
    if not cells or _assigns_outer(function.__code__):
        return (*cells, *(function.__defaults__ or ()))
    outer = outer_cells()
    held = [_CELL.read(cell)[0] for cell in cells if id(cell) not in outer]
    return (*held, *(function.__defaults__ or ()))


def _assigns_outer(code: types.CodeType) -> bool:
    """Return whether a function, or one inside it, assigns variables of a function around it."""
    found = _assigning.get(id(code))
    if found is None or found[0] is not code:
        free = {*code.co_freevars}
        assigned = {
            i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_DEREF", "DELETE_DEREF")
        }  # fmt: skip
        inner = any(_assigns_outer(part) for part in code.co_consts if isinstance(part, types.CodeType))
        found = _assigning[id(code)] = code, bool(free & assigned) or inner
    return found[1]


_assigning: dict[int, tuple[types.CodeType, bool]] = {}


def outer_cells() -> frozenset[int]:
    """Return the variables of functions around the running program: outer state, which no program may change."""
    execution = state.execution
    return frozenset() if execution is None else execution.run.outer_cells


_TUPLE = _Through(lambda x: x)
_CELL = _Cell()
_KINDS: dict[type, _Kind | None] = {
    list: _List(), dict: _Dict(), set: _Set(), deque: _Deque(), bytearray: _Bytes(), tuple: _TUPLE,
    np.ndarray: _Array(), Tensor: _SharedTensor(), types.CellType: _CELL,
    types.FunctionType: _Through(_parts_of_function),
    types.MethodType: _Through(lambda x: (x.__self__, x.__func__)),
    functools.partial: _Through(lambda x: (x.func, *x.args, *x.keywords.values())),
}  # fmt: skip
_UNCHANGING = (
    Module, Parameter, type, np.generic, np.dtype, enum.Enum, types.ModuleType, BaseException, int, float, str, bytes,
    complex, *NODES,
)  # fmt: skip
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made in Python


def _kind_of(x: Any) -> _Kind | None:
    """Return how to treat an object, None if it cannot change; raise Inseparable if that is not known."""
    cls = x.__class__
    if cls in FIXED:
        return None
    if cls in _KINDS:
        return _KINDS[cls]
    kind = _new_kind(cls)
    if kind is None:
        FIXED.add(cls)
    else:
        _KINDS[cls] = kind
    return kind


def _new_kind(cls: type) -> _Kind | None:
    if issubclass(cls, _UNCHANGING) or cls in NODES or getattr(cls, "_batching_constant", False):
        return None
    if issubclass(cls, Tensor):
        return _KINDS[Tensor]
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is not None and parameters.frozen:
        return _Frozen(tuple([name for base in cls.__mro__ for name in _slots(base)]))
    native = [base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE]
    if native == [object] or native[0].__module__ in ("typing", "abc"):
        if not any("__dict__" in vars(base) or "__slots__" in vars(base) for base in cls.__mro__):
            return None
        return _Object(tuple([name for base in cls.__mro__ for name in _slots(base)]))
    for base, kind in _KINDS.items():
        if issubclass(cls, base) and base in (list, dict, set, deque, tuple, np.ndarray):
            return kind
    if cls.__module__.partition(".")[0] in _STANDARD and not hasattr(cls, "__next__"):
        return None
    raise Inseparable(f"an object of {cls.__module__}.{cls.__qualname__}")


_STANDARD = frozenset(("decimal", "fractions", "datetime", "pathlib", "re", "uuid", "operator", "itertools", "numpy"))


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(
        f"_{cls.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
        for name in names
        if name not in ("__dict__", "__weakref__")
    )


# -- what is reachable ----------------------------------------------------------------------------------------------


class Heap:
    """The mutable objects that are reachable from some roots, and their contents when it was made."""

    __slots__ = ("before", "index", "mutable", "objects")

    def __init__(self, roots: Iterable[Any]) -> None:
        self.objects: list[tuple[Any, _Kind]] = []
        self.before: list[Any] = []
        self.index: dict[int, int] = {}
        self.mutable = False  # whether anything in it can change
        seen: set[int] = set()
        keep: list[Any] = []  # what was seen stays alive, or its id could be another object's
        todo, outer = list(roots), outer_cells()
        while todo:
            x = todo.pop()
            if x.__class__ in FIXED or id(x) in seen or id(x) in outer:
                continue
            kind = _kind_of(x)
            if kind is None:
                continue
            seen.add(id(x))
            keep.append(x)
            if kind is _TUPLE or kind.__class__ is _Frozen:
                todo.extend(x if kind is _TUPLE else kind.parts(kind.read(x)))
                continue
            if len(self.objects) >= _MOST_OBJECTS:
                raise Inseparable(f"more than {_MOST_OBJECTS} objects")
            through = kind.__class__ is _Through
            contents = x if through else kind.read(x)
            self.mutable |= not through
            self.index[id(x)] = len(self.objects)
            self.objects.append((x, kind))
            self.before.append(contents)
            todo.extend(kind.parts(contents))

    def restore(self) -> None:
        """Give every object the contents that it had."""
        for (x, kind), contents in zip(self.objects, self.before):
            kind.write(x, contents)

    def changed(self) -> list[int]:
        """Return the objects whose contents are not what they were."""
        return [
            i
            for i, ((x, kind), before) in enumerate(zip(self.objects, self.before))
            if not kind.same(kind.read(x), before)
        ]


NO_HEAP = Heap(())


def heap_of(values: Iterable[Any]) -> Heap:
    """Return the heap of values; NO_HEAP, without a walk, if none of them leads to an object that can change."""
    for x in values:
        kind = x.__class__
        if kind not in FIXED and not (kind is tuple and is_simple(x)):
            heap = Heap(values)
            return heap if heap.objects else NO_HEAP
    return NO_HEAP


def reached_by(function: Any) -> tuple[Any, ...]:
    """Return (function,) if a function or method may lead to objects that can change, else ()."""
    if function.__class__ is types.MethodType:
        return (function,) if function.__self__.__class__ not in FIXED else reached_by(function.__func__)
    cells = getattr(function, "__closure__", None)
    if not cells:
        return ()
    if not _assigns_outer(function.__code__):
        outer = outer_cells()
        for cell in cells:
            if id(cell) not in outer and _CELL.read(cell)[0].__class__ not in FIXED:
                return (function,)
        return ()
    return (function,)


def is_simple(tree: Any) -> bool:
    """Return whether a value is a tensor, number, string or None, or a tuple of them: it can be handed out again."""
    kind = tree.__class__
    if kind is tuple:
        return all([part.__class__ in _SIMPLE or is_simple(part) for part in tree])
    return kind in _SIMPLE


_SIMPLE = frozenset((SampleTensor, int, float, bool, str, type(None), _Empty))


# -- encoding -------------------------------------------------------------------------------------------------------


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
        if isinstance(x, Tensor) and (x._node is not None or x.requires_grad):
            self.leaves.append(x)  # part of a graph: shared as it is
            return "leaf"
        kind = _kind_of(x)
        if kind is None:
            return "constant", _Value(x) if isinstance(x, _BY_EQUALITY) else opaque(x)
        if kind.__class__ is _Through:
            return self._leading(x)
        number = len(self.made)
        self.made[id(x)] = number, x
        if kind.__class__ is _SharedTensor:
            self.leaves.append(x)
            return "tensor", number
        return "new", (number, cls, _Like(x), self.contents(kind, kind.read(x)))

    def _leading(self, x: Any) -> Structure:
        """Return the structure of a function or method that the scope made or looked up."""
        if x.__class__ is types.MethodType:
            return types.MethodType, (self.structure(x.__func__), self.structure(x.__self__))
        if x.__class__ is types.FunctionType and not x.__closure__:
            return "constant", opaque(x)
        raise Inseparable(f"a {x.__class__.__name__} that it made")  # it would keep the variables of one path

    def contents(self, kind: _Kind, contents: Any) -> Structure:
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

    def __init__(self, kind: _Kind, contents: Any) -> None:
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
_NUMBERS = frozenset((bool, int, float))


def decode(encoded: Encoded, heap: Heap) -> tuple[Any, ...]:
    """Return the values of `encode` with new objects in place of new ones, and make the changes to the heap's objects."""
    leaves = iter(encoded.leaves)
    parts, changes = encoded.structure
    made: dict[int, Any] = {}

    def value(structure: Structure) -> Any:
        if structure == "leaf":
            return next(leaves)
        kind, inside = structure
        if kind == "constant":
            return inside.value if inside.__class__ in _CONSTANTS else inside
        if kind == "old":
            return heap.objects[inside][0]
        if kind == "made":
            return made[inside]
        if kind == "tensor":
            leaf = next(leaves)
            made[inside] = leaf if leaf.__class__ is SampleTensor else wrap(leaf.array.copy())
            return made[inside]
        if kind == "new":
            number, _, like, contents = inside
            how = contents[0].kind
            x = made[number] = how.make(like.x)
            how.write(x, filled(contents))
            return x
        built = [value(part) for part in inside]
        if kind is types.MethodType:
            return types.MethodType(*built)
        if kind in NODES:
            return NODES[kind][1](*built)
        return kind(*built) if hasattr(kind, "_fields") else kind(built)

    def filled(contents: Structure) -> Any:
        fixed, inside = contents
        return fixed.kind.build(fixed.contents, iter([value(part) for part in inside]))

    values = tuple([value(part) for part in parts])
    new = [(heap.objects[i], filled(contents)) for i, contents in changes]
    for (x, kind), contents in new:
        kind.write(x, contents)
    return values


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
