"""Tracing calls of Modules and `per_sample` functions: as a whole, if their results can be known in advance.

What a call returns is learned from the first call of its signature, which runs at once. Calls that cannot be lazy run
inline, as part of their caller.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.grad_mode import mode
from dynarl.autograd.versions import last_modification
from dynarl.batching.eager.eager_execution import run_scope
from dynarl.batching.groups.execution import Operands, Operation, Static
from dynarl.batching.groups.group import SampleGroup, number_key
from dynarl.batching.lockstep.executor import MOST_WAITING, replace_sample_tensors
from dynarl.batching.lockstep.gather import gather
from dynarl.batching.lockstep.lazy import LazyCall, LazyOutput, as_now, computed, sample_tensor, slot_of
from dynarl.batching.lockstep.tracer import TracedExecution, Tracer, depth_of, enter
from dynarl.batching.scopes.modules import function_of
from dynarl.batching.values.effects import packed, unpacked
from dynarl.batching.values.heap import heap_of, reached_by
from dynarl.batching.values.join import join
from dynarl.batching.values.kinds import FIXED, Inseparable
from dynarl.batching.values.pytree import copied, flatten, unflatten
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.values.shared_memory import argument
from dynarl.nn import Module

__all__ = ["OPEN", "end_inline", "inline", "trace_call"]

OPEN = object()
"""In a log: a scope that has begun and whose end is not logged yet."""

_NUMBERS = frozenset((float, int, bool))
_new: Callable[[type[SampleTensor]], SampleTensor] = object.__new__


def trace_call(execution: TracedExecution, key: Any, function: Operation | None, args: Operands, kwargs: Static) -> Any:
    """Record a call of a Module (`key`, function None) or of a function, or run it inline."""
    tracer = execution.tracer
    if execution.position < len(execution.log):
        return inline(execution, key, function or function_of(key), args, kwargs)
    tracer.step(execution)
    group = execution.group
    if tracer.tracks_views:
        return _trace_tracked(execution, key, function, args, kwargs)
    usual = tracer.usual.get(key)
    if usual is not None and function is None and not kwargs:
        usual_depth = depth_of(args, usual, group)
        if usual_depth is not None:
            call = LazyCall(usual, usual.specs[0], group, (args, kwargs), key, list(args), usual_depth + 1)
            call.number = usual.number
            return _add(execution, key, call)
    parts: list[Any] = [key, mode.recording]  # of the signature's key
    operands: list[Any] = []
    fixed: list[Any] = []
    depth = None if kwargs or function is not None else _describe_simple(args, group, parts, operands)
    simple = depth is not None
    if depth is None:
        depth = _describe(tracer, group, function, args, kwargs, parts, operands, fixed)
    if operands:
        full_key = tuple(parts)
        signature = tracer.signatures.get(full_key)
        if signature is None:
            return _learn(execution, full_key, key, function or function_of(key), args, kwargs)
        if not signature.eager and not mode.anomaly:
            call = LazyCall(signature, signature.specs[0], group, (args, kwargs), function or key, operands, depth + 1)
            call.number = tracer.number(signature, fixed) if fixed else signature.number
            if simple:
                signature.operands = tuple(parts[2:])
                tracer.usual[key] = signature
            return _add(execution, key, call)
    return inline(execution, key, function or function_of(key), args, kwargs)


def _trace_tracked(
    execution: TracedExecution, key: Any, function: Operation | None, args: Operands, kwargs: Static
) -> Any:
    """Record a call in a program that changes tensors in place, with its arguments as they are now."""
    tracer, group = execution.tracer, execution.group
    now = replace_sample_tensors(args, as_now)
    named = {name: replace_sample_tensors(a, as_now) for name, a in kwargs.items()}
    parts: list[Any] = [key, mode.recording]
    operands: list[Any] = []
    fixed: list[Any] = []
    depth = _describe(tracer, group, function, now, named, parts, operands, fixed)
    if operands:
        signature = tracer.signatures.get(tuple(parts))
        if signature is None:
            return _learn(execution, tuple(parts), key, function or function_of(key), args, kwargs)
        if not signature.eager and not mode.anomaly:
            call = LazyCall(signature, signature.specs[0], group, (now, named), function or key, operands, depth + 1)
            call.number = tracer.number(signature, fixed) if fixed else signature.number
            return _add(execution, key, call)
    return inline(execution, key, function or function_of(key), args, kwargs)


def _add(execution: TracedExecution, key: object, call: LazyCall) -> Any:
    """Record a call, log its results as SampleTensors in their structure, and return them."""
    # `executor.add` and `sample_tensor` written out: this runs for every call of a Module on every path.
    executor, group, signature = execution.tracer.executor, call.group, call.signature
    if not executor.calls:
        executor.clock = last_modification()
    executor.calls.append(call)
    if len(executor.calls) > MOST_WAITING:
        executor.flush()
    first = _new(SampleTensor)
    first.tensor, first.group, first._parts = call, group, None
    if signature.structure == "leaf":
        execution.log.append((key, first))
        execution.position += 1
        return first
    others = [sample_tensor(LazyOutput(call, i, signature.specs[i]), group) for i in range(1, len(signature.specs))]
    result = unflatten(signature.structure, iter([first, *others]))
    execution.log.append((key, result))
    execution.position += 1
    return copied(result)


def inline(execution: TracedExecution, key: object, function: Operation, args: Operands, kwargs: Static) -> Any:
    """Run a scope as part of its caller; when it has returned, one entry of the log stands for all of it."""
    start, log = execution.position, execution.log
    if start < len(log):
        logged, value = log[start]
        if logged is not key or value is not OPEN:
            return unpacked(execution.recall(key))
        execution.position += 1
    else:
        execution.tracer.check_unwinding()
        execution.remember(key, OPEN)
    # Where a call may change objects, its entries stay, so that replay changes them again.
    undone = len(execution.run.undo)
    changes = _may_change((*args, *kwargs.values(), *reached_by(function)))
    result = function(*args, **kwargs)
    changes = changes or len(execution.run.undo) > undone
    end_inline(execution, start, key, None if changes else lambda: packed(result))
    return result


def end_inline(execution: TracedExecution, start: int, key: object, describe: Callable[[], Any] | None) -> None:
    """End a scope that ran inline: log what `describe` returns in place of its entries, which began at `start`."""
    execution.tracer.check_unwinding()
    if describe is None or execution.position != len(execution.log):
        return
    try:
        described = describe()
    except Inseparable:
        return
    del execution.log[start:]
    execution.position = start
    execution.remember(key, described)


def _may_change(values: tuple[Any, ...]) -> bool:
    try:
        return heap_of(values).mutable
    except Inseparable:
        return True


def _describe_simple(args: Operands, group: SampleGroup, parts: list[Any], operands: list[Any]) -> int | None:
    """Describe a call whose arguments are first results of other calls by the same group, the common case."""
    depth = -1
    for a in args:
        if a.__class__ is not SampleTensor or a.group is not group:
            return None
        call: Any = a.tensor
        if call.__class__ is not LazyCall:
            return None
        if call.results is None:
            call.used = True
            if call.depth > depth:
                depth = call.depth
        parts.append(call.array)
        operands.append(a)
    return depth


def _describe(
    tracer: Tracer, group: SampleGroup, function: Operation | None, args: Operands, kwargs: Static, parts: list[Any],
    operands: list[Any], fixed: list[Any],
) -> int:  # fmt: skip
    """Append the key of a call's signature to `parts`; return the depth of its operands.

    `operands` stays empty if the call cannot be lazy.
    """
    del parts[2:], operands[:]
    given: list[SampleTensor] = []
    possible = function is None or _describe_closure(function, parts)
    for a in args:
        possible = possible and _describe_argument(tracer, a, parts, given, fixed)
    for name, a in kwargs.items():
        parts.append(name)
        possible = possible and _describe_argument(tracer, a, parts, given, fixed)
    depth = max([enter(x, group, parts, operands) for x in given], default=-1)
    if not possible:
        operands.clear()
    return depth


def _describe_argument(tracer: Tracer, a: Any, parts: list[Any], given: list[SampleTensor], fixed: list[Any]) -> bool:
    """Append an argument to the key of a signature; return False if its calls cannot be lazy."""
    kind = a.__class__
    if kind is SampleTensor:
        parts.append(SampleTensor)
        given.append(a)
    elif kind is tuple:
        parts.append(len(a))
        return all([_describe_argument(tracer, part, parts, given, fixed) for part in a])
    elif kind in _NUMBERS or kind is str or a is None:
        parts.append((kind, number_key(a)))
    elif isinstance(a, Tensor):
        if tracer.run.is_argument(a):
            return False
        parts.append((a.shape, a.dtype, a._node is not None))
        fixed.append(id(a))
    elif isinstance(a, Module):
        parts.append(a)
    else:
        return False
    return True


def _describe_closure(function: Operation, parts: list[Any]) -> bool:
    """Append what a function closes over to the key; return False if that may belong to a single path."""
    values = [
        *(getattr(function, "__defaults__", None) or ()),
        *(getattr(function, "__kwdefaults__", None) or {}).values(),
    ]
    for cell in getattr(function, "__closure__", None) or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            return False
    if function.__class__ is MethodType:
        values.append(function.__self__)
    for value in values:
        kind = value.__class__
        if kind is SampleTensor or kind is tuple or getattr(value, "__closure__", None):
            return False
        if kind not in FIXED and kind is not FunctionType and not isinstance(value, Module):
            return False
        parts.append((kind, value) if kind in _NUMBERS else id(value))
    return True


def _learn(
    execution: TracedExecution, full_key: Any, key: object, function: Operation, args: Operands,
    kwargs: Static,
) -> Any:  # fmt: skip
    """Run the first call of a signature at once, and learn from it what calls with this signature return.

    If it draws, raises, diverges for good or returns something else than tensors, it is undone and runs inline.
    """
    tracer, run, group = execution.tracer, execution.run, execution.group
    signature = tracer.new_signature(full_key, "scope", function, mode.recording)
    signature.eager = True
    drawn, marks, counted = run.drawn, run.mark(), (run.groups, run.operations, run.row_operations)
    splits = {line: list(sizes) for line, sizes in run.splits.items()}

    def rows(x: SampleTensor) -> SampleTensor:
        x = as_now(x)
        slot_of(x)
        return argument(gather([x], [group], group.size), group)

    leaves: list[Any] = []
    try:
        tracer.executor.flush()
        plain = replace_sample_tensors(args, rows)
        named = {name: replace_sample_tensors(a, rows) for name, a in kwargs.items()}
        ((tree, _),) = join(run_scope(function, plain, named, group, run), group)
        leaves, structure = flatten(tree)
    except Exception:
        leaves = []
    if not leaves or any(leaf.__class__ is not SampleTensor for leaf in leaves) or run.drawn != drawn:
        run.rewind(marks)
        run.error, run.drawn, run.splits = None, drawn, splits
        run.groups, run.operations, run.row_operations = counted
        return inline(execution, key, function, args, kwargs)
    slots = [computed(leaf.at(group), group) for leaf in leaves]
    signature.eager, signature.structure = False, structure
    signature.specs = tuple([slot.array for slot in slots])
    result = unflatten(structure, iter([sample_tensor(slot, group) for slot in slots]))
    execution.remember(key, result)
    return copied(result)
