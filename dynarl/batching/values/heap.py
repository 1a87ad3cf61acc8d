"""The mutable objects that a scope of a program can reach, and their contents in front of it.

Each path of a scope must find everything as the scope found it. `Heap` walks from the scope's variables and arguments
to every list, dict, array and object that is reachable. Before a path runs, all of them get their contents back.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any

from dynarl.batching.values.kinds import (
    CELL,
    FIXED,
    TUPLE,
    Frozen,
    Inseparable,
    Kind,
    Through,
    assigns_outer,
    kind_of,
    outer_cells,
)  # fmt: skip
from dynarl.batching.values.pytree import is_simple

__all__ = ["NO_HEAP", "Heap", "heap_of", "reached_by"]

_MOST_OBJECTS = 10_000


class Heap:
    """The mutable objects that are reachable from some roots, and their contents when it was made."""

    __slots__ = ("before", "index", "mutable", "objects")

    def __init__(self, roots: Iterable[Any], outer: frozenset[int] | None = None) -> None:
        self.objects: list[tuple[Any, Kind]] = []
        self.before: list[Any] = []
        self.index: dict[int, int] = {}
        self.mutable = False  # whether anything in it can change
        seen: set[int] = set()
        keep: list[Any] = []  # what was seen stays alive, or its id could be another object's
        todo, outer = list(roots), outer_cells() if outer is None else outer
        while todo:
            x = todo.pop()
            if x.__class__ in FIXED or id(x) in seen or id(x) in outer:
                continue
            kind = kind_of(x)
            if kind is None:
                continue
            seen.add(id(x))
            keep.append(x)
            if kind is TUPLE or kind.__class__ is Frozen:
                todo.extend(x if kind is TUPLE else kind.parts(kind.read(x)))
                continue
            if len(self.objects) >= _MOST_OBJECTS:
                raise Inseparable(f"more than {_MOST_OBJECTS} objects")
            through = kind.__class__ is Through
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


def heap_of(values: Iterable[Any], outer: frozenset[int] | None = None) -> Heap:
    """Return the heap of values; NO_HEAP, without a walk, if none of them leads to an object that can change.

    `outer` are the ids of what exists before the call, where no program runs that knows them.
    """
    for x in values:
        kind = x.__class__
        if kind not in FIXED and not (kind is tuple and is_simple(x)):
            heap = Heap(values, outer)
            return heap if heap.objects else NO_HEAP
    return NO_HEAP


def reached_by(function: Any) -> tuple[Any, ...]:
    """Return (function,) if a function or method may lead to objects that can change, else ()."""
    if function.__class__ is types.MethodType:
        return (function,) if function.__self__.__class__ not in FIXED else reached_by(function.__func__)
    cells = getattr(function, "__closure__", None)
    if not cells:
        return ()
    if not assigns_outer(function.__code__):
        outer = outer_cells()
        for cell in cells:
            if id(cell) not in outer and CELL.read(cell)[0].__class__ not in FIXED:
                return (function,)
        return ()
    return (function,)
