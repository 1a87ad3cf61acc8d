"""Loops of per-sample programs as join scopes: samples that go on stay together, those that leave wait at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

from dynarl.autograd import Tensor
from dynarl.batching.eager.execution import OPEN, Execution, Raised, run_scope, state
from dynarl.batching.eager.scope import fresh, given, joined
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.values.pytree import join
from dynarl.batching.values.ragged import END, SampleSequence
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.nn import Module

__all__ = ["changeable", "run_loop"]

Step = Callable[..., tuple[int, tuple[Any, ...]]]


def run_loop(step: Step, items: Any, values: tuple[Any, ...], plain: bool) -> tuple[int, tuple[Any, ...]]:
    """Repeat `step(item, *values) -> (way, values)` until the way is not 0, and return these.

    `items` is None for a `while`, and what a `for` goes over otherwise. Ways above 0 are those of leaving the loop.
    """
    context = state.context
    if plain or context is None or not _shared(items):
        return _plainly(step, items, values)
    key = step.__code__
    if context.scheduler is not None:
        return _side_by_side(key, step, items, values, context)
    if context.position < len(context.log):
        return given(context.recall(key))
    if context.group.size == 1:
        return _plainly(step, items, values)
    context.step()
    return joined(key, _repeat(step, _items(items), values, context), context)


def changeable(value: Any) -> bool:
    """Tell whether a path of the program may change a value for the others, unless each makes its own by replay."""
    kind = value.__class__
    return kind not in _FIXED and (isinstance(value, _CHANGEABLE) or hasattr(kind, "__next__"))


_CHANGEABLE = (list, dict, set, bytearray, deque)
_FIXED = frozenset((SampleTensor, Tensor, int, float, bool, str, type(None), FunctionType, MethodType))
_LASTING = (type(None), range, SampleTensor, SampleSequence, Module)


def _shared(items: Any) -> bool:
    """Tell whether going over the items again gives the same."""
    if isinstance(items, (tuple, list)):
        return not any([changeable(item) for item in items])
    return isinstance(items, _LASTING)


def _plainly(step: Step, items: Any, values: tuple[Any, ...]) -> tuple[int, tuple[Any, ...]]:
    """Repeat as Python would, in the scope around the loop."""
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


def _side_by_side(key: Any, step: Step, items: Any, values: tuple[Any, ...], context: Any) -> Any:
    """Repeat as Python would, where every path is on its own: its log has one entry for each iteration."""
    inline = context.scheduler.inline

    def iteration(item: Any, *values: Any) -> Any:
        return inline(context, key, step, (item, *values), {})

    def repeat(items: Any, values: tuple[Any, ...]) -> Any:
        done, way, values = _iterations_before(key, items, values, context)
        if way:
            return way, values
        return _plainly(iteration, items[done:] if done and items is not None else items, values)

    return inline(context, key, repeat, (items, values), {})


def _iterations_before(key: Any, items: Any, values: tuple[Any, ...], context: Any) -> Any:
    """Go at once through the iterations at the beginning of what is logged; return how many, and the last one's result.

    Items that ask for values or operations themselves have these between the iterations, which ends the search.
    """
    log, start, way = context.log, context.position, 0
    position = start
    if items is None or isinstance(items, (tuple, list, range)):
        while not way and position < len(log) and log[position][0] is key and log[position][1] is not OPEN:
            way = log[position][1][0]
            position += 1
    if position > start:
        context.run.replayed += position - start
        context.position = position
        way, values = fresh(log[position - 1][1])
    return position - start, way, values


def _items(items: Any) -> Iterator[tuple[Any, Any]]:
    """Yield for each iteration (function that asks each sample for its item, None), or (None, item) for a known one."""
    if items is None:
        while True:
            yield None, None
    elif items.__class__ is SampleSequence:
        for ask in items.steps():
            yield ask, None
    else:
        for item in items:
            yield None, item
        yield None, END


def _asking(step: Step, ask: Callable[[], Any], *values: Any) -> tuple[int, tuple[Any, ...]]:
    return step(ask(), *values)


def _repeat(
    step: Step, items: Iterator[tuple[Any, Any]], values: tuple[Any, ...], context: Execution
) -> list[tuple[SampleGroup, Any]]:
    """Run the iterations; return (group, (way, values)) of each part that left."""
    run = context.run
    left: list[tuple[SampleGroup, Any]] = []
    active: list[tuple[Any, SampleGroup]] = [(values, context.group)]
    for ask, item in items:
        if not active:
            break
        going: list[tuple[SampleGroup, Any]] = []
        for values, group in active:
            before = run.operations
            program, args = (step, (item, *values)) if ask is None else (_asking, (step, ask, *values))
            results = run_scope(program, args, {}, group, run, keep_errors=True)
            for entry in results:
                if entry[1].__class__ is not Raised and not entry[1][0]:
                    going.append((entry[0], entry[1][1]))
                else:
                    left.append(entry)
            context.step(run.operations - before + 1)  # an endless loop stops
        if len(going) < 2:
            active = [(v, part) for part, v in going]
        else:
            active = join(going, context.group, numbers=False, apart=run.keeps_paths())
    return left
