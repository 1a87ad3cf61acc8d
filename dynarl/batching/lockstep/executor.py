"""Running together: calls that were noted one by one, run as one operation or one group for each kind and depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dynarl.autograd.device import xp
from dynarl.autograd.grad_mode import mode
from dynarl.autograd.tensor import wrap
from dynarl.batching.eager.execution import run_scope, state
from dynarl.batching.eager.scope import function_of
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.lockstep.lazy import CombinedGroup, LazyCall, Signature, apply_rule, gather
from dynarl.batching.values.pytree import flatten, join
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.nn import Module

__all__ = ["Executor", "Restart", "Unwind", "with_lanes"]

_NUMBERS = frozenset((float, int, bool))
_LAST = 1 << 60
MOST = 100_000
_NONE: list[Any] = []


class Unwind(BaseException):
    """Leaves a program that has to wait, or a batched call that starts again; no program may catch it."""


class Restart(Unwind):
    """A call did not behave as learned: start again without putting off its kind."""


class Executor:
    """The calls that were noted and not yet run."""

    def __init__(self, run: BatchedRun) -> None:
        self.run = run
        self.calls: list[LazyCall] = []
        self.again: Restart | None = None

    def note(self, call: LazyCall) -> None:
        """Put a call off; very many are run in between."""
        self.calls.append(call)
        if len(self.calls) > MOST:
            self.flush()

    def flush(self) -> None:
        """Run all noted calls: depth by depth, those of one signature together."""
        if not self.calls:
            return
        groups: dict[tuple[int, int], list[LazyCall]] = {}
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
                signature = calls[0].signature
                mode.recording = signature.recording
                try:
                    self._run(signature, calls)
                except Exception:
                    self._fail(signature)
        finally:
            mode.recording, state.context = before, context

    def _fail(self, signature: Signature) -> None:
        signature.eager = True
        self.again = Restart()
        raise self.again

    def _run(self, signature: Signature, calls: list[LazyCall]) -> None:
        groups = [call.group for call in calls]
        total = sum([group.size for group in groups])
        columns = [_column(list(column), groups, total) for column in zip(*[call.lanes for call in calls])]
        if calls[0].function.__class__ is str:
            samples, counts = (np.concatenate(parts) for parts in list(zip(*[call.args for call in calls]))[:2])
            results: tuple[Any, ...] = (self.run.draws.make(samples, counts, *calls[0].args[2:]),)
            self.run.count(1, total)
        elif calls[0].function.__class__ is dict:
            results = (_operation(signature, calls, columns, groups, total),)
            self.run.count(1, total)
        else:
            results = self._run_scope(signature, calls, columns, total)
        for result, spec in zip(results, signature.specs):
            array = result.array
            if array.shape[1:] != spec.shape[1:] or array.dtype != spec.dtype or len(array) != total:
                self._fail(signature)
        start = 0
        for call in calls:
            call.results, call.start, call.lanes = results, start, _NONE
            start += call.group.size
        self.run.kernels += 1
        self.run.calls += len(calls)

    def _run_scope(
        self, signature: Signature, calls: list[LazyCall], columns: list[Any], total: int
    ) -> tuple[Any, ...]:
        group = CombinedGroup(total)
        rows = iter([SampleTensor(column, group) if column.__class__ is not tuple else column[0] for column in columns])
        args, kwargs = calls[0].args
        args = with_lanes(args, lambda lane: next(rows))
        kwargs = {name: with_lanes(a, lambda lane: next(rows)) for name, a in kwargs.items()}
        drawn = self.run.drawn
        function = calls[0].function
        if isinstance(function, Module):
            function = function_of(function)
        joined = join(run_scope(function, args, kwargs, group, self.run), group, numbers=False)
        leaves, structure = flatten(joined[0][0])
        if (
            len(joined) > 1
            or self.run.drawn != drawn
            or structure != signature.structure
            or any(leaf.__class__ is not SampleTensor for leaf in leaves)
        ):
            self._fail(signature)
        return tuple([leaf.at(group) for leaf in leaves])


def _column(lanes: list[Any], groups: list[SampleGroup], total: int) -> Any:
    """Return the rows of one operand of many calls; (tensor,) where all samples share it."""
    first = lanes[0].tensor.call
    if first.constant and all([lane.tensor.call is first for lane in lanes]):
        return (first.args,)
    return gather(lanes, groups, total)


def _operation(signature: Signature, calls: list[LazyCall], columns: list[Any], groups: Any, total: int) -> Any:
    given = iter(columns)
    operands, lanes = [], []
    for i, a in enumerate(calls[0].args):
        kind = a.__class__
        if kind is SampleTensor:
            a = next(given)
            lane = a.__class__ is not tuple
            if not lane:
                (a,) = a
        elif kind in _NUMBERS and signature.columns:
            a, lane = _numbers([call.args[i] for call in calls], groups, columns[0])
        else:
            lane = False
        operands.append(a)
        lanes.append(lane)
    if not any(lanes):  # only what all share, which is then every row's
        operands[0], lanes[0] = operands[0].expand((total, *operands[0].shape)), True
    return apply_rule(signature.op, operands, lanes, total, calls[0].function)


def _numbers(numbers: list[Any], groups: list[SampleGroup], like: Any) -> Any:
    first = numbers[0]
    if all([number == first for number in numbers]):
        return first, False
    array = (like[0] if like.__class__ is tuple else like).array
    rows = np.array(numbers, array.dtype)
    sizes = [group.size for group in groups]
    if max(sizes) > 1:
        rows = np.repeat(rows, sizes)
    return wrap(xp(array).asarray(rows)), True


def with_lanes(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Return arguments with every lane replaced."""
    if tree.__class__ is SampleTensor:
        return function(tree)
    return tuple([with_lanes(part, function) for part in tree]) if tree.__class__ is tuple else tree
