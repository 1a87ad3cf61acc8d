"""Noting calls down: what a path of a merged call asks for is described, so that alike calls can be run together."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.grad_mode import mode
from dynarl.batching.cohort import Cohort
from dynarl.batching.deferred import Call, Part, Unit, done, gather, lane_of, slot_of
from dynarl.batching.lane import Lane
from dynarl.batching.run import OPEN, Context, Run, is_batch, run_scope, state
from dynarl.batching.scope import fresh, function_of
from dynarl.batching.together import MOST, Pending, Unwind, with_lanes
from dynarl.batching.trees import flatten, join, unflatten
from dynarl.nn import Module

__all__ = ["Path", "Recorder", "depth_of", "enter"]

_NUMBERS = frozenset((float, int, bool))
_MOST_UNITS = 20_000
_CHANGEABLE = (list, dict, set)
_numbers = itertools.count()


class Path(Context):
    """One execution of the program for a cohort on a path of its own."""

    __slots__ = ("args", "kwargs", "line", "merger", "unwinding", "waiting")

    def __init__(self, merger: Recorder, args: Any, kwargs: Any, cohort: Cohort, log: list[Any]) -> None:
        super().__init__(merger.run, cohort, log, [])
        self.merger, self.args, self.kwargs = merger, args, kwargs
        self.waiting: Any = None
        self.unwinding = False
        self.line: Any = None

    def remember(self, key: Any, value: Any) -> None:
        """Log a result for when the program is run again."""
        self.log.append((key, value))
        self.position += 1


class Recorder:
    """The calls that the paths of one batched call have noted; `units`, their kinds, outlive it."""

    def __init__(self, run: Run, units: dict[Any, Unit]) -> None:
        self.run, self.units = run, units
        self.pending = Pending(run)
        self.queue: deque[Path] = deque()
        self.numbers: dict[Any, int] = {}
        self.shared: dict[int, tuple[Any, Call]] = {}
        self.usual: dict[Any, Unit] = {}

    def step(self, path: Path) -> None:
        if path.unwinding or self.pending.again is not None:  # the program caught what it must not
            raise Unwind
        path.steps += 1
        if path.steps > self.run.max_steps:
            path.stop_endless()

    def number(self, unit: Unit, fixed: list[Any]) -> int:
        """Return the number of calls of a unit that share the same other operands."""
        return self.numbers.setdefault((unit.number, tuple(fixed)), -1 - len(self.numbers))

    def new_unit(self, signature: Any, op: Any, recording: int) -> Unit:
        if len(self.units) > _MOST_UNITS:
            self.units.clear()
        unit = self.units[signature] = Unit(op, recording)
        unit.number = next(_numbers)
        return unit

    def ready(self, lane: Any, cohort: Cohort) -> Any:
        """Return a lane's rows, after the other paths have got as far as they can."""
        slot = slot_of(lane)
        if slot.call.results is None:
            path: Any = state.context
            if path is not None and path.merger is self and self.queue:
                path.unwinding = True
                raise Unwind
            self.pending.flush()
        return gather([lane], [cohort], cohort.size)

    def call_scope(self, path: Path, key: Any, function: Any, args: Any, kwargs: Any) -> Any:
        """Note a call of a Module or `per_sample` function; what cannot be put off is run as part of its caller."""
        if path.position < len(path.log):
            return self.inline(path, key, function or function_of(key), args, kwargs)
        self.step(path)
        unit = self.usual.get(key)
        if unit is not None and function is None and not kwargs:
            depth = depth_of(args, unit, path.cohort)
            if depth is not None:
                call = Call(unit, unit.specs[0], path.cohort, (args, kwargs), key, args, depth + 1)
                call.number = unit.number
                return self._put_off(path, key, call)
        signature: list[Any] = [key, mode.recording]
        lanes: list[Any] = []
        fixed: list[Any] = []
        depth = None if kwargs or function is not None else _simple(args, path.cohort, signature, lanes)
        simple = depth is not None
        if depth is None:
            depth = self._describe(path.cohort, function, args, kwargs, signature, lanes, fixed)
        if lanes:
            kind = tuple(signature)
            unit = self.units.get(kind)
            if unit is None:
                return self._try(path, kind, key, function or function_of(key), args, kwargs)
            if not unit.eager and not mode.anomaly:
                call = Call(unit, unit.specs[0], path.cohort, (args, kwargs), function or key, lanes, depth + 1)
                call.number = self.number(unit, fixed) if fixed else unit.number
                if simple:
                    unit.operands = tuple(signature[2:])
                    self.usual[key] = unit
                return self._put_off(path, key, call)
        return self.inline(path, key, function or function_of(key), args, kwargs)

    def _put_off(self, path: Path, key: Any, call: Call) -> Any:
        calls, unit, cohort = self.pending.calls, call.unit, path.cohort
        calls.append(call)
        if len(calls) > MOST:
            self.pending.flush()
        result = _new(Lane)
        result.tensor, result.cohort, result._at = call, cohort, None
        if unit.structure != "leaf":
            parts = [lane_of(Part(call, i, unit.specs[i]), cohort) for i in range(1, len(unit.specs))]
            result = unflatten(unit.structure, iter([result, *parts]))
        path.log.append((key, result))
        path.position += 1
        return result if result.__class__ is Lane else fresh(result)

    def inline(self, path: Path, key: Any, function: Any, args: Any, kwargs: Any) -> Any:
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
        self, cohort: Cohort, function: Any, args: Any, kwargs: Any, signature: Any, lanes: Any, fixed: Any
    ) -> int:
        """Fill in what decides a call, and return the depth of its operands; no lanes where it cannot be put off."""
        del signature[2:], lanes[:]
        given: list[Any] = []
        possible = function is None or _closed(function, signature)
        for a in args:
            possible = possible and self._take_apart(a, signature, given, fixed)
        for name, a in kwargs.items():
            signature.append(name)
            possible = possible and self._take_apart(a, signature, given, fixed)
        depth = max([enter(lane, cohort, signature, lanes) for lane in given], default=-1)
        if not possible:
            lanes.clear()
        return depth

    def _take_apart(self, a: Any, signature: list[Any], lanes: list[Any], fixed: list[Any]) -> bool:
        kind = a.__class__
        if kind is Lane:
            signature.append(Lane)
            lanes.append(a)
        elif kind is tuple:
            signature.append(len(a))
            return all([self._take_apart(part, signature, lanes, fixed) for part in a])
        elif kind in _NUMBERS or kind is str or a is None:
            signature.append((kind, a))
        elif isinstance(a, Tensor):
            if is_batch(a, self.run):
                return False
            signature.append((a.shape, a.dtype, a._node is not None))
            fixed.append(id(a))
        elif isinstance(a, Module):
            signature.append(a)
        else:
            return False
        return True

    def _try(self, path: Path, signature: Any, key: Any, function: Any, args: Any, kwargs: Any) -> Any:
        """Run the first call of a kind at once, and learn what calls of this kind return."""
        unit = self.new_unit(signature, function, mode.recording)
        unit.eager = True
        run, cohort = self.run, path.cohort
        drawn, marks, counted = run.drawn, run.mark(), (run.cohorts, run.operations, run.row_operations)
        splits = {line: list(sizes) for line, sizes in run.splits.items()}
        try:
            self.pending.flush()
            plain = with_lanes(args, lambda lane: Lane(gather([lane], [cohort], cohort.size), cohort))
            named = {
                name: with_lanes(a, lambda lane: Lane(gather([lane], [cohort], cohort.size), cohort))
                for name, a in kwargs.items()
            }
            ((tree, _),) = join(run_scope(function, plain, named, cohort, run), cohort, numbers=False)
            leaves, structure = flatten(tree)
            known = [leaf.__class__ is Lane for leaf in leaves]
        except Exception:
            leaves, known = [], [False]
        if not all(known) or not known or run.drawn != drawn:
            run.rewind(marks)
            run.error, run.drawn, run.splits = None, drawn, splits
            run.cohorts, run.operations, run.row_operations = counted
            return self.inline(path, key, function, args, kwargs)
        unit.eager, unit.structure = False, structure
        slots = [done(leaf.at(cohort), cohort) for leaf in leaves]
        unit.specs = tuple([slot.array for slot in slots])
        result = unflatten(structure, iter([lane_of(slot, cohort) for slot in slots]))
        path.remember(key, result)
        return fresh(result)


def enter(lane: Any, cohort: Cohort, signature: list[Any], lanes: list[Any]) -> int:
    """Take a lane as an operand of a cohort's call; return the depth of the call that gives it, -1 if that was run."""
    slot: Any = lane.tensor
    if slot.__class__ is not Call:
        slot = slot_of(lane)
    call = slot if slot.__class__ is Call else slot.call
    signature.append(slot.array)
    lanes.append(lane)
    if lane.cohort is not cohort and not call.constant:
        cohort.rows_in(lane.cohort)
    if call.results is not None:
        return -1
    call.used = True
    depth: int = call.depth
    return depth


def depth_of(args: tuple[Any, ...], unit: Unit, cohort: Cohort) -> int | None:
    """Return the depth of the operands of a call that is one of a unit's as they usually are, None if it is not."""
    operands = unit.operands
    if len(args) != len(operands) or unit.eager or unit.recording != mode.recording or mode.anomaly:
        return None
    depth = -1
    for a, operand in zip(args, operands):
        if a.__class__ is Lane:
            call: Any = a.tensor
            if a.cohort is not cohort or call.__class__ is not Call or call.array is not operand:
                return None
            if call.results is None:
                call.used = True
                if call.depth > depth:
                    depth = call.depth
        elif a.__class__ is not operand:
            return None
    return depth


_new: Any = object.__new__


def _simple(args: tuple[Any, ...], cohort: Cohort, signature: list[Any], lanes: list[Any]) -> int | None:
    """Take the operands of a call that has but first results of this cohort's calls, the common case."""
    depth = -1
    for a in args:
        if a.__class__ is not Lane or a.cohort is not cohort:
            return None
        call: Any = a.tensor
        if call.__class__ is not Call:
            return None
        if call.results is None:
            call.used = True
            if call.depth > depth:
                depth = call.depth
        signature.append(call.array)
        lanes.append(a)
    return depth


def _closed(function: Any, signature: list[Any]) -> bool:
    """Add what a function closes over to a signature; False where that may be another sample's."""
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
        if kind is Lane or kind in _CHANGEABLE or kind is tuple:
            return False
        signature.append((kind, value) if kind in _NUMBERS else id(value))
    return True
