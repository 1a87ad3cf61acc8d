"""Statements and loops in lock-step: every path runs its own, and its log has one entry for each that ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynarl.batching.groups.execution import Names
from dynarl.batching.lockstep.trace_calls import OPEN, end_inline
from dynarl.batching.lockstep.tracer import TracedExecution
from dynarl.batching.scopes.loops import Live, Step, repeat_in_place
from dynarl.batching.values.kinds import Inseparable
from dynarl.batching.values.variables import Variables

__all__ = ["trace_loop", "trace_statement"]


def trace_statement(execution: TracedExecution, statement: Callable[[], None], outs: Names) -> None:
    """Run a statement; see `Execution.run_statement`."""
    _inline(execution, statement.__code__, statement, outs, statement)


def trace_loop(execution: TracedExecution, step: Step, items: Any, outs: Names, live: Live) -> int:
    """Repeat a step as Python does; see `Execution.run_loop`."""
    key = step.__code__

    def iteration(item: Any) -> int:
        return int(_inline(execution, key, step, outs, lambda: step(item)))

    def repeat() -> int:
        done, way = _skip_logged(key, step, items, outs, execution)
        return way or repeat_in_place(iteration, items[done:] if done and items is not None else items)

    return int(_inline(execution, key, step, outs, repeat))


def _inline(
    execution: TracedExecution, key: object, statement: Callable[..., Any], outs: Names, run: Callable[[], Any]
) -> Any:
    """Run a statement inline; when it has ended, one entry of the log, (way, state), stands for all of it."""
    start, log, variables = execution.position, execution.log, Variables(statement, outs)
    if start < len(log):
        logged, value = log[start]
        if logged is not key or value is not OPEN:
            way, state = execution.recall(key)
            variables.recall(state)
            return way
        execution.position += 1
    else:
        execution.tracer.check_unwinding()
        execution.remember(key, OPEN)
    # Where a statement may change objects, its entries stay, so that replay changes them again.
    try:
        variables.find()
        changes = variables.heap.mutable
    except Inseparable:
        changes = True
    undone = len(execution.run.undo)
    way = run()
    changes = changes or len(execution.run.undo) > undone  # tensors in place
    end_inline(execution, start, key, None if changes else lambda: (way, variables.leave()))
    return way


def _skip_logged(key: object, step: Step, items: Any, outs: Names, execution: TracedExecution) -> tuple[int, int]:
    """Skip iterations that are already in the log; return their number and the way of the last one.

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
        Variables(step, outs).recall(log[position - 1][1][1])
    return position - start, way
