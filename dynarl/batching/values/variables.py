"""The variables of a statement that is a scope: what its paths find in them, and what they leave."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import CellType, CodeType
from typing import Any

from dynarl.batching.groups.execution import Names
from dynarl.batching.values.effects import decode, encode
from dynarl.batching.values.heap import NO_HEAP, Heap, heap_of
from dynarl.batching.values.kinds import EMPTY, Inseparable, outer_cells
from dynarl.batching.values.pytree import Encoded, is_simple
from dynarl.batching.values.sample_number import SampleNumber
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["Variables"]

_SIMPLE = frozenset((SampleTensor, SampleNumber, int, float, bool, str, type(None), EMPTY.__class__))
_RUNTIME = "_dynarl_"


class Variables:
    """The variables that a rewritten statement assigns (`outs`), and the mutable objects it can reach.

    The state of a path is a tuple of the values of `outs`, or `Encoded` with the changes to the objects.
    """

    __slots__ = ("_cells", "_closure", "_read", "heap")

    def __init__(self, statement: Callable[..., Any], outs: Names) -> None:
        self._closure = closure = statement.__closure__ or ()
        code = statement.__code__
        found = _layouts.get(id(code))
        if found is None or found[0] is not code:
            found = _layouts[id(code)] = _layout(code, outs)
        self._cells = [closure[i] for i in found[1]]
        self._read = found[2]
        self.heap: Heap = NO_HEAP

    def find(self, *others: Any) -> None:
        """Find the objects that are reachable, also from `others`. Raises Inseparable."""
        held = [*others]
        outer = outer_cells()
        for i in self._read:
            cell = self._closure[i]
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            if id(cell) not in outer:
                held.append(value)
            elif hasattr(value, "__next__"):  # outer state is not to change, but an iterator has no other use
                raise Inseparable("an iterator around the program")
        self.heap = heap_of(held)

    def enter(self, *others: Any) -> Any:
        """Find the objects that are reachable, and return the state. Raises Inseparable."""
        self.find(*others)
        return self.leave()

    def leave(self, live: Names | None = None, names: Names = ()) -> Any:
        """Return the state. Variables that are not in `live` count as unassigned: nothing reads them any more."""
        try:
            values = [cell.cell_contents for cell in self._cells]
        except ValueError:  # some are not assigned
            values = [_content(cell) for cell in self._cells]
        if live is not None:
            values = [value if name in live else EMPTY for name, value in zip(names, values)]
        if self.heap.mutable:
            return encode(tuple(values), self.heap)
        for value in values:
            if value.__class__ not in _SIMPLE and not is_simple(value):
                return encode(tuple(values), self.heap)
        return tuple(values)

    def put(self, values: Any) -> None:
        """Give the variables and objects the state of a path."""
        if self.heap.mutable:
            self.heap.restore()
        if values.__class__ is Encoded:
            values = decode(values, self.heap)
        for cell, value in zip(self._cells, values):
            if value is not EMPTY:
                cell.cell_contents = value
            else:
                with contextlib.suppress(ValueError):
                    del cell.cell_contents

    def recall(self, values: Any) -> None:
        """Give the variables and objects of another execution of the program the state of a path."""
        if values.__class__ is Encoded:
            self.find()
        self.put(values)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return EMPTY


_layouts: dict[int, tuple[CodeType, tuple[int, ...], tuple[int, ...]]] = {}


def _layout(code: CodeType, outs: Names) -> tuple[CodeType, tuple[int, ...], tuple[int, ...]]:
    free = code.co_freevars
    # A name without a value in the closure is a name that the statement does not mention after all.
    places = {name: i for i, name in enumerate(free)}
    return (
        code,
        tuple([places[name] for name in outs]),
        tuple([i for i, name in enumerate(free) if not name.startswith(_RUNTIME) or "_value_" in name]),
    )
