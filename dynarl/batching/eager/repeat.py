"""Loops of an eager execution: the samples that continue run every iteration together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from dynarl.batching.groups.execution import Names, Operands, state
from dynarl.batching.groups.group import PerSampleError, SampleGroup
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.scopes.loops import Live, Step, items_of
from dynarl.batching.values.changes import keep_others
from dynarl.batching.values.join import join
from dynarl.batching.values.kinds import Inseparable
from dynarl.batching.values.ragged import END
from dynarl.batching.values.variables import Variables

__all__ = ["Outcomes", "Raised", "repeat", "run_once"]

Outcomes = list[tuple[SampleGroup, Any]]
"""(group, result) of each path; the result of a path that failed is `Raised`."""


class Raised:
    """The exception that a scope raised for some of its samples, in place of their result."""

    def __init__(self, error: Exception) -> None:
        self.error, self.traceback = error, error.__traceback__

    def again(self) -> Exception:
        """Return the error with the traceback of the place where it was raised."""
        return self.error.with_traceback(self.traceback)


def run_once(function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns, or `Raised`."""
    try:
        return function(*args)
    except PerSampleError:
        raise
    except Exception as error:
        return raised(error)


def raised(error: Exception) -> Raised:
    """Return an exception of the program as the result of a path."""
    execution = state.execution
    if execution is not None:
        execution.add_note(error)
    return Raised(error)


class _Execution(Protocol):
    group: SampleGroup
    run: BatchedRun

    def run_nested(self, program: Callable[..., Any], args: Operands, group: SampleGroup) -> Outcomes: ...

    def step(self, steps: int = 1) -> None: ...


def repeat(
    execution: _Execution, variables: Variables, before: Any, step: Step, items: Any, outs: Names, live: Live
) -> Outcomes:
    """Run the iterations of a loop; return (group, (way, state)) of every part that left it.

    `before` is the state of the variables in front of the loop.
    """
    run = execution.run
    listed: Any = items if items.__class__ in (list, dict) else ()
    known = list(listed)
    turn = _turn(variables, step, listed, known, outs, live)
    left: Outcomes = []
    active: list[tuple[Any, SampleGroup]] = [(before, execution.group)]
    for ask, item in items_of(known if items.__class__ in (list, dict) else items):
        if not active:
            break
        continuing: Outcomes = []
        if item is END:  # no code of the program runs any more
            for values, group in active:
                variables.put(values)
                left.append((group, ("1", variables.leave(live[1], outs))))
            break
        for values, group in active:
            operations, mark = run.operations, len(run.undo)
            outcomes = execution.run_nested(turn, (ask, item, values), group)
            if len(run.undo) > mark and group is not execution.group:
                keep_others(run, mark)
            for part, result in outcomes:
                if result[0] == 0 and result[0].__class__ is int:
                    continuing.append((part, result[1]))
                else:
                    left.append((part, result))
            # Operations inside count towards max_steps of the loop, so that an endless loop stops.
            execution.step(run.operations - operations + 1)
        if len(continuing) < 2:
            active = [(result, part) for part, result in continuing]
        else:
            active = join(continuing, execution.group, apart=run.keeps_paths())
    return left


def _turn(
    variables: Variables, step: Step, listed: Any, known: list[Any], outs: Names, live: Live
) -> Callable[[Callable[[], Any] | None, Any, Any], tuple[Any, Any]]:
    """Return the program of one iteration: from a path's state to (way, state)."""

    def turn(ask: Callable[[], Any] | None, item: Any, values: Any) -> tuple[Any, Any]:
        variables.put(values)
        try:  # `run_once` written out: this runs for every iteration
            way: Any = step(item if ask is None else ask())
        except PerSampleError:
            raise
        except Exception as error:
            way = raised(error)
        if known and (len(known) != len(listed) or any([a is not b for a, b in zip(known, listed)])):
            raise Inseparable("a loop that changes the list it iterates over")
        if way == 0 or way.__class__ is Raised:
            return way, variables.leave()
        return str(way), variables.leave(live[way], outs)  # as text, ways stay apart where numbers would join

    return turn
