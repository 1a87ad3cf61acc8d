"""Eager execution: operations run at once, and the paths of a program one after the other.

One Python execution serves a whole group. Where a concrete value differs inside the group, the largest part continues,
and each other part later runs the program again from the start of the innermost scope, with everything computed before
taken from the log (a continuation by replay). Where a scope returns, its parts are joined row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from dynarl.autograd import Tensor
from dynarl.autograd.call_site import user_line
from dynarl.autograd.device import to_host
from dynarl.batching.draws import DeviceLike
from dynarl.batching.eager.apply import EagerOperations
from dynarl.batching.eager.repeat import Outcomes, Raised, repeat, run_once
from dynarl.batching.groups.execution import DRAW, VALUE, Log, Names, Operands, Operation, Static, state
from dynarl.batching.groups.group import PerSampleError, SampleGroup, split
from dynarl.batching.groups.run import BatchedRun, Change
from dynarl.batching.rules.table import of_one_sample
from dynarl.batching.scopes.loops import Live, Step, can_repeat, repeat_in_place
from dynarl.batching.scopes.modules import function_of
from dynarl.batching.scopes.rewritten import parts, rewritten
from dynarl.batching.values.changes import Changed, join_changes, roll_back, states_since
from dynarl.batching.values.effects import encode, packed, unpacked
from dynarl.batching.values.heap import NO_HEAP, Heap, heap_of, reached_by
from dynarl.batching.values.join import join
from dynarl.batching.values.kinds import Inseparable
from dynarl.batching.values.pytree import Encoded
from dynarl.batching.values.sample_number import numbers_of
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.values.variables import Variables
from dynarl.nn import Linear, Sequential
from dynarl.nn.containers import _is_plain

__all__ = ["EagerExecution", "TooManyPaths", "run_scope"]

_KINDS = {"b": bool, "i": int, "f": float}
_UNSCOPED = object()
"""In a log: the result of a call that ran as part of its caller."""


class TooManyPaths(BaseException):
    """Raised when samples diverge into too many paths; the call is retried in lockstep mode."""


def run_scope(
    program: Operation,
    args: Operands,
    kwargs: Static,
    group: SampleGroup,
    run: BatchedRun,
    *,
    keep_errors: bool = False,
) -> Outcomes:
    """Run a program for a group and return (group, result) of each path that its samples took.

    With `keep_errors` a path that raised has a `Raised` as its result: the caller may catch it for those samples.
    """
    outer, undo, mark = state.execution, run.undo, len(run.undo)
    finals: list[list[Change]] = []
    waiting: list[tuple[SampleGroup, Log]] = [(group, [])]
    outcomes: Outcomes = []
    try:
        while waiting:
            if len(undo) > mark:
                roll_back(run, mark)
            part, log = waiting.pop()
            if run.max_paths is not None and len(outcomes) + len(waiting) >= run.max_paths:
                run.too_many = True
                raise TooManyPaths
            execution = state.execution = EagerExecution(run, part, log, waiting)
            try:
                result = program(*args, **kwargs)
            except Exception as error:
                execution.add_note(error)
                if not keep_errors or isinstance(error, PerSampleError):
                    raise
                result = Raised(error)
            execution.count()
            if execution.position < len(execution.log):  # it returned before it asked for everything in its log
                execution.recall(None)
            if len(undo) > mark and (waiting or outcomes):
                finals += [[] for _ in range(len(outcomes) - len(finals))]
                finals.append(states_since(run, mark))
            outcomes.append((execution.group, result))
    finally:
        state.execution = outer
    if finals:
        join_changes(run, mark, [part for part, _ in outcomes], finals, group)
    return outcomes


class EagerExecution(EagerOperations):
    """One execution of a scope's program for one group; `waiting` are the groups and logs that replay after it."""

    __slots__ = ("mark", "waiting")
    mark: int  # the length of `run.undo` where the scope began that this execution runs

    def __init__(self, run: BatchedRun, group: SampleGroup, log: Log, waiting: list[tuple[SampleGroup, Log]]) -> None:
        # Not by the base class: an execution begins for every part of every split.
        self.run, self.group, self.log, self.waiting = run, group, log, waiting
        self.position = self.steps = self.counted = 0

    def remember(self, key: object, value: Any) -> None:
        """Log a result, unless the group can no longer split."""
        if self.group.size > 1:
            self.log.append((key, value))
            self.position += 1

    def count(self) -> None:
        """Add the operations since the last call to the run's statistics."""
        self.run.count_path(self.steps - self.counted, self.group)
        self.counted = self.steps

    # -- concrete values and random numbers -------------------------------------------------------------------------

    def read(self, x: Any) -> Any:
        """Return a sample's number; this execution continues with the samples of the most frequent one."""
        group = self.group
        values = self._values(x)
        parts = split(values) if group.size > 1 else None
        if parts is None:
            value = values[0].item()
            self.remember(VALUE, value)
            return value
        return self._diverge([(value, group.part(rows)) for value, rows in parts], VALUE)

    def number(self, x: Any, kind: type | None) -> Any:
        """Return a number for each sample; the group stays together until the program needs one number."""
        if self.position < len(self.log):
            return self.recall(VALUE)
        group = self.group
        values = self._values(x)
        if kind is None or kind is _KINDS.get(values.dtype.kind):
            number = numbers_of(values, group)
        else:
            try:
                number = numbers_of([kind(value) for value in values.tolist()], group)
            except (ValueError, OverflowError):  # int() of nan or inf, of some samples: each goes on with its own
                number = numbers_of(values, group)
                self.remember(VALUE, number)
                return kind(number)
        self.remember(VALUE, number)
        return number

    def _values(self, x: Any) -> Any:
        """Return the concrete values [n] of a tensor with one element, or recorded ones in their place."""
        self.step()
        group, run = self.group, self.run
        if x.shape != () and x.numel() != 1:
            raise RuntimeError(f"item: expected one number per sample, got shape {x.shape}; use any() or all()")
        if run.replay is not None:
            values = run.repeat_decisions(group.samples(), x.dtype)
        else:
            values = to_host(x.at(group).array).reshape(-1)
            run.reads += 1
        if run.replay is not None or run.recorder is not None:
            run.record_read(group, values)
        return values

    def read_values(self, values: Any) -> dict[SampleGroup, Any]:
        """Read values [n], an array or a list; samples with different ones go separate ways.

        Returned are the values of the groups into which this one split, or of the whole group. The read is not logged:
        a part of the group that replays finds its values equal.
        """
        if type(values) is np.ndarray and values.dtype != object:
            found = split(values)
            if found is None:
                return {self.group: values[0].item()}
        else:
            rows: dict[Any, list[int]] = {}
            for i, value in enumerate(values):
                rows.setdefault((value.__class__, repr(value)), []).append(i)
            if len(rows) == 1:
                return {self.group: values[0]}
            found = [(values[part[0]], np.array(part)) for part in rows.values()]
            found.sort(key=lambda entry: -len(entry[1]))
        self.step()
        parts = [(value, self.group.part(chosen)) for value, chosen in found]
        self._diverge(parts, None)
        return {part: value for value, part in parts}

    def _diverge(self, parts: Sequence[tuple[Any, SampleGroup]], key: object | None) -> Any:
        """Continue with the first part and return its value; the others wait to replay from the start of the scope.

        The values are logged with a key, if there is one.
        """
        self.count()
        before = list(self.log)
        self.run.count_split(user_line(), [group for _, group in parts])
        for value, group in parts[1:]:
            self.run.count_group()
            self.waiting.append((group, before.copy() if key is None else [*before, (key, value)]))
        value, self.group = parts[0]
        if key is not None:
            self.log.append((key, value))
            self.position += 1
        return value

    def draw(self, kind: str, shape: tuple[int, ...], dtype: DTypeLike | None, device: DeviceLike) -> SampleTensor:
        """Return random numbers of each sample's own stream."""
        samples, streams = self.group.samples(), self.run.streams()
        tensor: Tensor = streams.make(samples, streams.reserve(samples), kind, shape, dtype, device)
        return self.result(DRAW, tensor)

    # -- scopes -----------------------------------------------------------------------------------------------------

    def run_nested(self, program: Operation, args: Operands, group: SampleGroup) -> Outcomes:
        """Run a program in a scope of its own, for this group or a part of it."""
        return run_scope(program, args, {}, group, self.run, keep_errors=True)

    def call_scope(self, key: object, function: Operation, args: Operands, kwargs: Static) -> Any:
        """Call a function in a scope of its own and join the results of its paths."""
        return self.call(key, function, args, kwargs, reached_by(function))

    def helper(self, code: CodeType, function: Any) -> Any:
        """Return a rewritten function that runs in a scope of its own, unless samples cannot part in it."""
        called = rewritten(function)
        return partial(_call_helper, code, function, called) if parts(function) else called

    def call(self, key: object, function: Operation, args: Operands, kwargs: Static, reached: Operands) -> Any:
        """Call a function in a scope. It may reach objects from its arguments and from those in `reached`."""
        if self.position < len(self.log):
            logged = _again(self.recall(key))
            if logged is _UNSCOPED:
                return function(*args, **kwargs)
            encoded = logged.__class__ is Encoded
            return _given(logged, heap_of((*args, *kwargs.values(), *reached)) if encoded else NO_HEAP)
        if self.group.size == 1:
            return function(*args, **kwargs)
        self.step()
        heap = NO_HEAP

        def scope() -> Any:
            nonlocal heap
            heap = heap_of((*args, *kwargs.values(), *reached))
            if heap.mutable:
                program = _transaction(function, heap)
                outcomes = run_scope(program, args, kwargs, self.group, self.run, keep_errors=True)
                heap.restore()  # from what the last path left; the joined changes are made below
            else:
                outcomes = [
                    (part, result if result.__class__ is Raised else packed(result))
                    for part, result in run_scope(function, args, kwargs, self.group, self.run, keep_errors=True)
                ]
            return self._join(key, outcomes)

        result = self._attempt(key, scope, lambda: heap.restore())
        return function(*args, **kwargs) if result is _UNSCOPED else _given(result, heap)

    def run_statement(self, statement: Callable[[], None], outs: Names) -> None:
        """Run a statement in a scope of its own."""
        key = statement.__code__
        variables = Variables(statement, outs)
        before: Any = None

        def scope() -> Any:
            entered = variables.enter()

            def program() -> Any:
                nonlocal before
                if before is None:  # the first path finds everything in place
                    before = entered
                else:
                    variables.put(before)
                return run_once(statement), variables.leave()

            outcomes = run_scope(program, (), {}, self.group, self.run)
            result = self._join(key, outcomes)
            if len(outcomes) > 1:
                variables.put(result[1])
            return result

        if self.position < len(self.log):
            result = self._recalled(key, variables)
        elif self.group.size == 1:
            result = _UNSCOPED
        else:
            self.step()
            result = self._attempt(key, scope, lambda: None if before is None else variables.put(before))
        if result is _UNSCOPED:
            statement()
        elif result[0] is not None:
            raise result[0].again()

    def run_loop(self, step: Step, items: Any, outs: Names, live: Live) -> int:
        """Run a loop in a scope of its own."""
        key = step.__code__
        variables = Variables(step, outs)
        before: Any = None

        def scope() -> Any:
            nonlocal before
            if not can_repeat(items):
                raise Inseparable(f"a loop over an object of class {type(items).__name__}")
            before = variables.enter(*_elements(items))
            result = self._join(key, repeat(self, variables, before, step, items, outs, live))
            variables.put(result[1])
            return result

        if self.position < len(self.log):
            result = self._recalled(key, variables)
        elif self.group.size == 1:
            result = _UNSCOPED
        else:
            self.step()
            result = self._attempt(key, scope, lambda: None if before is None else variables.put(before))
        if result is _UNSCOPED:
            return repeat_in_place(step, items)
        if result[0].__class__ is Raised:
            raise result[0].again()
        return int(result[0])

    def _recalled(self, key: object, variables: Variables) -> Any:
        """Return the logged result of a statement, after giving its variables their values."""
        result = _again(self.recall(key))
        if result is not _UNSCOPED:
            variables.recall(result[1])
        return result

    def _attempt(self, key: object, scope: Callable[[], Any], undo: Callable[[], None]) -> Any:
        """Run a scope and return its result; if it cannot be one, undo what it did and return `_UNSCOPED`."""
        run = self.run
        if key not in run.unscoped:
            marks, self.mark = run.mark(), len(run.undo)
            try:
                return scope()
            except Inseparable as reason:
                roll_back(run, self.mark)
                undo()
                run.rewind(marks)
                run.error = None
                run.unscoped[key] = str(reason)
        self.remember(key, _UNSCOPED)
        return _UNSCOPED

    def _join(self, key: object, outcomes: Outcomes) -> Any:
        """Join the results of a scope's paths and log the joined result.

        Parts whose results cannot be joined, or that raised, go separate ways from here.
        """
        states = states_since(self.run, self.mark) if len(self.run.undo) > self.mark else None
        if len(outcomes) == 1:
            result = outcomes[0][1]
            self.remember(key, result if states is None else Changed(self.run, result, states))
            return result
        returned = [entry for entry in outcomes if entry[1].__class__ is not Raised]
        joined: list[tuple[Any, SampleGroup]] = []
        if returned:
            joined = join(returned, self.group, apart=self.run.keeps_paths())
        if len(returned) < len(outcomes):
            joined += [(error, part) for part, error in outcomes if error.__class__ is Raised]
            joined.sort(key=lambda entry: -entry[1].size)
        if len(joined) == 1:
            result = joined[0][0]
            self.remember(key, result if states is None else Changed(self.run, result, states))
            return result
        if states is not None:
            joined = [(Changed(self.run, result, states), part) for result, part in joined]
        return _again(self._diverge(joined, key))

    def call_module(self, module: Any, args: Operands, kwargs: Static) -> Any:
        """Call a Module in a scope of its own; one of this package that never branches is one entry of the log."""
        if not module._straight:
            return self.call(module, function_of(module), args, kwargs, ())
        position, log = self.position, self.log
        new = position == len(log)
        if new and len(args) == 1 and args[0].__class__ is SampleTensor:
            x, kind, group = args[0], module.__class__, self.group
            if _is_plain(module, kind) and (kind is Linear or (kind is Sequential and module.is_affine())):
                rows = x.tensor if x.group is group else x.at(group)
                if rows.array.ndim > 1:  # affine layers act on the last axis: they need no rule
                    try:
                        return self.result(module, module.forward(rows))
                    except (ValueError, TypeError) as error:
                        raise of_one_sample(error, module.forward, (self.first(x),), {}) from None
        function = module.forward if module._hooks is None else function_of(module)
        if new and self.group.size == 1:
            return function(*args, **kwargs)
        if not new:
            return _given(_again(self.recall(module))) if log[position][0] is module else function(*args, **kwargs)
        group = self.group
        result = function(*args, **kwargs)
        if self.group is group:
            # Also where no operation was logged: the next call may be of the same Module.
            del log[position:]
            log.append((module, result))
            self.position = position + 1
            return _given(result)
        return result


def _call_helper(code: CodeType, function: Any, called: Any, /, *args: Any, **kwargs: Any) -> Any:
    execution = state.execution
    if execution.__class__ is not EagerExecution:
        return called(*args, **kwargs)
    return execution.call(code, called, args, kwargs, reached_by(function))


def _again(logged: Any) -> Any:
    """Return the logged result of a scope, after changing in place what the scope changed."""
    return logged.again() if logged.__class__ is Changed else logged


def _elements(items: Any) -> Sequence[Any]:
    """Return the objects that a loop hands out; the list itself cannot change without an end to the scope."""
    return [*items.values()] if items.__class__ is dict else items if isinstance(items, (list, tuple)) else ()


def _transaction(function: Operation, heap: Heap) -> Operation:
    """Return a function whose every call finds the objects of a heap unchanged, and returns what it did to them."""

    def run(*args: Any, **kwargs: Any) -> Encoded:
        heap.restore()
        return encode((run_once(lambda: function(*args, **kwargs)),), heap)

    return run


def _given(result: Any, heap: Heap = NO_HEAP) -> Any:
    """Return a logged result for the program to keep, or raise what the scope raised."""
    if result.__class__ is SampleTensor:
        return result
    if result.__class__ is not Raised:
        result = unpacked(result, heap)
    if result.__class__ is Raised:
        raise result.again()
    return result
