"""Kinds of objects: how the state of a list, a dict, an array or an object of a user's class is read and written."""

from __future__ import annotations

import copy
import datetime
import decimal
import dis
import enum
import fractions
import functools
import operator
import pathlib
import re
import types
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from dynarl.autograd import Parameter, Tensor
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.execution import state
from dynarl.batching.values.pytree import NODES
from dynarl.batching.values.sample_number import SampleNumber
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.nn import Module

__all__ = [
    "CELL", "EMPTY", "FIXED", "TUPLE", "Frozen", "Inseparable", "Kind", "SharedTensor", "Through", "assigns_outer",
    "kind_of", "outer_cells",
]  # fmt: skip

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
    SampleTensor, SampleNumber, int, float, bool, str, bytes, complex, type(None), type, range, slice, frozenset,
    _Empty, Parameter,
    types.ModuleType, type(Ellipsis), type(NotImplemented), types.CodeType,
    types.MethodWrapperType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodDescriptorType,
    types.GetSetDescriptorType, types.MappingProxyType, property, staticmethod, classmethod,
}  # fmt: skip
"""Classes whose objects a program cannot change, or whose changes are refused elsewhere (Modules, parameters)."""


class Kind:
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
        return contents

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


def _check_attributes(x: Any) -> None:
    if getattr(x, "__dict__", None):
        raise Inseparable(f"attributes of an object of {type(x).__name__}, a subclass of a container")


# Subclasses may define methods of the same names with another meaning (Counter.update): the base class's are used.


class _List(Kind):
    def read(self, x: Any) -> Any:
        _check_attributes(x)
        return list.copy(x)

    def write(self, x: Any, contents: Any) -> None:
        list.__setitem__(x, slice(None), contents)


class _Deque(Kind):
    def read(self, x: Any) -> Any:
        _check_attributes(x)
        return list(deque.__iter__(x))

    def write(self, x: Any, contents: Any) -> None:
        deque.clear(x)
        deque.extend(x, contents)


class _Dict(Kind):
    """Contents are [keys, values]; the keys are fixed."""

    def read(self, x: Any) -> Any:
        _check_attributes(x)
        base = OrderedDict if isinstance(x, OrderedDict) else dict
        items = list(base.items(x))
        return [tuple([_key(key) for key, _ in items]), *[value for _, value in items]]

    def write(self, x: Any, contents: Any) -> None:
        base = OrderedDict if isinstance(x, OrderedDict) else dict
        base.clear(x)
        for key, value in zip(contents[0], contents[1:]):
            base.__setitem__(x, key, value)

    def parts(self, contents: Any) -> Iterable[Any]:
        return contents[1:]

    def build(self, contents: Any, parts: Iterator[Any]) -> Any:
        return [contents[0], *parts]

    def fixed(self, contents: Any) -> Any:
        return tuple([(key.__class__, key) for key in contents[0]])

    def same(self, a: Any, b: Any) -> bool:
        return self.fixed(a) == self.fixed(b) and all(map(_is, a[1:], b[1:]))


def _key(key: Any) -> Any:
    """Return a key of a dict; a number has parted the samples when it was hashed, and is one number since."""
    return key.read() if type(key) is SampleNumber else key


class _Set(Kind):
    """The elements are fixed."""

    def read(self, x: Any) -> Any:
        _check_attributes(x)
        return {_key(element) for element in set.__iter__(x)}

    def write(self, x: Any, contents: Any) -> None:
        set.clear(x)
        set.update(x, contents)

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
        if x.dtype.hasobject:
            raise Inseparable("an array of Python objects")
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


class SharedTensor(_Array):
    """A plain Tensor: its numbers are equal for all samples and fixed. Contents are (numbers, node, leaf).

    It gets new memory when it is written: operations of another path keep the memory that they used, for backward.
    """

    def read(self, x: Any) -> Any:
        return super().read(x.array), x._node, x._leaf

    def write(self, x: Any, contents: Any) -> None:
        x.array, x._node, x._leaf = contents[0].copy(), contents[1], contents[2]

    def make(self, like: Any) -> Any:
        return wrap(like.array.copy())

    def fixed(self, contents: Any) -> Any:
        return super().fixed(contents[0]), id(contents[1]) if contents[1] is not None else None

    def same(self, a: Any, b: Any) -> bool:
        return super().same(a[0], b[0]) and a[1] is b[1]


class _Cell(Kind):
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


class _Object(Kind):
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

    def parts(self, contents: Any) -> Iterable[Any]:
        return contents[1:]

    def build(self, contents: Any, parts: Iterator[Any]) -> Any:
        return [contents[0], *parts]

    def fixed(self, contents: Any) -> Any:
        return contents[0]

    def same(self, a: Any, b: Any) -> bool:
        return bool(a[0] == b[0]) and all(map(_is, a[1:], b[1:]))


class Frozen(_Object):
    """An object that cannot change, but leads to others: a frozen dataclass."""


class Through(Kind):
    """An object that cannot change, but leads to others: a function, a method, a partial or a tuple."""

    def __init__(self, parts: Callable[[Any], Iterable[Any]]) -> None:
        self._parts = parts

    def parts(self, contents: Any) -> Iterable[Any]:
        return self._parts(contents)

    def read(self, x: Any) -> Any:
        return x

    def write(self, x: Any, contents: Any) -> None:
        pass

    def same(self, a: Any, b: Any) -> bool:
        return True


def _parts_of_function(function: Any) -> Iterable[Any]:
    """Return what a function leads to: its variables if it may assign them, else only what they hold."""
    cells = function.__closure__ or ()
    if not cells or assigns_outer(function.__code__):
        return (*cells, *(function.__defaults__ or ()))
    outer = outer_cells()
    held = [CELL.read(cell)[0] for cell in cells if id(cell) not in outer]
    return (*held, *(function.__defaults__ or ()))


def assigns_outer(code: types.CodeType) -> bool:
    """Return whether a function, or one inside it, assigns variables of a function around it."""
    found = _assigning.get(id(code))
    if found is None or found[0] is not code:
        free = {*code.co_freevars}
        assigned = {
            i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_DEREF", "DELETE_DEREF")
        }  # fmt: skip
        inner = any(assigns_outer(part) for part in code.co_consts if isinstance(part, types.CodeType))
        found = _assigning[id(code)] = code, bool(free & assigned) or inner
    return found[1]


_assigning: dict[int, tuple[types.CodeType, bool]] = {}


def outer_cells() -> frozenset[int]:
    """Return the variables of functions around the running program: outer state, which no program may change."""
    execution = state.execution
    return frozenset() if execution is None else execution.run.outer_cells


TUPLE = Through(lambda x: x)
CELL = _Cell()
_KINDS: dict[type, Kind | None] = {
    list: _List(), dict: _Dict(), set: _Set(), deque: _Deque(), bytearray: _Bytes(), tuple: TUPLE,
    np.ndarray: _Array(), Tensor: SharedTensor(), types.CellType: CELL,
    types.FunctionType: Through(_parts_of_function),
    types.BuiltinFunctionType: Through(lambda x: () if isinstance(x.__self__, types.ModuleType) else (x.__self__,)),
    types.MethodType: Through(lambda x: (x.__self__, x.__func__)),
    functools.partial: Through(lambda x: (x.func, *x.args, *x.keywords.values())),
}  # fmt: skip
_UNCHANGING = (
    Module, Parameter, type, np.generic, np.dtype, np.ufunc, type(np.sum), enum.Enum, types.ModuleType, BaseException,
    int, float, str, bytes, complex, decimal.Decimal, fractions.Fraction, datetime.date, datetime.time,
    datetime.timedelta, datetime.tzinfo, pathlib.PurePath, re.Pattern, re.Match, uuid.UUID, operator.itemgetter,
    operator.attrgetter, operator.methodcaller, *NODES,
)  # fmt: skip
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made at run time, in Python or by a C module


def kind_of(x: Any) -> Kind | None:
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


def _new_kind(cls: type) -> Kind | None:
    if cls is object or issubclass(cls, _UNCHANGING) or cls in NODES or getattr(cls, "_batching_constant", False):
        return None
    if issubclass(cls, Tensor):
        return _KINDS[Tensor]
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is not None and parameters.frozen:
        return Frozen(tuple([name for base in cls.__mro__ for name in _slots(base)]))
    native = [base for base in cls.__mro__ if _is_native(base)]
    if native == [object] or native[0].__module__ in ("typing", "abc"):
        return _Object(tuple([name for base in cls.__mro__ for name in _slots(base)]))
    for base, kind in _KINDS.items():
        if issubclass(cls, base) and base in (list, dict, set, deque, tuple, np.ndarray):
            return kind
    raise Inseparable(f"an object of {cls.__module__}.{cls.__qualname__}")


def _is_native(cls: type) -> bool:
    """Return whether a class is written in C: what its objects hold cannot be read and put back."""
    if not cls.__flags__ & _HEAP_TYPE:
        return True
    names = vars(cls)
    return isinstance(names.get("__new__"), types.BuiltinFunctionType) or any(
        isinstance(value, types.MethodDescriptorType) for value in names.values()
    )


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(
        f"_{cls.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
        for name in names
        if name not in ("__dict__", "__weakref__")
    )
