"""Running a per-sample program for a cohort at a time: split where samples disagree, join where a scope ends.

One Python execution serves a whole cohort. When a concrete value differs inside it, the largest part goes on and
each other part runs the program again from the start of the scope, taking what it already computed from a log
(a continuation by replay). Where a nested scope returns, its parts are joined row by row.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.autograd.device import to_host
from dynarl.autograd.memory import Line, _owner, line_of, user_line
from dynarl.batching.cohort import Cohort, PerSampleError, split
from dynarl.batching.paths import Imposed, Recorder

__all__ = ["Context", "Run", "concretize", "run_scope", "state"]

VALUE = "a concrete value"
OPEN = object()
"""In a log: a scope that has begun, where its end is not logged yet."""
_OTHER_PATH = (
    "paths were recorded; per-sample programs must depend on their arguments and parameters alone, not on "
    "training mode, schedules or other state"
)


class Run:
    """One batched call: its bounds, what happened in it, and what it may not touch."""

    def __init__(self, size: int, max_cohorts: int, max_steps: int, inputs: set[int]) -> None:
        self.root = Cohort(None, None, size)
        self.max_cohorts, self.max_steps, self.inputs = max_cohorts, max_steps, inputs
        self.cohorts = self.operations = self.row_operations = self.replayed = self.reads = 0
        self.kernels = self.calls = self.drawn = 0
        self.splits: dict[Line, list[tuple[int, ...]]] = {}
        self.draws: Any = None
        self.recorder: Recorder | None = None
        self.imposed: Imposed | None = None
        self.error: PerSampleError | None = None
        self.plain: set[Any] = set()
        self.merged = False
        self.generators: list[Any] = []
        self.batches: list[Any] = []
        self.calls = 0
        self.max_paths: int | None = None
        self.too_many = False

    def stop(self, text: str) -> PerSampleError:
        """Return the error that ends this call, even if the program should catch it."""
        self.error = PerSampleError(text)
        return self.error

    def decide(self, samples: NDArray[np.int64], dtype: Any, size: int = 1) -> NDArray[Any]:
        """Return the next recorded decisions of samples, [n * size]; the program must make no others."""
        assert self.imposed is not None
        found = self.imposed.next(samples, dtype, size)
        if found is None:
            raise self.stop(f"the program decides more at {line_of(user_line())} than it did when its {_OTHER_PATH}")
        return found

    def note(self, cohort: Cohort, values: NDArray[Any]) -> None:
        """Write down what samples read; a call in which they do must run in the order of the program."""
        self.drawn += 1
        if self.recorder is not None:
            self.recorder.read(cohort.samples(), values)

    def keeps_paths(self) -> bool:
        """Tell whether decisions are written down, or are taken as they were."""
        return self.imposed is not None or (self.recorder is not None and self.recorder.keep)

    def mark(self) -> list[Any]:
        """Return where random numbers and paths stand, for `rewind`."""
        return [None if part is None else part.mark() for part in (self.draws, self.recorder, self.imposed)]

    def rewind(self, marks: list[Any]) -> None:
        """Take back the random numbers and decisions since `mark`: what was computed is computed again."""
        if marks[0] is None:
            self.draws = None if self.draws is None else self.draws.again()
        for part, mark in zip((self.draws, self.recorder, self.imposed), marks):
            if mark is not None:
                part.rewind(mark)

    def check_finished(self) -> None:
        """Refuse a program that made fewer decisions than were recorded."""
        left = np.zeros(0) if self.imposed is None else self.imposed.unfinished()
        if len(left):
            raise self.stop(
                f"the program decides less for samples {_some(np.asarray(left))} than it did when its {_OTHER_PATH}"
            )

    def start_again(self, marks: list[Any]) -> None:
        """Forget what happened, so that the program can run again."""
        self.cohorts = self.operations = self.row_operations = self.replayed = self.reads = 0
        self.kernels = self.calls = self.drawn = 0
        self.splits, self.error = {}, None
        self.rewind(marks)

    def count(self, operations: int, rows: int) -> None:
        """Count operations on so many rows each."""
        self.operations += operations
        self.row_operations += operations * rows

    def count_cohort(self) -> None:
        """Count a cohort, and stop a program that splits without end."""
        self.cohorts += 1
        if self.cohorts > self.max_cohorts:
            worst = max(self.splits, key=lambda line: len(self.splits[line]), default=None)
            raise self.stop(
                f"the program split into more than max_cohorts={self.max_cohorts} cohorts, most often at "
                f"{line_of(worst)}; put the branch into a function decorated with @dynarl.per_sample, use where(), "
                "or raise max_cohorts"
            )


class TooManyPaths(BaseException):
    """Ends a call whose samples part so much that their paths had better run side by side."""


class Context:
    """One execution of a scope's program for one cohort: its log, and how far it has been replayed."""

    __slots__ = ("cohort", "counted", "log", "position", "run", "stack", "steps")
    merger: Any = None

    def __init__(self, run: Run, cohort: Cohort, log: list[Any], stack: list[Any]) -> None:
        self.run, self.cohort, self.log, self.stack = run, cohort, log, stack
        self.position = 0
        self.steps = self.counted = 0

    def replaying(self) -> bool:
        """Tell whether what is asked for now was computed before the cohort split."""
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
        """Log a result for the parts of this cohort that may split off later."""
        if self.cohort.size > 1:
            self.log.append((key, value))
            self.position += 1

    def result(self, op: Any, tensor: Any) -> Any:
        """Return the lane of an operation's result, and log it as `remember` does."""
        self.steps += 1
        if self.steps > self.run.max_steps:
            self.stop_endless()
        cohort = self.cohort
        lane = _new(_LANE)
        lane.tensor, lane.cohort, lane._at = tensor, cohort, None
        if cohort.size > 1:
            self.log.append((op, lane))
            self.position += 1
        return lane

    def count(self) -> None:
        """Add the operations since the last time to the run's."""
        self.run.count(self.steps - self.counted, self.cohort.size)
        self.counted = self.steps

    def narrow(self, groups: list[tuple[Any, Cohort]], key: Any) -> Any:
        """Go on with the first group, queue the others to replay from the start; return the first's value."""
        self.count()
        before = list(self.log)
        self.run.splits.setdefault(user_line(), []).append(tuple(cohort.size for _, cohort in groups))
        for value, cohort in groups[1:]:
            self.run.count_cohort()
            self.stack.append((cohort, [*before, (key, value)]))
        value, self.cohort = groups[0]
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
            f"{_some(self.cohort.samples())} and stands at {line_of(user_line())}: a loop that does not end? "
            "Raise max_steps if it does"
        )


def _named(key: Any) -> str:
    return str(getattr(key, "__name__", key))


def _some(samples: NDArray[Any]) -> str:
    shown = ", ".join(map(str, samples[:8].tolist()))
    return f"{shown}, ..." if len(samples) > 8 else shown


class Elementwise:
    """The rule of an operation of two operands that broadcast.

    `general` is for ranks or dtypes that differ, `by_rank` an operation for the rows of two lanes whose ranks do.
    """

    __slots__ = ("by_rank", "general")

    def __init__(self, general: Callable[..., Any], by_rank: Callable[..., Any] | None = None) -> None:
        self.general, self.by_rank = general, by_rank


class Leading:
    """The rule of an operation [..., in] with parameters that all samples share; `check` refuses anything else."""

    __slots__ = ("check",)

    def __init__(self, check: Callable[[Any, list[bool]], None]) -> None:
        self.check = check


_new: Callable[[Any], Any] = object.__new__
_MISSING = object()


class _State(threading.local):
    """The context of the program that runs in this thread, if one does; the rules are every thread's."""

    context: Context | None = None
    rules: dict[Any, Any] = {}
    default: Callable[[Any], Callable[..., Any]]
    lane: Any = None

    def apply(self, op: Any, args: tuple[Any, ...], static: dict[str, Any]) -> Any:
        """Apply an operation to lanes: to all rows of the current cohort at once."""
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
        if context.merger is not None:
            return context.merger.record(context, op, args, static)
        cohort = context.cohort
        rule = _RULES.get(op, _MISSING)
        if rule is None:
            (x,) = args
            out = op(x.tensor if x.cohort is cohort else x.at(cohort), **static)
        elif rule.__class__ is Elementwise:
            x, y = args
            out = _two(op, x, y, rule, context, static)
        else:
            out = _ruled(op, args, rule, context, static)
        return context.result(op, out)


def _ruled(op: Any, args: tuple[Any, ...], rule: Any, context: Context, static: dict[str, Any]) -> Any:
    """Apply an operation by its rule: to the rows of the current cohort, and what all samples share."""
    if rule is _MISSING:
        rule = _RULES[op] = state.default(op)
    cohort = context.cohort
    lanes, operands = [], []
    for a in args:
        if a.__class__ is _LANE:
            lanes.append(True)
            operands.append(a.tensor if a.cohort is cohort else a.at(cohort))
        else:
            lanes.append(False)
            operands.append(_operand(op, a, False, context))
    if rule.__class__ is Leading:
        rule.check(operands[0], lanes)
        return op(*operands, **static)
    return rule(operands, lanes, cohort.size, static)


def _operand(op: Any, a: Any, lane: bool, context: Context) -> Any:
    """Return the rows of the current cohort, or what all samples share."""
    if lane:
        return a.tensor if a.cohort is context.cohort else a.at(context.cohort)
    if is_batch(a, context.run):
        raise context.run.stop(whole_batch(op))
    return a


def is_batch(a: Any, run: Run) -> bool:
    """Tell whether what is used beside a sample is an argument's batch, or a view that has all its samples in order."""
    if id(a) in run.inputs:
        return True
    array = getattr(a, "array", a)
    if getattr(array, "base", None) is None or not array.ndim or len(array) != run.root.size:
        return False
    owner = _owner(array)
    for batch in run.batches:
        if _owner(batch) is owner and batch.strides[0] == array.strides[0]:
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


def _two(op: Any, x: Any, y: Any, rule: Elementwise, context: Context, static: dict[str, Any]) -> Any:
    """Apply an elementwise operation; numbers and equal ranks and dtypes need no alignment."""
    cohort = context.cohort
    if x.__class__ is _LANE:
        p = x.tensor if x.cohort is cohort else x.at(cohort)
        if y.__class__ is _LANE:
            q = y.tensor if y.cohort is cohort else y.at(cohort)
            if p.array.ndim == q.array.ndim and p.array.dtype is q.array.dtype:
                return op(p, q, **static)
            return rule.general((p, q), (True, True), cohort.size, static)
        if y.__class__ in _PLAIN:
            return op(p, y, **static)
        return rule.general((p, _operand(op, y, False, context)), (True, False), cohort.size, static)
    q = y.tensor if y.cohort is cohort else y.at(cohort)
    if x.__class__ in _PLAIN:
        return op(x, q, **static)
    return rule.general((_operand(op, x, False, context), q), (False, True), cohort.size, static)


_PLAIN = frozenset((float, int, bool))
_LANE: Any = None
_RULES = _State.rules


def bind(lane: Any, default: Callable[[Any], Callable[..., Any]]) -> None:
    """Learn the class of per-sample tensors, and what makes the rule of an operation that has none."""
    global _LANE
    _LANE = _State.lane = lane
    _State.default = staticmethod(default)


state = _State()


def concretize(x: Any) -> Any:
    """Return the Python number of a per-sample scalar, splitting the cohort where samples differ."""
    context = state.context
    if context is None:
        raise PerSampleError("a per-sample tensor was read after its call had ended; return it from the program")
    if context.position < len(context.log):
        return context.recall(VALUE)
    if context.merger is not None:
        return context.merger.read(context, x)
    context.step()
    cohort, run = context.cohort, context.run
    if x.shape != () and x.numel() != 1:
        raise RuntimeError(f"item: expected one number per sample, got shape {x.shape}; use any() or all()")
    if run.imposed is not None:
        values = run.decide(cohort.samples(), x.dtype)
    else:
        values = to_host(x.at(cohort).array).reshape(-1)
        run.reads += 1
    if run.imposed is not None or run.recorder is not None:
        run.note(cohort, values)
    groups = split(values) if cohort.size > 1 else None
    if groups is None:
        value = values[0].item()
        context.remember(VALUE, value)
        return value
    return context.narrow([(value, cohort.part(rows)) for value, rows in groups], VALUE)


class Raised:
    """In place of a result: what a scope raised for some of its samples, to be raised again in its caller."""

    def __init__(self, error: Exception) -> None:
        self.error, self.traceback = error, error.__traceback__

    def again(self) -> Exception:
        """Return the error with the traceback it had where it was raised."""
        return self.error.with_traceback(self.traceback)


def run_scope(
    program: Callable[..., Any], args: Any, kwargs: Any, cohort: Cohort, run: Run, *, keep_errors: bool = False
) -> list[tuple[Cohort, Any]]:
    """Run a program for a cohort and return (cohort, result) for each path that was taken.

    With `keep_errors` the result of a path that raised is `Raised`, for the caller may catch it for those samples.
    """
    outer = state.context
    stack: list[tuple[Cohort, list[Any]]] = [(cohort, [])]
    results: list[tuple[Cohort, Any]] = []
    try:
        while stack:
            part, log = stack.pop()
            if run.max_paths is not None and len(results) + len(stack) >= run.max_paths:
                run.too_many = True
                raise TooManyPaths
            context = state.context = Context(run, part, log, stack)
            try:
                result = program(*args, **kwargs)
            except Exception as error:
                if not getattr(error, "__notes__", None):
                    samples = _some(context.cohort.samples())
                    error.add_note(f"in a per-sample program, for samples {samples} of the batch")
                if not keep_errors or isinstance(error, PerSampleError):
                    raise
                result = Raised(error)
            context.count()
            if context.position < len(context.log):
                context.recall(None)
            results.append((context.cohort, result))
    finally:
        state.context = outer
    return results
