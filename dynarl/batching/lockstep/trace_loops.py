"""Loops in lock-step: every path repeats its own iterations, and its log has one entry for each."""

from __future__ import annotations

from typing import Any

from dynarl.batching.groups.execution import Operands, Step
from dynarl.batching.lockstep.trace_calls import OPEN, inline
from dynarl.batching.lockstep.tracer import TracedExecution
from dynarl.batching.scopes.loops import repeat_in_place
from dynarl.batching.values.pytree import copied

__all__ = ["trace_loop"]


def trace_loop(execution: TracedExecution, step: Step, items: Any, values: Operands) -> tuple[int, Operands]:
    """Repeat a step as Python does; see `Execution.run_loop`."""
    key = step.__code__

    def iteration(item: Any, *values: Any) -> Any:
        return inline(execution, key, step, (item, *values), {})

    def repeat(items: Any, values: Operands) -> tuple[int, Operands]:
        done, way, values = _skip_logged(key, items, values, execution)
        if way:
            return way, values
        return repeat_in_place(iteration, items[done:] if done and items is not None else items, values)

    left: tuple[int, Operands] = inline(execution, key, repeat, (items, values), {})
    return left


def _skip_logged(key: object, items: Any, values: Operands, execution: TracedExecution) -> tuple[int, int, Operands]:
    """Skip iterations that are already in the log; return their number and the result of the last one.

    Iterating over tensors or sequences logs operations between the iterations, which ends the search: those are
    replayed one by one.
    """
    log, start, way = execution.log, execution.position, 0
    position = start
    if items is None or isinstance(items, (tuple, list, range)):
        while not way and position < len(log) and log[position][0] is key and log[position][1] is not OPEN:
            way = log[position][1][0]
            position += 1
    if position > start:
        execution.run.replayed += position - start
        execution.position = position
        way, values = copied(log[position - 1][1])
    return position - start, way, values
