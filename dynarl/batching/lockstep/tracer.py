"""Noting calls down: what a path of a merged call asks for is described, so that alike calls can be run together."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.grad_mode import mode
from dynarl.batching.eager.execution import OPEN, Execution, is_batch, run_scope, state
from dynarl.batching.eager.scope import fresh, function_of
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.groups.run import BatchedRun
from dynarl.batching.lockstep.executor import MOST, Executor, Unwind, with_lanes
from dynarl.batching.lockstep.lazy import LazyCall, LazyOutput, Signature, done, gather, sample_tensor_of, slot_of
from dynarl.batching.values.pytree import flatten, join, unflatten
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.nn import Module

__all__ = ["LockstepPath", "Tracer", "depth_of", "enter"]

_NUMBERS = frozenset((float, int, bool))
_MOST_SIGNATURES = 20_000
_CHANGEABLE = (list, dict, set)
_numbers = itertools.count()


class LockstepPath(Execution):
    """One execution of the program for a group on a path of its own."""

    __slots__ = ("args", "kwargs", "line", "scheduler", "unwinding", "waiting")

    def __init__(self, scheduler: Tracer, args: Any, kwargs: Any, group: SampleGroup, log: list[Any]) -> None:
        super().__init__(scheduler.run, group, log, [])
        self.scheduler, self.args, self.kwargs = scheduler, args, kwargs
        self.waiting: Any = None
        self.unwinding = False
        self.line: Any = None

    def remember(self, key: Any, value: Any) -> None:
        """Log a result for when the program is run again."""
        self.log.append((key, value))
        self.position += 1


class Tracer:
    """The calls that the paths of one batched call have noted; `signatures`, their kinds, outlive it."""

    def __init__(self, run: BatchedRun, signatures: dict[Any, Signature]) -> None:
        self.run, self.signatures = run, signatures
        self.pending = Executor(run)
        self.queue: deque[LockstepPath] = deque()
        self.numbers: dict[Any, int] = {}
        self.shared: dict[int, tuple[Any, LazyCall]] = {}
        self.usual: dict[Any, Signature] = {}

    def step(self, path: LockstepPath) -> None:
        if path.unwinding or self.pending.again is not None:  # the program caught what it must not
            raise Unwind
        path.steps += 1
        if path.steps > self.run.max_steps:
            path.stop_endless()

    def number(self, signature: Signature, fixed: list[Any]) -> int:
        """Return the number of calls of a signature that share the same other operands."""
        return self.numbers.setdefault((signature.number, tuple(fixed)), -1 - len(self.numbers))

    def new_signature(self, description: Any, op: Any, recording: int) -> Signature:
        if len(self.signatures) > _MOST_SIGNATURES:
            self.signatures.clear()
        signature = self.signatures[description] = Signature(op, recording)
        signature.number = next(_numbers)
        return signature

    def ready(self, lane: Any, group: SampleGroup) -> Any:
        """Return a lane's rows, after the other paths have got as far as they can."""
        slot = slot_of(lane)
        if slot.call.results is None:
            path: Any = state.context
            if path is not None and path.scheduler is self and self.queue:
                path.unwinding = True
                raise Unwind
            self.pending.flush()
        return gather([lane], [group], group.size)

    def call_scope(self, path: LockstepPath, key: Any, function: Any, args: Any, kwargs: Any) -> Any:
        """Note a call of a Module or `per_sample` function; what cannot be put off is run as part of its caller."""
        if path.position < len(path.log):
            return self.inline(path, key, function or function_of(key), args, kwargs)
        self.step(path)
        signature = self.usual.get(key)
        if signature is not None and function is None and not kwargs:
            depth = depth_of(args, signature, path.group)
            if depth is not None:
                call = LazyCall(signature, signature.specs[0], path.group, (args, kwargs), key, args, depth + 1)
                call.number = signature.number
                return self._put_off(path, key, call)
        description: list[Any] = [key, mode.recording]
        lanes: list[Any] = []
        fixed: list[Any] = []
        depth = None if kwargs or function is not None else _simple(args, path.group, description, lanes)
        simple = depth is not None
        if depth is None:
            depth = self._describe(path.group, function, args, kwargs, description, lanes, fixed)
        if lanes:
            kind = tuple(description)
            signature = self.signatures.get(kind)
            if signature is None:
                return self._try(path, kind, key, function or function_of(key), args, kwargs)
            if not signature.eager and not mode.anomaly:
                call = LazyCall(
                    signature, signature.specs[0], path.group, (args, kwargs), function or key, lanes, depth + 1
                )
                call.number = self.number(signature, fixed) if fixed else signature.number
                if simple:
                    signature.operands = tuple(description[2:])
                    self.usual[key] = signature
                return self._put_off(path, key, call)
        return self.inline(path, key, function or function_of(key), args, kwargs)

    def _put_off(self, path: LockstepPath, key: Any, call: LazyCall) -> Any:
        calls, signature, group = self.pending.calls, call.signature, path.group
        calls.append(call)
        if len(calls) > MOST:
            self.pending.flush()
        result = _new(SampleTensor)
        result.tensor, result.group, result._at = call, group, None
        if signature.structure != "leaf":
            parts = [
                sample_tensor_of(LazyOutput(call, i, signature.specs[i]), group) for i in range(1, len(signature.specs))
            ]
            result = unflatten(signature.structure, iter([result, *parts]))
        path.log.append((key, result))
        path.position += 1
        return result if result.__class__ is SampleTensor else fresh(result)

    def inline(self, path: LockstepPath, key: Any, function: Any, args: Any, kwargs: Any) -> Any:
        """Run a scope as part of its caller; once it has returned, one entry of the log stands for it."""
        start = path.position
        if start < len(path.log):
            logged, value = path.log[start]
            if logged is not key or value is not OPEN:
                return fresh(path.recall(key))
            path.position += 1
        else:
            path.remember(key, OPEN)
        result = function(*args, **kwargs)
        if path.unwinding or self.pending.again is not None:
            raise Unwind
        if path.position == len(path.log) and not any([a.__class__ in _CHANGEABLE for a in args]):
            del path.log[start:]
            path.position = start
            path.remember(key, result)
            return fresh(result)
        return result

    def _describe(
        self, group: SampleGroup, function: Any, args: Any, kwargs: Any, description: Any, lanes: Any, fixed: Any
    ) -> int:
        """Fill in what decides a call, and return the depth of its operands; no lanes where it cannot be put off."""
        del description[2:], lanes[:]
        given: list[Any] = []
        possible = function is None or _closed(function, description)
        for a in args:
            possible = possible and self._take_apart(a, description, given, fixed)
        for name, a in kwargs.items():
            description.append(name)
            possible = possible and self._take_apart(a, description, given, fixed)
        depth = max([enter(lane, group, description, lanes) for lane in given], default=-1)
        if not possible:
            lanes.clear()
        return depth

    def _take_apart(self, a: Any, description: list[Any], lanes: list[Any], fixed: list[Any]) -> bool:
        kind = a.__class__
        if kind is SampleTensor:
            description.append(SampleTensor)
            lanes.append(a)
        elif kind is tuple:
            description.append(len(a))
            return all([self._take_apart(part, description, lanes, fixed) for part in a])
        elif kind in _NUMBERS or kind is str or a is None:
            description.append((kind, a))
        elif isinstance(a, Tensor):
            if is_batch(a, self.run):
                return False
            description.append((a.shape, a.dtype, a._node is not None))
            fixed.append(id(a))
        elif isinstance(a, Module):
            description.append(a)
        else:
            return False
        return True

    def _try(self, path: LockstepPath, description: Any, key: Any, function: Any, args: Any, kwargs: Any) -> Any:
        """Run the first call of a kind at once, and learn what calls of this kind return."""
        signature = self.new_signature(description, function, mode.recording)
        signature.eager = True
        run, group = self.run, path.group
        drawn, marks, counted = run.drawn, run.mark(), (run.groups, run.operations, run.row_operations)
        splits = {line: list(sizes) for line, sizes in run.splits.items()}
        try:
            self.pending.flush()
            plain = with_lanes(args, lambda lane: SampleTensor(gather([lane], [group], group.size), group))
            named = {
                name: with_lanes(a, lambda lane: SampleTensor(gather([lane], [group], group.size), group))
                for name, a in kwargs.items()
            }
            ((tree, _),) = join(run_scope(function, plain, named, group, run), group, numbers=False)
            leaves, structure = flatten(tree)
            known = [leaf.__class__ is SampleTensor for leaf in leaves]
        except Exception:
            leaves, known = [], [False]
        if not all(known) or not known or run.drawn != drawn:
            run.rewind(marks)
            run.error, run.drawn, run.splits = None, drawn, splits
            run.groups, run.operations, run.row_operations = counted
            return self.inline(path, key, function, args, kwargs)
        signature.eager, signature.structure = False, structure
        slots = [done(leaf.at(group), group) for leaf in leaves]
        signature.specs = tuple([slot.array for slot in slots])
        result = unflatten(structure, iter([sample_tensor_of(slot, group) for slot in slots]))
        path.remember(key, result)
        return fresh(result)


def enter(lane: Any, group: SampleGroup, description: list[Any], lanes: list[Any]) -> int:
    """Take a lane as an operand of a group's call; return the depth of the call that gives it, -1 if that was run."""
    slot: Any = lane.tensor
    if slot.__class__ is not LazyCall:
        slot = slot_of(lane)
    call = slot if slot.__class__ is LazyCall else slot.call
    description.append(slot.array)
    lanes.append(lane)
    if lane.group is not group and not call.constant:
        group.rows_in(lane.group)
    if call.results is not None:
        return -1
    call.used = True
    depth: int = call.depth
    return depth


def depth_of(args: tuple[Any, ...], signature: Signature, group: SampleGroup) -> int | None:
    """Return the depth of the operands of a call that has the usual form of a signature, else None."""
    operands = signature.operands
    if len(args) != len(operands) or signature.eager or signature.recording != mode.recording or mode.anomaly:
        return None
    depth = -1
    for a, operand in zip(args, operands):
        if a.__class__ is SampleTensor:
            call: Any = a.tensor
            if a.group is not group or call.__class__ is not LazyCall or call.array is not operand:
                return None
            if call.results is None:
                call.used = True
                if call.depth > depth:
                    depth = call.depth
        elif a.__class__ is not operand:
            return None
    return depth


_new: Any = object.__new__


def _simple(args: tuple[Any, ...], group: SampleGroup, description: list[Any], lanes: list[Any]) -> int | None:
    """Take the operands of a call that has but first results of this group's calls, the common case."""
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
        description.append(call.array)
        lanes.append(a)
    return depth


def _closed(function: Any, description: list[Any]) -> bool:
    """Add what a function closes over to a description; False where that may be another sample's."""
    values = [
        *(getattr(function, "__defaults__", None) or ()),
        *(getattr(function, "__kwdefaults__", None) or {}).values(),
    ]
    for cell in getattr(function, "__closure__", None) or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            return False
    for value in values:
        kind = value.__class__
        if kind is SampleTensor or kind in _CHANGEABLE or kind is tuple:
            return False
        description.append((kind, value) if kind in _NUMBERS else id(value))
    return True
