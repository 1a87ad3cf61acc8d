"""Running together: calls that were noted one by one, run as one operation or one cohort for each kind and depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dynarl.autograd.device import xp
from dynarl.autograd.grad_mode import mode
from dynarl.autograd.tensor import wrap
from dynarl.batching.cohort import Cohort
from dynarl.batching.deferred import Call, Merged, Unit, apply_rule, gather
from dynarl.batching.lane import Lane
from dynarl.batching.run import Run, run_scope, state
from dynarl.batching.scope import function_of
from dynarl.batching.trees import flatten, join
from dynarl.nn import Module

__all__ = ["Again", "Pending", "Unwind", "with_lanes"]

_NUMBERS = frozenset((float, int, bool))
_LAST = 1 << 60
MOST = 100_000
_NONE: list[Any] = []


class Unwind(BaseException):
    """Leaves a program that has to wait, or a batched call that starts again; no program may catch it."""


class Again(Unwind):
    """A call did not behave as learned: start again without putting off its kind."""


class Pending:
    """The calls that were noted and not yet run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.calls: list[Call] = []
        self.again: Again | None = None

    def note(self, call: Call) -> None:
        """Put a call off; very many are run in between."""
        self.calls.append(call)
        if len(self.calls) > MOST:
            self.flush()

    def flush(self) -> None:
        """Run all noted calls: depth by depth, those of one unit together."""
        if not self.calls:
            return
        groups: dict[tuple[int, int], list[Call]] = {}
        for call in self.calls:
            key = call.depth if call.used else _LAST, call.number
            group = groups.get(key)
            if group is None:
                groups[key] = [call]
            else:
                group.append(call)
        self.calls = []
        before, context = mode.recording, state.context
        try:
            for key in sorted(groups):
                calls = groups[key]
                unit = calls[0].unit
                mode.recording = unit.recording
                try:
                    self._run(unit, calls)
                except Exception:
                    self._fail(unit)
        finally:
            mode.recording, state.context = before, context

    def _fail(self, unit: Unit) -> None:
        unit.eager = True
        self.again = Again()
        raise self.again

    def _run(self, unit: Unit, calls: list[Call]) -> None:
        cohorts = [call.cohort for call in calls]
        total = sum([cohort.size for cohort in cohorts])
        columns = [_column(list(column), cohorts, total) for column in zip(*[call.lanes for call in calls])]
        if calls[0].function.__class__ is str:
            samples, counts = (np.concatenate(parts) for parts in list(zip(*[call.args for call in calls]))[:2])
            results: tuple[Any, ...] = (self.run.draws.make(samples, counts, *calls[0].args[2:]),)
            self.run.count(1, total)
        elif calls[0].function.__class__ is dict:
            results = (_operation(unit, calls, columns, cohorts, total),)
            self.run.count(1, total)
        else:
            results = self._run_scope(unit, calls, columns, total)
        for result, spec in zip(results, unit.specs):
            array = result.array
            if array.shape[1:] != spec.shape[1:] or array.dtype != spec.dtype or len(array) != total:
                self._fail(unit)
        start = 0
        for call in calls:
            call.results, call.start, call.lanes = results, start, _NONE
            start += call.cohort.size
        self.run.kernels += 1
        self.run.calls += len(calls)

    def _run_scope(self, unit: Unit, calls: list[Call], columns: list[Any], total: int) -> tuple[Any, ...]:
        cohort = Merged(total)
        rows = iter([Lane(column, cohort) if column.__class__ is not tuple else column[0] for column in columns])
        args, kwargs = calls[0].args
        args = with_lanes(args, lambda lane: next(rows))
        kwargs = {name: with_lanes(a, lambda lane: next(rows)) for name, a in kwargs.items()}
        drawn = self.run.drawn
        function = calls[0].function
        if isinstance(function, Module):
            function = function_of(function)
        joined = join(run_scope(function, args, kwargs, cohort, self.run), cohort, numbers=False)
        leaves, structure = flatten(joined[0][0])
        if (
            len(joined) > 1
            or self.run.drawn != drawn
            or structure != unit.structure
            or any(leaf.__class__ is not Lane for leaf in leaves)
        ):
            self._fail(unit)
        return tuple([leaf.at(cohort) for leaf in leaves])


def _column(lanes: list[Any], cohorts: list[Cohort], total: int) -> Any:
    """Return the rows of one operand of many calls; (tensor,) where all samples share it."""
    first = lanes[0].tensor.call
    if first.constant and all([lane.tensor.call is first for lane in lanes]):
        return (first.args,)
    return gather(lanes, cohorts, total)


def _operation(unit: Unit, calls: list[Call], columns: list[Any], cohorts: Any, total: int) -> Any:
    given = iter(columns)
    operands, lanes = [], []
    for i, a in enumerate(calls[0].args):
        kind = a.__class__
        if kind is Lane:
            a = next(given)
            lane = a.__class__ is not tuple
            if not lane:
                (a,) = a
        elif kind in _NUMBERS and unit.columns:
            a, lane = _numbers([call.args[i] for call in calls], cohorts, columns[0])
        else:
            lane = False
        operands.append(a)
        lanes.append(lane)
    if not any(lanes):  # only what all share, which is then every row's
        operands[0], lanes[0] = operands[0].expand((total, *operands[0].shape)), True
    return apply_rule(unit.op, operands, lanes, total, calls[0].function)


def _numbers(numbers: list[Any], cohorts: list[Cohort], like: Any) -> Any:
    first = numbers[0]
    if all([number == first for number in numbers]):
        return first, False
    array = (like[0] if like.__class__ is tuple else like).array
    rows = np.array(numbers, array.dtype)
    sizes = [cohort.size for cohort in cohorts]
    if max(sizes) > 1:
        rows = np.repeat(rows, sizes)
    return wrap(xp(array).asarray(rows)), True


def with_lanes(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Return arguments with every lane replaced."""
    if tree.__class__ is Lane:
        return function(tree)
    return tuple([with_lanes(part, function) for part in tree]) if tree.__class__ is tuple else tree
