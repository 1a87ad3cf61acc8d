"""Running a per-sample program for a group at a time: split where samples disagree, join where a scope ends.

One Python execution serves a whole group. When a concrete value differs inside it, the largest part goes on and
each other part runs the program again from the start of the scope, taking what it already computed from a log
(a continuation by replay). Where a nested scope returns, its parts are joined row by row.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from dynarl.autograd.call_site import line_of, user_line
from dynarl.autograd.device import to_host
from dynarl.autograd.versions import owner_of
from dynarl.batching.groups.group import PerSampleError, SampleGroup, split
from dynarl.batching.groups.run import BatchedRun, shown

__all__ = ["Execution", "read_value", "run_scope", "state"]

VALUE = "a concrete value"
OPEN = object()
"""In a log: a scope that has begun, where its end is not logged yet."""


class TooManyPaths(BaseException):
    """Ends a call whose samples part so much that their paths had better run side by side."""


class Execution:
    """One execution of a scope's program for one group: its log, and how far it has been replayed."""

    __slots__ = ("counted", "group", "log", "position", "run", "stack", "steps")
    scheduler: Any = None

    def __init__(self, run: BatchedRun, group: SampleGroup, log: list[Any], stack: list[Any]) -> None:
        self.run, self.group, self.log, self.stack = run, group, log, stack
        self.position = 0
        self.steps = self.counted = 0

    def replaying(self) -> bool:
        """Tell whether what is asked for now was computed before the group split."""
        return self.position < len(self.log)

    def recall(self, key: Any) -> Any:
        """Return the next logged result; the program must ask for the same as it did the first time."""
        logged, value = self.log[self.position]
        if logged is not key:
            raise self.run.stop(
                f"the program did not repeat itself: replaying for another branch, {_named(key)} came at "
                f"{line_of(user_line())} where {_named(logged)} was before. Per-sample programs must depend on their "
                "arguments alone: no clocks, counters, outside state or random numbers but dynarl's per-sample ones"
            )
        self.position += 1
        self.run.replayed += 1
        return value

    def remember(self, key: Any, value: Any) -> None:
        """Log a result for the parts of this group that may split off later."""
        if self.group.size > 1:
            self.log.append((key, value))
            self.position += 1

    def result(self, op: Any, tensor: Any) -> Any:
        """Return the is_batched of an operation's result, and log it as `remember` does."""
        self.steps += 1
        if self.steps > self.run.max_steps:
            self.stop_endless()
        group = self.group
        is_batched = _new(_LANE)
        is_batched.tensor, is_batched.group, is_batched._at = tensor, group, None
        if group.size > 1:
            self.log.append((op, is_batched))
            self.position += 1
        return is_batched

    def count(self) -> None:
        """Add the operations since the last time to the run's."""
        self.run.count(self.steps - self.counted, self.group.size)
        self.counted = self.steps

    def narrow(self, groups: list[tuple[Any, SampleGroup]], key: Any) -> Any:
        """Go on with the first group, queue the others to replay from the start; return the first's value."""
        self.count()
        before = list(self.log)
        self.run.splits.setdefault(user_line(), []).append(tuple(group.size for _, group in groups))
        for value, group in groups[1:]:
            self.run.count_group()
            self.stack.append((group, [*before, (key, value)]))
        value, self.group = groups[0]
        self.log.append((key, value))
        self.position += 1
        return value

    def step(self, steps: int = 1) -> None:
        """Count what is no operation of its own as a step, and stop a program that never ends."""
        self.steps += steps
        self.counted += steps
        if self.steps > self.run.max_steps:
            self.stop_endless()

    def stop_endless(self) -> None:
        """Stop a program that makes too many steps."""
        raise self.run.stop(
            f"the program made more than max_steps={self.run.max_steps} operations for samples "
            f"{shown(self.group.samples())} and stands at {line_of(user_line())}: a loop that does not end? "
            "Raise max_steps if it does"
        )


def _named(key: Any) -> str:
    return str(getattr(key, "__name__", key))


class ElementwiseRule:
    """The rule of an operation of two operands that broadcast.

    `general` is for ranks or dtypes that differ, `by_rank` an operation for the rows of two batched whose ranks do.
    """

    __slots__ = ("by_rank", "general")

    def __init__(self, general: Callable[..., Any], by_rank: Callable[..., Any] | None = None) -> None:
        self.general, self.by_rank = general, by_rank


class LeadingAxesRule:
    """The rule of an operation [..., in] with parameters that all samples share; `check` refuses anything else."""

    __slots__ = ("check",)

    def __init__(self, check: Callable[[Any, list[bool]], None]) -> None:
        self.check = check


_new: Callable[[Any], Any] = object.__new__
_MISSING = object()


class _State(threading.local):
    """The context of the program that runs in this thread, if one does; the rules are every thread's."""

    context: Execution | None = None
    rules: dict[Any, Any] = {}
    default: Callable[[Any], Callable[..., Any]]
    is_batched: Any = None

    def apply(self, op: Any, args: tuple[Any, ...], static: dict[str, Any]) -> Any:
        """Apply an operation to batched: to all rows of the current group at once."""
        context = self.context
        if context is None:
            raise PerSampleError(
                "a per-sample tensor was used after its call had ended; return it from the program to keep it"
            )
        position, log = context.position, context.log
        if position < len(log):
            logged, value = log[position]
            if logged is not op:
                return context.recall(op)
            context.position = position + 1
            return value
        if context.scheduler is not None:
            return context.scheduler.record(context, op, args, static)
        group = context.group
        rule = _RULES.get(op, _MISSING)
        if rule is None:
            (x,) = args
            out = op(x.tensor if x.group is group else x.at(group), **static)
        elif rule.__class__ is ElementwiseRule:
            x, y = args
            out = _two(op, x, y, rule, context, static)
        else:
            out = _ruled(op, args, rule, context, static)
        return context.result(op, out)


def _ruled(op: Any, args: tuple[Any, ...], rule: Any, context: Execution, static: dict[str, Any]) -> Any:
    """Apply an operation by its rule: to the rows of the current group, and what all samples share."""
    if rule is _MISSING:
        rule = _RULES[op] = state.default(op)
    group = context.group
    batched, operands = [], []
    for a in args:
        if a.__class__ is _LANE:
            batched.append(True)
            operands.append(a.tensor if a.group is group else a.at(group))
        else:
            batched.append(False)
            operands.append(_operand(op, a, False, context))
    if rule.__class__ is LeadingAxesRule:
        rule.check(operands[0], batched)
        return op(*operands, **static)
    return rule(operands, batched, group.size, static)


def _operand(op: Any, a: Any, is_batched: bool, context: Execution) -> Any:
    """Return the rows of the current group, or what all samples share."""
    if is_batched:
        return a.tensor if a.group is context.group else a.at(context.group)
    if is_batch(a, context.run):
        raise context.run.stop(whole_batch(op))
    return a


def is_batch(a: Any, run: BatchedRun) -> bool:
    """Tell whether what is used beside a sample is an argument's batch, or a view that has all its samples in order."""
    if id(a) in run.inputs:
        return True
    array = getattr(a, "array", a)
    if getattr(array, "base", None) is None or not array.ndim or len(array) != run.root.size:
        return False
    owner = owner_of(array)
    for batch in run.batches:
        if owner_of(batch) is owner and batch.strides[0] == array.strides[0]:
            offset = _address(array) - _address(batch)
            if 0 <= offset < max(1, batch.strides[0]):
                return True
    return False


def _address(array: Any) -> int:
    return int(array.ctypes.data if array.__class__ is np.ndarray else array.data.ptr)


def whole_batch(op: Any) -> str:
    """Return the message for a batch that is used where one sample's tensor is meant."""
    return (
        f"{_named(op)}: the whole batch is used beside one sample's tensor at {line_of(user_line())}; inside "
        "a per-sample program use the argument, not the batch that was passed for it"
    )


def _two(op: Any, x: Any, y: Any, rule: ElementwiseRule, context: Execution, static: dict[str, Any]) -> Any:
    """Apply an elementwise operation; numbers and equal ranks and dtypes need no alignment."""
    group = context.group
    if x.__class__ is _LANE:
        p = x.tensor if x.group is group else x.at(group)
        if y.__class__ is _LANE:
            q = y.tensor if y.group is group else y.at(group)
            if p.array.ndim == q.array.ndim and p.array.dtype is q.array.dtype:
                return op(p, q, **static)
            return rule.general((p, q), (True, True), group.size, static)
        if y.__class__ in _PLAIN:
            return op(p, y, **static)
        return rule.general((p, _operand(op, y, False, context)), (True, False), group.size, static)
    q = y.tensor if y.group is group else y.at(group)
    if x.__class__ in _PLAIN:
        return op(x, q, **static)
    return rule.general((_operand(op, x, False, context), q), (False, True), group.size, static)


_PLAIN = frozenset((float, int, bool))
_LANE: Any = None
_RULES = _State.rules


def bind(is_batched: Any, default: Callable[[Any], Callable[..., Any]]) -> None:
    """Learn the class of per-sample tensors, and what makes the rule of an operation that has none."""
    global _LANE
    _LANE = _State.is_batched = is_batched
    _State.default = staticmethod(default)


state = _State()


def read_value(x: Any) -> Any:
    """Return the Python number of a per-sample scalar, splitting the group where samples differ."""
    context = state.context
    if context is None:
        raise PerSampleError("a per-sample tensor was read after its call had ended; return it from the program")
    if context.position < len(context.log):
        return context.recall(VALUE)
    if context.scheduler is not None:
        return context.scheduler.read(context, x)
    context.step()
    group, run = context.group, context.run
    if x.shape != () and x.numel() != 1:
        raise RuntimeError(f"item: expected one number per sample, got shape {x.shape}; use any() or all()")
    if run.replay is not None:
        values = run.decide(group.samples(), x.dtype)
    else:
        values = to_host(x.at(group).array).reshape(-1)
        run.reads += 1
    if run.replay is not None or run.recorder is not None:
        run.note(group, values)
    groups = split(values) if group.size > 1 else None
    if groups is None:
        value = values[0].item()
        context.remember(VALUE, value)
        return value
    return context.narrow([(value, group.part(rows)) for value, rows in groups], VALUE)


class Raised:
    """In place of a result: what a scope raised for some of its samples, to be raised again in its caller."""

    def __init__(self, error: Exception) -> None:
        self.error, self.traceback = error, error.__traceback__

    def again(self) -> Exception:
        """Return the error with the traceback it had where it was raised."""
        return self.error.with_traceback(self.traceback)


def run_scope(
    program: Callable[..., Any],
    args: Any,
    kwargs: Any,
    group: SampleGroup,
    run: BatchedRun,
    *,
    keep_errors: bool = False,
) -> list[tuple[SampleGroup, Any]]:
    """Run a program for a group and return (group, result) for each path that was taken.

    With `keep_errors` the result of a path that raised is `Raised`, for the caller may catch it for those samples.
    """
    outer = state.context
    stack: list[tuple[SampleGroup, list[Any]]] = [(group, [])]
    results: list[tuple[SampleGroup, Any]] = []
    try:
        while stack:
            part, log = stack.pop()
            if run.max_paths is not None and len(results) + len(stack) >= run.max_paths:
                run.too_many = True
                raise TooManyPaths
            context = state.context = Execution(run, part, log, stack)
            try:
                result = program(*args, **kwargs)
            except Exception as error:
                if not getattr(error, "__notes__", None):
                    samples = shown(context.group.samples())
                    error.add_note(f"in a per-sample program, for samples {samples} of the batch")
                if not keep_errors or isinstance(error, PerSampleError):
                    raise
                result = Raised(error)
            context.count()
            if context.position < len(context.log):
                context.recall(None)
            results.append((context.group, result))
    finally:
        state.context = outer
    return results
