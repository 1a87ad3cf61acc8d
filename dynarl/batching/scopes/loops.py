"""Join scopes around loops: samples that continue stay together, samples that leave wait at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from operator import getitem
from typing import Any

from dynarl.batching.groups.execution import Names, state
from dynarl.batching.values.ragged import END, SampleSequence
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.nn import Module

__all__ = ["Live", "Step", "can_repeat", "items_of", "repeat_in_place", "run_loop"]

Step = Callable[[Any], int]
"""One iteration: `step(item) -> way`; 0 continues, other ways are the exits of the loop."""
Live = tuple[Names | None, ...]
"""By way: the variables that are read after it; None: all."""


def run_loop(step: Step, items: Any, outs: Names, live: Live) -> int:
    """Repeat `step(item)` until it returns a way that is not 0, and return that.

    `items` is the iterable of a `for` loop, None for a `while` loop. `outs` are the variables that the step assigns.
    """
    execution = state.execution
    if execution is None:
        return repeat_in_place(step, items)
    return execution.run_loop(step, items, outs, live)


def repeat_in_place(step: Step, items: Any) -> int:
    """Repeat a step as Python does, inside the scope around the loop."""
    way = 0
    if items is None:
        while not way:
            way = step(None)
        return way
    for item in items:
        way = step(item)
        if way:
            return way
    return step(END)


def can_repeat(items: Any) -> bool:
    """Return whether every iteration over the items gives the same."""
    return isinstance(items, _REPEATABLE)


def items_of(items: Any) -> Iterator[tuple[Callable[[], Any] | None, Any]]:
    """Yield (function that returns each sample's own item, None), or (None, item) of an item that all samples share."""
    if items is None:
        while True:
            yield None, None
    elif items.__class__ is SampleSequence:
        for ask in items.steps():
            yield ask, None
    elif items.__class__ is SampleTensor:
        for i in range(len(items)):  # taken inside the iteration, whose log it belongs to
            yield partial(getitem, items, i), None
        yield None, END
    else:
        for item in items:
            yield None, item
        yield None, END


_REPEATABLE = (type(None), range, tuple, list, dict, str, SampleTensor, SampleSequence, Module)
