"""The executor: runs recorded calls, those of one signature and depth as one operation or one group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.device import xp
from dynarl.autograd.grad_mode import mode
from dynarl.autograd.tensor import wrap
from dynarl.autograd.versions import last_modification, modified_since
from dynarl.batching.eager.eager_execution import run_scope
from dynarl.batching.groups.execution import state
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.lockstep.gather import gather
from dynarl.batching.lockstep.lazy import CombinedGroup, LazyCall, Signature
from dynarl.batching.rules.table import apply_rule
from dynarl.batching.scopes.modules import function_of
from dynarl.batching.values.join import join
from dynarl.batching.values.pytree import flatten
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.values.shared_memory import argument
from dynarl.nn import Module

__all__ = ["MOST_WAITING", "Executor", "Restart", "Unwind", "replace_sample_tensors"]

_NUMBERS = frozenset((float, int, bool))
_AFTER_ALL = 1 << 60  # the depth of calls that no other call uses: fewer, larger operations
MOST_WAITING = 100_000
_NONE: list[Any] = []


class Unwind(BaseException):
    """Leaves a program that has to wait for other paths, or whose run starts again. Programs must not catch it."""


class Restart(Unwind):
    """Raised when a call did not behave as its signature says; the run is repeated without lazy calls of its kind."""


class Executor:
    """The calls of a batched run that are recorded and not run yet."""

    def __init__(self, run: BatchedRun) -> None:
        self.run = run
        self.calls: list[LazyCall] = []
        self.clock = 0  # of changes in place, when the first waiting call was recorded
        self.restart: Restart | None = None

    def add(self, call: LazyCall) -> None:
        """Add a call; run them all if too many wait."""
        if not self.calls:
            self.clock = last_modification()
        self.calls.append(call)
        if len(self.calls) > MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Run all calls, depth by depth, those of one signature (and equal shared operands) together."""
        if not self.calls:
            return
        if last_modification() != self.clock:
            self._check_operands()
        batches: dict[tuple[int, int], list[LazyCall]] = {}
        for call in self.calls:
            key = call.depth if call.used else _AFTER_ALL, call.number
            batch = batches.get(key)
            if batch is None:
                batches[key] = [call]
            else:
                batch.append(call)
        self.calls = []
        before, execution = mode.recording, state.execution
        try:
            for key in sorted(batches):
                calls = batches[key]
                signature = calls[0].signature
                mode.recording = signature.recording
                try:
                    self._run(signature, calls)
                except Exception:
                    # The error of a combined call names no path: each path raises its own in the repeated run.
                    self._fail(signature)
        finally:
            mode.recording, state.execution = before, execution

    def _check_operands(self) -> None:
        """Repeat the run, with calls where they stand, if a large operand changed in place since it was recorded."""
        for call in self.calls:
            if _has_changed(call.args, self.clock):
                self._fail(call.signature)

    def _fail(self, signature: Signature) -> None:
        signature.eager = True
        self.restart = Restart()
        raise self.restart

    def _run(self, signature: Signature, calls: list[LazyCall]) -> None:
        groups = [call.group for call in calls]
        total = sum([group.size for group in groups])
        columns = [_column(column, groups, total) for column in zip(*[call.operands for call in calls])]
        if signature.kind == "draw":
            samples, counts = (np.concatenate(parts) for parts in list(zip(*[call.args for call in calls]))[:2])
            results: tuple[Tensor, ...] = (calls[0].function(samples, counts, *calls[0].args[2:]),)
            self.run.count(1, total)
        elif signature.kind == "operation":
            results = (_apply(signature, calls, columns, groups, total),)
            self.run.count(1, total)
        else:
            results = self._run_scope(signature, calls[0], columns, total)
        for result, spec in zip(results, signature.specs):
            array = result.array
            if array.shape[1:] != spec.shape[1:] or array.dtype != spec.dtype or len(array) != total:
                self._fail(signature)
        start = 0
        for call in calls:
            call.results, call.start, call.operands = results, start, _NONE
            start += call.group.size
        self.run.kernels += 1
        self.run.calls += len(calls)

    def _run_scope(self, signature: Signature, call: LazyCall, columns: list[Any], total: int) -> tuple[Any, ...]:
        """Run the function of equal calls eagerly, for one group of all their rows."""
        group = CombinedGroup(total)
        rows = iter([argument(column, group) if column.__class__ is not tuple else column[0] for column in columns])
        args, kwargs = call.args
        args = replace_sample_tensors(args, lambda x: next(rows))
        kwargs = {name: replace_sample_tensors(a, lambda x: next(rows)) for name, a in kwargs.items()}
        drawn, undone = self.run.drawn, len(self.run.undo)
        function = call.function
        if isinstance(function, Module):
            function = function_of(function)
        joined = join(run_scope(function, args, kwargs, group, self.run), group)
        leaves, structure = flatten(joined[0][0])
        if (
            len(joined) > 1
            or self.run.drawn != drawn
            or structure != signature.structure
            or any(leaf.__class__ is not SampleTensor for leaf in leaves)
        ):
            self._fail(signature)
        rows_of_leaves = tuple([leaf.at(group) for leaf in leaves])
        del self.run.undo[undone:]
        return rows_of_leaves


def _has_changed(tree: Any, clock: int) -> bool:
    """Return whether the memory of a plain Tensor in the arguments of a call was changed after a clock."""
    if tree.__class__ is tuple:
        return any([_has_changed(part, clock) for part in tree])
    if tree.__class__ is dict:
        return any([_has_changed(part, clock) for part in tree.values()])
    plain = isinstance(tree, Tensor) and tree.__class__ is not SampleTensor
    return plain and modified_since(tree.array, clock) is not None


def _column(tensors: Sequence[SampleTensor], groups: list[SampleGroup], total: int) -> Any:
    """Return the rows of one operand of many calls, or (tensor,) if all samples share it."""
    first = tensors[0].tensor.call
    if first.constant and all([x.tensor.call is first for x in tensors]):
        return (first.args,)
    return gather(tensors, groups, total)


def _apply(
    signature: Signature, calls: list[LazyCall], columns: list[Any], groups: list[SampleGroup], total: int
) -> Tensor:
    """Apply an operation to the rows of many calls."""
    given = iter(columns)
    operands: list[Any] = []
    batched: list[bool] = []
    for i, a in enumerate(calls[0].args):
        kind = a.__class__
        if kind is SampleTensor:
            a = next(given)
            own = a.__class__ is not tuple
            if not own:
                (a,) = a
        elif kind in _NUMBERS and signature.columns:
            a, own = _numbers([call.args[i] for call in calls], groups, columns[0])
        else:
            own = False
        operands.append(a)
        batched.append(own)
    if not any(batched):  # all samples share every operand: [...] -> [total, ...]
        operands[0], batched[0] = operands[0].expand((total, *operands[0].shape)), True
    out: Tensor = apply_rule(signature.op, operands, batched, total, calls[0].function)
    return out


def _numbers(numbers: list[Any], groups: list[SampleGroup], like: Any) -> tuple[Any, bool]:
    """Return the numbers of many calls: one number if they are equal, else a row for each sample."""
    first = numbers[0]
    if all([number == first for number in numbers]) and (first != 0 or len({str(number) for number in numbers}) == 1):
        return first, False
    array = (like[0] if like.__class__ is tuple else like).array
    rows = np.array(numbers, array.dtype)
    sizes = [group.size for group in groups]
    if max(sizes) > 1:
        rows = np.repeat(rows, sizes)
    return wrap(xp(array).asarray(rows)), True


def replace_sample_tensors(tree: Any, function: Callable[[SampleTensor], Any]) -> Any:
    """Return an argument with every SampleTensor in it and in its tuples replaced."""
    if tree.__class__ is SampleTensor:
        return function(tree)
    return tuple([replace_sample_tensors(part, function) for part in tree]) if tree.__class__ is tuple else tree
