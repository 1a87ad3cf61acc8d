"""Join scopes around loops: samples that continue stay together, samples that leave wait at the end."""

from __future__ import annotations

from collections import deque
from types import FunctionType, MethodType
from typing import Any

from dynarl.autograd import Tensor
from dynarl.batching.groups.execution import Operands, Step, state
from dynarl.batching.values.ragged import END, SampleSequence
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.nn import Module

__all__ = ["changeable", "repeat_in_place", "run_loop"]


def run_loop(step: Step, items: Any, values: Operands, plain: bool) -> tuple[int, Operands]:
    """Repeat `step(item, *values) -> (way, values)` until way is not 0, and return both.

    `items` is the iterable of a `for` loop, None for a `while` loop. Ways above 0 are the exits of the loop. A `plain`
    loop is no scope of its own.
    """
    execution = state.execution
    if plain or execution is None or not _can_repeat(items):
        return repeat_in_place(step, items, values)
    return execution.run_loop(step, items, values)


def repeat_in_place(step: Step, items: Any, values: Operands) -> tuple[int, Operands]:
    """Repeat a step as Python does, inside the scope around the loop."""
    way = 0
    if items is None:
        while not way:
            way, values = step(None, *values)
        return way, values
    for item in items:
        way, values = step(item, *values)
        if way:
            return way, values
    return step(END, *values)


def changeable(value: Any) -> bool:
    """Return whether one path could change a value for the others, unless each makes its own by replay."""
    kind = value.__class__
    return kind not in _FIXED and (isinstance(value, _CONTAINERS) or hasattr(kind, "__next__"))


def _can_repeat(items: Any) -> bool:
    """Return whether every iteration over the items gives the same."""
    if isinstance(items, (tuple, list)):
        return not any([changeable(item) for item in items])
    return isinstance(items, _REPEATABLE)


_CONTAINERS = (list, dict, set, bytearray, deque)
_FIXED = frozenset((SampleTensor, Tensor, int, float, bool, str, type(None), FunctionType, MethodType))
_REPEATABLE = (type(None), range, SampleTensor, SampleSequence, Module)
