"""Loops of an eager execution: the samples that continue run every iteration together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from dynarl.batching.groups.execution import Operands, Step
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.values.join import join
from dynarl.batching.values.ragged import END, SampleSequence

__all__ = ["Outcomes", "Raised", "repeat"]

Outcomes = list[tuple[SampleGroup, Any]]
"""(group, result) of each path; the result of a path that failed is `Raised`."""


class Raised:
    """The exception that a scope raised for some of its samples, in place of their result."""

    def __init__(self, error: Exception) -> None:
        self.error, self.traceback = error, error.__traceback__

    def again(self) -> Exception:
        """Return the error with the traceback of the place where it was raised."""
        return self.error.with_traceback(self.traceback)


class _Execution(Protocol):
    group: SampleGroup
    run: BatchedRun

    def run_nested(self, program: Callable[..., Any], args: Operands, group: SampleGroup) -> Outcomes: ...

    def step(self, steps: int = 1) -> None: ...


def repeat(execution: _Execution, step: Step, items: Any, values: Operands) -> Outcomes:
    """Run the iterations of a loop; return (group, (way, values)) of every part that left it."""
    run = execution.run
    left: Outcomes = []
    active: list[tuple[Operands, SampleGroup]] = [(values, execution.group)]
    for ask, item in _iterations(items):
        if not active:
            break
        continuing: Outcomes = []
        for values, group in active:
            before = run.operations
            if ask is None:
                outcomes = execution.run_nested(step, (item, *values), group)
            else:
                outcomes = execution.run_nested(_ask_and_step, (step, ask, *values), group)
            for part, result in outcomes:
                if result.__class__ is not Raised and not result[0]:
                    continuing.append((part, result[1]))
                else:
                    left.append((part, result))
            # Operations inside count towards max_steps of the loop, so that an endless loop stops.
            execution.step(run.operations - before + 1)
        if len(continuing) < 2:
            active = [(result, part) for part, result in continuing]
        else:
            active = join(continuing, execution.group, apart=run.keeps_paths())
    return left


def _iterations(items: Any) -> Iterator[tuple[Callable[[], Any] | None, Any]]:
    """Yield (function that returns each sample's own item, None), or (None, item) of an item that all samples share."""
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


def _ask_and_step(step: Step, ask: Callable[[], Any], *values: Any) -> tuple[int, Operands]:
    return step(ask(), *values)
