"""Operations of a merged call: described by what they are applied to, and their results' shapes learned from zeros."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.grad_mode import OFF, mode
from dynarl.autograd.tensor import wrap
from dynarl.batching.cohort import Cohort
from dynarl.batching.deferred import Call, Unit, apply_rule, done, frozen, is_small, lane_of, spec_of
from dynarl.batching.lane import Lane
from dynarl.batching.noting import Path, Recorder, depth_of, enter
from dynarl.batching.rules import BY_ROW
from dynarl.batching.run import _named, is_batch, whole_batch

__all__ = ["draw", "record"]

_NUMBERS = frozenset((float, int, bool))


def record(self: Recorder, path: Path, op: Any, args: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """Note an operation and return the lane that will hold its result."""
    self.step(path)
    key = op if not static else (op, *[(name, frozen(value)) for name, value in static.items()])
    call = _as_usual(self, key, args, static, path.cohort)
    if call is not None:
        return _noted(self, path, op, call)
    return _described(self, path, key, op, args, static)


def _described(self: Recorder, path: Path, key: Any, op: Any, args: tuple[Any, ...], static: dict[str, Any]) -> Any:
    cohort = path.cohort
    signature: list[Any] = [op, mode.recording]
    fixed: list[Any] = []
    numbers: list[Any] = []
    lanes: list[Any] = []
    depth = -1
    by_row = op in BY_ROW
    for i, a in enumerate(args):
        if a.__class__ is not Lane:
            other = _beside(self, op, a, by_row)
            if other is not a:
                a = other
                args = (*args[:i], a, *args[i + 1 :])
            if a.__class__ is not Lane:
                _enter_shared(a, by_row, signature, fixed, numbers)
                continue
        depth = max(depth, enter(a, cohort, signature, lanes))
    if static:
        signature += key[1:]
    kind = tuple(signature)
    unit = self.units.get(kind)
    if unit is None:
        unit = _learn(self, kind, op, args, static)
    if unit.eager or mode.anomaly:
        return _now(self, path, op, args, static)
    if not fixed and (by_row or len(lanes) == len(args)):
        unit.operands, self.usual[key] = kind[2 : 2 + len(args)], unit
    if not unit.columns:
        fixed += numbers
    call = Call(unit, unit.specs[0], cohort, args, static, lanes, depth + 1)
    call.number = self.number(unit, fixed) if fixed else unit.number
    return _noted(self, path, op, call)


def _as_usual(self: Recorder, key: Any, args: Any, static: Any, cohort: Cohort) -> Call | None:
    """Return a call that is like the last one of its operation, None if it is not."""
    unit = self.usual.get(key)
    depth = None if unit is None else depth_of(args, unit, cohort)
    if unit is None or depth is None:
        return None
    call = Call(unit, unit.specs[0], cohort, args, static, [a for a in args if a.__class__ is Lane], depth + 1)
    fixed = [] if unit.columns else [a for a in args if a.__class__ is not Lane]
    call.number = self.number(unit, fixed) if fixed else unit.number
    return call


def _noted(self: Recorder, path: Path, key: Any, call: Call) -> Any:
    self.pending.note(call)
    lane = lane_of(call, path.cohort)
    path.log.append((key, lane))
    path.position += 1
    return lane


def _enter_shared(a: Any, by_row: bool, signature: list[Any], fixed: list[Any], numbers: list[Any]) -> None:
    """Take a number, or a tensor that all samples share, as an operand."""
    kind = a.__class__
    if kind not in _NUMBERS:
        fixed.append(id(a))
        signature.append(None if a is None else (a.shape, a.dtype, a._node is not None))
    elif by_row:
        numbers.append(a)
        signature.append(kind)
    else:
        signature.append((kind, a))


def draw(self: Recorder, path: Path, key: Any, draws: Any, *what: Any) -> Any:
    """Note a random draw of (kind, shape, dtype, device): each sample's next numbers, whenever they are made."""
    self.step(path)
    cohort = path.cohort
    samples = cohort.samples()
    counts = draws.reserve(samples)
    signature = (key, *what)
    unit = self.units.get(signature)
    if unit is None:
        unit = self.new_unit(signature, draws.make, OFF)
        unit.specs = (spec_of(draws.make(samples, counts, *what)),)
    call = Call(unit, unit.specs[0], cohort, (samples, counts, *what), key, [], 0)
    call.number = unit.number
    return _noted(self, path, key, call)


def _beside(self: Recorder, op: Any, a: Any, by_row: bool) -> Any:
    """Return what all samples share as an operand: a lane of equal rows where that lets calls be merged."""
    if a is None or a.__class__ in _NUMBERS:
        return a
    if is_batch(a, self.run):
        raise self.run.stop(whole_batch(op))
    if isinstance(a, np.generic):
        return a.item()
    if not isinstance(a, Tensor):
        if not hasattr(a, "dtype"):
            raise TypeError(f"{_named(op)}: expected a Tensor, an array or a number, got {type(a).__name__}")
        a = wrap(a)
    if not by_row or not is_small(a):
        return a
    known = self.shared.get(id(a))
    if known is None:
        slot = done(wrap(a.array[None]), self.run.root)
        slot.constant, slot.args = True, a
        known = self.shared[id(a)] = a, slot
    return lane_of(known[1], self.run.root)


def _learn(self: Recorder, signature: Any, op: Any, args: Any, static: Any) -> Unit:
    """Find out the shape and dtype an operation will give by applying it to zeros."""
    unit = self.new_unit(signature, op, mode.recording)
    operands, lanes = [], []
    for a in args:
        lanes.append(a.__class__ is Lane)
        if a.__class__ is Lane:
            spec = a.tensor.array
            zeros = np.zeros((2, *spec.shape[1:]), spec.dtype)
            a = wrap(zeros).to(spec.device)
            a.requires_grad_(spec.needs)
        operands.append(a)
    try:
        with np.errstate(all="ignore"):
            out = apply_rule(op, operands, lanes, 2, static)
        unit.eager = not isinstance(out, Tensor) or out.ndim == 0 or len(out) != 2
    except Exception:  # it says what is wrong where it is run on the samples themselves
        unit.eager = True
    if not unit.eager:
        unit.specs = (spec_of(out),)
        kinds = {a.dtype.kind for a in args if a.__class__ is Lane}
        given = {a.__class__ for a in args if a.__class__ in _NUMBERS}
        unit.columns = op in BY_ROW and bool not in given and (kinds == {"f"} or (kinds == {"i"} and given == {int}))
    return unit


def _now(self: Recorder, path: Path, op: Any, args: Any, static: Any) -> Any:
    """Apply an operation at once, for one path alone."""
    lanes = [a.__class__ is Lane for a in args]
    operands = [self.ready(a, path.cohort) if lane else a for a, lane in zip(args, lanes)]
    out = apply_rule(op, operands, lanes, path.cohort.size, static)
    self.run.count(1, path.cohort.size)
    lane = lane_of(done(out, path.cohort), path.cohort)
    path.log.append((op, lane))
    path.position += 1
    return lane
