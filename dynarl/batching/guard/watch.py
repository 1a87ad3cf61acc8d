"""Watch: notices a change of what exists before a call of a program, names it and undoes it.

Every call compares twice, before and after: first all pieces at once by identity, which takes microseconds, and the
pieces of each object only if that fails. Where the caller changed something since the last call, the walk begins again.
"""

from __future__ import annotations

import operator
import threading
import types
from collections import deque
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.versions import owner_of
from dynarl.batching.guard import generators
from dynarl.batching.guard.contents import Attributes, Content, OfArray, OfVariable, content_of
from dynarl.batching.guard.iterators import position, set_back
from dynarl.batching.guard.reach import LARGEST, UNASSIGNED, Place, Reached, walk
from dynarl.nn import Module

__all__ = ["Change", "Watch"]


class Change:
    """A change that was noticed: the name of the object, whether it was a draw, and whether it was undone."""

    __slots__ = ("draw", "name", "undone")

    def __init__(self, name: str, *, draw: bool = False, undone: bool = True) -> None:
        self.name, self.draw, self.undone = name, draw, undone


class Watch:
    """Watches what some roots lead to."""

    def __init__(self, roots: Iterable[tuple[Any, Place]]) -> None:
        self.roots = list(roots)
        self._flat: Any = None

    def refresh(self) -> None:
        """Take the present contents as those to compare with; walk again if they changed since the last call."""
        if self._flat is None or not self._is_same():
            self._walk()

    def _walk(self) -> None:
        found = self.reached = walk(self.roots)
        self.contents: list[tuple[Content, Place]] = [(content_of(x), place) for x, place in found.objects]
        self.contents += [(OfVariable(variable), place) for variable, place in found.variables]
        self.ids = frozenset(found.seen)
        self._index(found)
        self._flat = self._read()

    def _index(self, found: Reached) -> None:
        """Arrange what changes by how it is read fast."""
        self._dicts: list[Any] = []
        self._iterables: list[Any] = []
        self._sized: list[Any] = []
        self._cells: list[types.CellType] = []
        self._arrays: list[OfArray] = []
        self._slow: list[Content] = []
        for content, _ in self.contents:
            self._add(content)
        self._sized += self._dicts + self._iterables
        self._views = [values.values() for values in self._dicts] + self._iterables
        self._variables = [(variable.namespace, variable.name) for variable, _ in found.variables]
        self._states = [generators.state_of(generator) for generator, _ in found.generators]
        self._positions = [position(x) for x, _ in found.iterators]

    def _add(self, content: Content) -> None:  # noqa: C901  (one branch a kind)
        x = content.x
        if isinstance(content, OfArray):
            self._arrays.append(content)
        elif isinstance(x, Module):
            self._dicts.append(x.__dict__)
        elif isinstance(x, type):
            self._dicts.append(vars(x))
        elif type(x) is types.CellType:
            self._cells.append(x)
        elif type(x) is types.FunctionType:
            self._sized.append(x.__dict__)
            if len(x.__dict__) > 1:
                self._slow.append(content)
        elif isinstance(x, (list, deque, set, dict)):
            (self._sized if len(x) > LARGEST else self._iterables).append(x)
            if isinstance(x, dict) and len(x) <= LARGEST:
                self._dicts.append(x)
        elif not isinstance(content, OfVariable):
            if not isinstance(content, Attributes) or content.slots or isinstance(x, threading.local):
                self._slow.append(content)
            elif hasattr(x, "__dict__"):
                self._dicts.append(x.__dict__)
                self._iterables.append(x.__dict__)

    def _read(self) -> Any:
        """Return sizes and pieces as two lists."""
        return [*map(len, self._sized)], [*chain.from_iterable(self._views), *self._variable_pieces()]

    def _variable_pieces(self) -> list[Any]:
        pieces = [namespace.get(name, UNASSIGNED) for namespace, name in self._variables]
        for cell in self._cells:
            try:
                pieces.append(cell.cell_contents)
            except ValueError:
                pieces.append(UNASSIGNED)
        return pieces

    def _is_same(self) -> bool:
        """Return whether nothing has changed, at first sight."""
        before, known = self._flat
        if [*map(len, self._sized)] != before:
            return False
        # With equal sizes there are as many pieces as before.
        now = chain(chain.from_iterable(self._views), self._variable_pieces())
        return all(map(operator.is_, now, known)) and self._others_are_same()

    def _others_are_same(self) -> bool:
        found = self.reached
        if self._arrays and any([content.read() != content.before[0][1] for content in self._arrays]):
            return False
        if self._slow and any([content.changed() for content in self._slow]):
            return False
        if found.generators and not all([
            generators.same(generators.state_of(generator), before)
            for (generator, _), before in zip(found.generators, self._states)
        ]):  # fmt: skip
            return False
        return [position(x) for x, _ in found.iterators] == self._positions if found.iterators else True

    # -- changes ----------------------------------------------------------------------------------------------------

    def has_changed(self) -> bool:
        """Return whether anything is not what it was before the call."""
        return not self._is_same() and bool(self._changed_contents() or self._moved() or self._drawn())

    def _changed_contents(self) -> list[tuple[Content, Place, Any]]:
        return [(content, place, keys[-1]) for content, place in self.contents if (keys := content.changed())]

    def _moved(self) -> list[tuple[Any, Place, Any]]:
        found = zip(self.reached.iterators, self._positions)
        return [(x, place, before) for (x, place), before in found if position(x) != before]

    def _drawn(self) -> list[tuple[Any, Place, Any]]:
        found = zip(self.reached.generators, self._states)
        return [
            (x, place, before) for (x, place), before in found if not generators.same(generators.state_of(x), before)
        ]

    def undo(self) -> list[Change]:
        """Return the changes since `refresh`, and undo them."""
        if self._is_same():
            return []
        changes = []
        for content, place, key in self._changed_contents():
            content.restore()
            name = Place(place, content.describe(key))
            changes.append(Change(str(name), undone=not content.changed()))
        for x, place, before in self._moved():
            moves = before - position(x) if isinstance(before, int) else 0
            changes.append(Change(str(place), undone=moves > 0 and set_back(x, moves)))
        for x, place, before in self._drawn():
            generators.restore(x, before)
            undone = generators.same(generators.state_of(x), before)
            changes.append(Change(str(place), draw=True, undone=undone))
        if not all([change.undone for change in changes]) or not changes:
            self._walk()  # what stays changed, or a cache of the engine or of the program
        return changes

    # -- what a program may not change while it runs ----------------------------------------------------------------

    def place_of(self, x: Any) -> Place | None:
        """Return the place of a Module, None if it does not exist before the call."""
        if id(x) not in self.ids:
            return None
        return next((place for other, place in self.reached.objects if other is x), None)

    def place_of_memory(self, x: Tensor) -> Place | None:
        """Return the place of the tensor that owns the memory of x, None if it does not exist before the call."""
        owner = owner_of(x.array)
        for tensor, place in self.reached.tensors:
            if tensor.array is owner or owner_of(tensor.array) is owner:
                return place
        for array, place in self.reached.objects:
            if isinstance(array, np.ndarray) and owner_of(array) is owner:
                return place
        return None
