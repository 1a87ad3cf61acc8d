"""What a program reaches that was there before its call: put back after the self-check has run the program again."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.call_site import is_user_code
from dynarl.autograd.random import get_rng_state, set_rng_state
from dynarl.batching.values.kinds import FIXED, TUPLE, Frozen, Inseparable, Kind, Through, kind_of
from dynarl.nn import Module

__all__ = ["OuterState"]

_MOST_OBJECTS = 10_000
_LARGEST = 1 << 20  # arrays with more elements are data, and not put back


class OuterState:
    """The objects that some roots lead to by names, variables and attributes, and what they hold.

    Raises Inseparable if one of them can change in a way that cannot be undone. `tensors` are the parameters and other
    float tensors that were found.
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self.tensors: list[Tensor] = []
        self._objects: list[tuple[Any, Kind, Any]] = []
        self._seen: dict[int, Any] = {}  # what was seen stays alive, or its id could be another object's
        todo = list(roots)
        while todo:
            x = todo.pop()
            if id(x) not in self._seen:
                self._seen[id(x)] = x
                todo.extend(self._parts(x))
                if len(self._seen) > _MOST_OBJECTS:
                    raise Inseparable(f"more than {_MOST_OBJECTS} objects")

    def _parts(self, x: Any) -> Iterable[Any]:
        if isinstance(x, Tensor):
            if x.dtype.kind == "f":
                self.tensors.append(x)
            if x.requires_grad:
                return ()
        if isinstance(x, Module):
            return _parts_of_module(x)
        if isinstance(x, FunctionType) and is_user_code(x.__code__):
            return _named_by(x)
        if isinstance(x, MethodType):
            return x.__self__, x.__func__
        if x.__class__ in FIXED or _size(x) > _LARGEST:
            return ()
        kind = kind_of(x)
        if kind is None:
            return ()
        contents = kind.read(x)
        if kind is not TUPLE and not isinstance(kind, (Through, Frozen)):
            self._objects.append((x, kind, contents))
        return kind.parts(contents)

    def restore(self) -> None:
        """Give every object what it held."""
        for x, kind, contents in self._objects:
            if not kind.same(kind.read(x), contents):
                kind.write(x, contents)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Put back everything at the end of a `with` block, global generators of random numbers too."""
        python, numpy, own = random.getstate(), np.random.get_state(), get_rng_state()
        try:
            yield
        finally:
            self.restore()
            random.setstate(python)
            np.random.set_state(numpy)
            set_rng_state(own)


def _size(x: Any) -> int:
    return int(x.array.size if isinstance(x, Tensor) else x.size) if isinstance(x, (Tensor, np.ndarray)) else 0


def _parts_of_module(module: Module) -> list[Any]:
    if module._hooks is not None:
        raise Inseparable("a Module with hooks")
    functions = [f for cls in type(module).__mro__ for f in vars(cls).values() if isinstance(f, FunctionType)]
    return [vars(module), *[f for f in functions if is_user_code(f.__code__)]]


def _named_by(function: FunctionType) -> list[Any]:
    """Return what a function of the user names: variables around it, globals, default values."""
    cells: tuple[CellType, ...] = function.__closure__ or ()
    found: list[Any] = [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    codes: list[Any] = [function.__code__]
    for code in codes:
        found += [function.__globals__[name] for name in code.co_names if name in function.__globals__]
        codes += [part for part in code.co_consts if isinstance(part, CodeType)]
    return found
