"""Everything that a program reaches and that exists before it is called: objects, variables, and how they are named.

The walk starts from the program and follows the names in its code, variables of functions around it, default values,
attributes, elements, methods of the user's classes and helper functions. It stops at libraries, but looks into their
objects for random generators.
"""

from __future__ import annotations

import array
import contextvars
import functools
import sys
import threading
import types
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from dynarl.autograd import Parameter, Tensor
from dynarl.autograd.random import Generator, default_generator
from dynarl.batching.guard.entropy import CLOCK, source_kind
from dynarl.batching.guard.generators import GLOBAL, is_generator
from dynarl.batching.guard.names import names_in
from dynarl.batching.guard.ownership import is_users_class, is_users_code, is_users_module
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.nn import Module

__all__ = [
    "INTERNAL", "LARGEST", "NOT_STATE", "UNASSIGNED", "Place", "Reached", "Variable", "cell_content", "context_value",
    "slots_of", "walk",
]  # fmt: skip

LARGEST = 1000
"""Containers with more elements are data: only their length is watched."""
_MOST = 10_000  # objects of one walk
_SIMPLE = frozenset((
    int, float, complex, bool, str, bytes, type(None), range, slice, type(Ellipsis), np.dtype, types.CodeType,
    types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType, types.MethodDescriptorType,
    types.MethodWrapperType, types.ClassMethodDescriptorType,
))  # fmt: skip
_HOLDERS = frozenset(("types", "argparse", "collections", "queue"))
"""Modules of Python's library whose objects hold what the user puts into them."""
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
INTERNAL = frozenset(("_kinds", "_non_persistent", "_plan", "_fused", "_stack", "_plan_version"))
"""Attributes of Modules that only the engine changes."""
_MEMORY = (np.ndarray, bytearray, array.array)
_SPACES = frozenset(("gymnasium", "gym"))  # a space makes a generator when it is first sampled
NOT_STATE = frozenset(("__dict__", "__weakref__", "__doc__", "__annotations__", "__slots__", "_abc_impl"))


class Place:
    """How the user names an object: `text` of its own after that of `parent`, or a name of its own with a `kind`."""

    __slots__ = ("kind", "parent", "text")

    def __init__(self, parent: Place | None, text: str, kind: str = "") -> None:
        self.parent, self.text, self.kind = parent, text, kind

    def path(self) -> str:
        """Return the path from the nearest name, such as `self.memory[0]`."""
        return self.text if self.kind or self.parent is None else self.parent.path() + self.text

    def __str__(self) -> str:
        place = self
        while not place.kind and place.parent is not None:
            place = place.parent
        return place.kind.replace("{}", f"`{self.path()}`") if place.kind else f"`{self.path()}`"

    def of(self, name: Any) -> Place:
        """Return the place of an attribute."""
        return Place(self, f".{name}")

    def item(self, key: Any) -> Place:
        """Return the place of an element."""
        return Place(self, f"[{key!r}]")


class Variable:
    """A variable that a program names: an entry of the globals, or of the namespace of a module."""

    __slots__ = ("name", "namespace")

    def __init__(self, namespace: dict[str, Any], name: str) -> None:
        self.namespace, self.name = namespace, name


class Reached:
    """What a walk found, each with its place."""

    def __init__(self) -> None:
        self.seen: dict[int, Any] = {}
        self.objects: list[tuple[Any, Place]] = []  # what can change: Modules, containers, objects, classes, cells, ...
        self.variables: list[tuple[Variable, Place]] = []
        self.generators: list[tuple[Any, Place]] = []
        self.iterators: list[tuple[Any, Place]] = []
        self.tensors: list[tuple[Tensor, Place]] = []
        self.named: set[tuple[int, str]] = set()
        self.default_generator = False  # the program may draw from it, past the functions that draw per sample
        self.entropy = self.clocks = False  # the program may ask the system for random bits, or read a clock

    def note_source(self, x: Any) -> bool:
        """Note whether an object is a source of random bits or times, and return whether it is."""
        kind = source_kind(x)
        self.clocks |= kind == CLOCK
        self.entropy |= kind is not None and kind != CLOCK
        return kind is not None


def cell_content(cell: types.CellType) -> Any:
    """Return the content of a variable of a function, UNASSIGNED if it has none."""
    try:
        return cell.cell_contents
    except ValueError:
        return UNASSIGNED


def context_value(variable: contextvars.ContextVar[Any]) -> Any:
    """Return the value of a context variable, UNASSIGNED if it has none."""
    try:
        return variable.get()
    except LookupError:
        return UNASSIGNED


class _Unassigned:
    def __repr__(self) -> str:
        return "<unassigned>"


UNASSIGNED = _Unassigned()


def walk(roots: Iterable[tuple[Any, Place]]) -> Reached:
    """Return what some objects lead to."""
    found = Reached()
    todo: deque[tuple[Any, Place, bool]] = deque((x, place, True) for x, place in roots)
    while todo and len(found.seen) < _MOST:
        x, place, ours = todo.popleft()
        cls = type(x)
        if cls in _SIMPLE or id(x) in found.seen or isinstance(x, (np.generic, types.ModuleType)):
            continue
        found.seen[id(x)] = x
        parts = _parts(x, cls, place, found, ours)
        todo.extend((part, inner, own) for part, inner, own in parts)
    return found


_Parts = Iterator[tuple[Any, Place, bool]]


def _parts(x: Any, cls: type, place: Place, found: Reached, ours: bool) -> _Parts:  # noqa: C901  (one branch a kind)
    """Note an object, and yield what it leads to."""
    if isinstance(x, Tensor):
        found.tensors.append((x, place))
        if ours and not isinstance(x, Parameter) and x.__class__ is not SampleTensor and x.array.size <= LARGEST:
            found.objects.append((x, place))  # NumPy may change its array
    elif cls is types.FunctionType:
        yield from _of_function(x, place, found)
    elif cls is types.MethodType:
        yield x.__self__, _self_place(x.__self__, place), True
        yield x.__func__, place, True
    elif cls is types.CellType:
        found.objects.append((x, place))
        yield cell_content(x), place, True
    elif isinstance(x, Module):
        yield from _of_module(x, cls, place, found)
    elif isinstance(x, _CONTAINERS):
        yield from _of_container(x, place, found, ours)
    elif isinstance(x, type):
        yield from _of_class(x, place, found)
    elif is_generator(x):
        found.generators.append((x, place))
    elif found.note_source(x):
        return
    elif isinstance(x, _MEMORY):
        if ours:
            found.objects.append((x, place))
            yield getattr(x, "__dict__", None), place, True
    elif cls is Generator:
        found.default_generator |= x is default_generator
        yield x.numpy, place.of("numpy"), True
    else:
        yield from _of_other(x, cls, place, found, ours)


def _self_place(x: Any, place: Place) -> Place:
    return Place(None, "self", "{} of " + type(x).__name__) if place.parent is None else place


def _of_function(x: Any, place: Place, found: Reached) -> _Parts:
    wrapped = x.__dict__.get("__wrapped__")
    if wrapped is not None:
        yield wrapped, place, True
    code = x.__code__
    if not is_users_code(code):
        return
    name = x.__name__
    own = Place(None, name)
    x.__dict__.setdefault("_dynarl_rewritten", None)  # set during a call, and no change by the program
    found.objects.append((x, own))
    for key, value in list(x.__dict__.items()):
        if key not in ("_dynarl_rewritten", "__wrapped__"):
            yield value, own.of(key), True
    for variable, cell in zip(code.co_freevars, x.__closure__ or ()):
        yield cell, Place(None, variable, "the variable {} of the function around " + name), True
    defaults = x.__defaults__ or ()
    arguments = code.co_varnames[: code.co_argcount]
    for argument, value in zip(arguments[len(arguments) - len(defaults) :], defaults):
        yield value, Place(None, argument, "the default value {} of " + name), True
    for argument, value in (x.__kwdefaults__ or {}).items():
        yield value, Place(None, argument, "the default value {} of " + name), True
    yield from _named_by(x, found)


def _named_by(function: Any, found: Reached) -> _Parts:
    """Yield the values of the global variables that a function names, and of those in modules of the user's."""
    names = names_in(function.__code__)
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
    for kind, first, *rest in names.chains:
        if kind == "global":
            namespace = function.__globals__
            value = namespace.get(first, UNASSIGNED)
            if value is UNASSIGNED and first not in names.assigned:
                if first == "globals":
                    found.objects.append((namespace, Place(None, "globals()")))
                continue
            yield from _variable(Variable(namespace, first), Place(None, first, "the global {}"), found)
        elif kind == "free":
            value = cell_content(cells[first]) if first in cells else UNASSIGNED
        else:
            value = sys.modules.get(first, UNASSIGNED)
            if rest and rest[0] == first.rpartition(".")[2] and not hasattr(value, rest[0]):
                rest = rest[1:]  # `import a.b as c` reads b from a
        yield from _along(value, first, rest, found)


def _along(value: Any, path: str, rest: list[str], found: Reached) -> _Parts:
    """Follow attributes of a module: variables of the user's modules are watched, those of libraries are not."""
    for name in rest:
        if not isinstance(value, types.ModuleType):
            break
        if is_users_module(value):
            variable = Variable(vars(value), name)
            yield from _variable(variable, Place(None, f"{path}.{name}", "the global {}"), found)
        value, path = getattr(value, name, UNASSIGNED), f"{path}.{name}"
    found.note_source(value)
    owner = getattr(value, "__self__", None)
    if owner is not None and any([owner is generator for generator in GLOBAL]):
        yield owner, Place(None, path), True


def _variable(variable: Variable, place: Place, found: Reached) -> _Parts:
    key = id(variable.namespace), variable.name
    value = variable.namespace.get(variable.name, UNASSIGNED)
    if key in found.named or isinstance(value, types.ModuleType):
        return
    found.named.add(key)
    found.variables.append((variable, place))
    yield value, place, True


def _of_module(x: Any, cls: type, place: Place, found: Reached) -> _Parts:
    found.objects.append((x, place))
    for name, value in list(vars(x).items()):
        if name == "_hooks" and value is not None:
            yield value.pre, place.of("hooks"), True
            yield value.post, place.of("hooks"), True
        elif name not in INTERNAL:
            yield value, place.of(name), True
    yield cls, place, True


def _of_container(x: Any, place: Place, found: Reached, ours: bool) -> _Parts:
    if ours and not isinstance(x, (tuple, frozenset)):
        found.objects.append((x, place))
    if ours and hasattr(x, "__dict__"):  # a subclass
        yield x.__dict__, place, True
    if len(x) > LARGEST:
        return
    items = list(x.items()) if isinstance(x, dict) else list(enumerate(x))
    for key, value in items:
        yield value, place.item(key), ours


def _of_class(x: type, place: Place, found: Reached) -> _Parts:
    if not is_users_class(x):
        return
    own = Place(None, x.__name__, "the attribute {} of a class" if place.parent is None else "")
    found.objects.append((x, own))
    for name, value in list(vars(x).items()):
        if name not in NOT_STATE:
            yield value, own.of(name), True
    for base in x.__bases__:
        yield base, Place(None, base.__name__), True


def _of_other(x: Any, cls: type, place: Place, found: Reached, ours: bool) -> _Parts:
    if cls is functools.partial:
        yield x.func, place, True
        yield from ((value, place, True) for value in x.args)
        yield from (
            (value, Place(None, name, "the argument {} of a partial"), True) for name, value in x.keywords.items()
        )
    elif cls is types.BuiltinFunctionType:
        if not isinstance(x.__self__, types.ModuleType):
            yield x.__self__, place, True
    elif isinstance(x, (staticmethod, classmethod)):
        yield x.__func__, place, True
    elif isinstance(x, property):
        yield from ((function, place, True) for function in (x.fget, x.fset, x.fdel) if function is not None)
    elif isinstance(x, functools.cached_property):
        yield x.func, place, True
    elif cls.__name__ == "_lru_cache_wrapper" or cls.__module__.startswith("dynarl.batching.batched"):
        yield getattr(x, "__wrapped__", None) or getattr(x, "program", None), place, True
    elif hasattr(cls, "__next__") and not is_users_class(cls):
        found.iterators.append((x, place))
        yield from ((part, place, True) for part in _behind(x))
    elif cls is contextvars.ContextVar:
        found.objects.append((x, place))
        yield context_value(x), place, True
    else:
        yield from _of_object(x, cls, place, found, ours)


def _behind(x: Any) -> Iterable[Any]:
    """Return the iterators behind a zip, map or enumerate."""
    if type(x) not in (zip, map, enumerate, filter):
        return ()
    return [part for part in x.__reduce__()[1] if hasattr(part, "__next__")]


def _of_object(x: Any, cls: type, place: Place, found: Reached, ours: bool) -> _Parts:
    """Objects of the user's classes are watched; those of other libraries may hold a generator."""
    module = cls.__module__.partition(".")[0]
    holds = module in _HOLDERS or module in _SPACES or isinstance(x, threading.local)
    library = module in sys.stdlib_module_names or module in ("dynarl", "numpy") or isinstance(x, BaseException)
    if library and not holds:
        return
    watched = ours and (holds or is_users_class(cls))
    if watched:
        found.objects.append((x, place))
    for name, value in attributes_of(x, cls):
        yield value, place.of(name), watched
    if watched:
        yield cls, place, True


def attributes_of(x: Any, cls: type) -> list[tuple[str, Any]]:
    """Return the attributes of an object, in its dict and in slots."""
    found = list(x.__dict__.items()) if isinstance(getattr(x, "__dict__", None), dict) else []
    for name in slots_of(cls):
        value = getattr(x, name, UNASSIGNED)
        if value is not UNASSIGNED:
            found.append((name, value))
    return found


def slots_of(cls: type) -> tuple[str, ...]:
    """Return the names of the slots of a class, private ones as they are stored."""
    return tuple([
        name
        for base in cls.__mro__
        for name, value in vars(base).items()
        if type(value) is types.MemberDescriptorType and name != "__dict__"
    ])  # fmt: skip
