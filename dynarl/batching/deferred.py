"""Operations put off: what lock-step merging knows of a tensor that has not been computed yet.

A `Lane` of a merged call holds a `Call` in place of a Tensor (or, from its second result on, a `Part` of one), which
has its shape and dtype from a `Unit`, the kind of all calls that may be run together. Once run, a call's results are
rows of Tensors that many calls share.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.device import is_array, xp
from dynarl.autograd.tape import wrap
from dynarl.batching.cohort import Cohort
from dynarl.batching.gather import gather_rows
from dynarl.batching.lane import Lane
from dynarl.batching.run import Elementwise, Leading, state

__all__ = ["Call", "Merged", "Part", "Spec", "Unit", "apply_rule", "gather", "slot_of", "spec_of"]


class Spec:
    """Shape, dtype and device of a deferred tensor, with a leading 1 for the batch; one object for each combination."""

    __slots__ = ("device", "dtype", "ndim", "needs", "shape", "size")

    def __init__(self, shape: tuple[int, ...], dtype: Any, needs: bool, device: Any) -> None:
        self.shape, self.dtype, self.needs, self.device = shape, dtype, needs, device
        self.ndim, self.size = len(shape), 1


_specs: dict[Any, Spec] = {}


def spec_of(tensor: Any) -> Spec:
    """Return the description of one sample of a Tensor [n, ...]."""
    array, needs = tensor.array, tensor._node is not None
    device = "cpu" if array.__class__ is np.ndarray else str(tensor.device)
    key = (array.shape[1:], array.dtype, needs, device)
    spec = _specs.get(key)
    if spec is None:
        spec = _specs[key] = Spec((1, *array.shape[1:]), array.dtype, needs, tensor.device)
    return spec


class Unit:
    """A kind of call: calls of one unit and depth are run as one. `eager` ones are run at once, by themselves."""

    __slots__ = ("columns", "eager", "number", "op", "operands", "recording", "specs", "structure")

    def __init__(self, op: Any, recording: int) -> None:
        self.op, self.recording = op, recording
        self.eager = False
        self.columns = False
        self.number = -1
        self.specs: tuple[Spec, ...] = ()
        self.structure: Any = "leaf"
        self.operands: tuple[Any, ...] = ()  # of a call that is given first results alone


class Call:
    """One call of a unit by one cohort, and its first result in the place of a lane's Tensor.

    `array` tells shape and dtype, and holds no numbers. `results` are Tensors that hold the rows from `start` on.
    """

    __slots__ = (
        "_node", "args", "array", "cohort", "constant", "depth", "function", "lanes", "number", "results", "start",
        "unit", "used",
    )  # fmt: skip
    index = 0

    def __init__(
        self, unit: Any, spec: Spec, cohort: Cohort, args: Any, function: Any, lanes: list[Any], depth: int
    ) -> None:
        self.unit, self.array, self._node, self.cohort = unit, spec, spec.needs or None, cohort
        self.args, self.function, self.lanes, self.depth = args, function, lanes, depth
        self.used = self.constant = False
        self.results: Any = None
        self.number = self.start = 0

    @property
    def device(self) -> Any:
        """Where it will be."""
        return self.array.device

    @property
    def call(self) -> Any:
        """The call that gives this result."""
        return self


class Part:
    """A result of a call beside its first."""

    __slots__ = ("_node", "array", "call", "index")

    def __init__(self, call: Call, index: int, spec: Spec) -> None:
        self.call, self.index, self.array = call, index, spec
        self._node = spec.needs or None

    @property
    def device(self) -> Any:
        """Where it will be."""
        return self.array.device


def done(tensor: Any, cohort: Cohort, start: int = 0, spec: Spec | None = None) -> Call:
    """Return what is there already: rows of a Tensor from `start` on."""
    call = Call(None, spec or spec_of(tensor), cohort, (), None, _NONE, -1)
    call.results, call.start = (tensor,), start
    return call


_NONE: list[Any] = []


def deferred_lane(tensor: Any, spec: Spec, cohort: Cohort, start: int) -> Any:
    """Return a lane of rows of a Tensor from `start` on."""
    call = Call(None, spec, cohort, (), None, _NONE, -1)
    call.results, call.start = (tensor,), start
    lane = _new(Lane)
    lane.tensor, lane.cohort, lane._at = call, cohort, None
    return lane


def slot_of(lane: Any) -> Any:
    """Return the call or part in a lane, giving it one if it holds a Tensor."""
    slot = lane.tensor
    if slot.__class__ is not Call and slot.__class__ is not Part:
        slot = lane.tensor = done(slot, lane.cohort)
    return slot


class Merged(Cohort):
    """The rows of several calls, to run them as one cohort; it has no part in the batch's own numbering."""

    __slots__ = ()

    def __init__(self, size: int) -> None:
        super().__init__(None, None, size)


def apply_rule(op: Any, operands: list[Any], lanes: list[bool], n: int, static: dict[str, Any]) -> Any:
    """Apply an operation to rows."""
    rules = state.rules
    if op not in rules:
        rules[op] = state.default(op)
    rule = rules[op]
    if rule is None:
        return op(operands[0], **static)
    if rule.__class__ is Elementwise:
        return rule.general(operands, lanes, n, static)
    if rule.__class__ is Leading:
        rule.check(operands[0], lanes)
        return op(*operands, **static)
    return rule(operands, lanes, n, dict(static))


def gather(lanes: list[Any], cohorts: list[Cohort], total: int) -> Any:
    """Return a Tensor [total, ...] of lanes' rows, each lane's for its cohort, one after the other."""
    first = lanes[0].tensor
    if len(lanes) == 1:
        return _rows_of_one(lanes[0], cohorts[0])
    sources: dict[int, tuple[Any, list[int], list[int]]] = {}
    place, last = 0, None
    places: list[int] = []
    rows: list[int] = []
    for lane, cohort in zip(lanes, cohorts):
        slot = lane.tensor
        call = slot if slot.__class__ is Call else slot.call
        tensor = call.results[slot.index]
        if tensor is not last:
            last = tensor
            entry = sources.get(id(tensor))
            if entry is None:
                entry = sources[id(tensor)] = (tensor, [], [])
            _, places, rows = entry
        size = cohort.size
        if size == 1:
            places.append(place)
            if lane.cohort is cohort:
                rows.append(call.start)
            else:
                rows.append(0 if call.constant else call.start + int(cohort.rows_in(lane.cohort)[0]))
            place += 1
            continue
        places.extend(range(place, place + size))
        if call.constant:
            rows.extend([0] * size)
        elif lane.cohort is cohort:
            rows.extend(range(call.start, call.start + size))
        else:
            rows.extend((cohort.rows_in(lane.cohort) + call.start).tolist())
        place += size
    return _taken(list(sources.values()), total, first.array)


def _taken(entries: list[Any], total: int, spec: Spec) -> Any:
    """Return the rows found in each source as one operation; none where it is a whole source in order."""
    if len(entries) == 1:
        tensor, _, found = entries[0]
        rows = np.array(found)
        distinct = _distinct(rows, len(tensor.array))
        if distinct and len(rows) == len(tensor.array) and _is_range(rows):
            return tensor
        return gather_rows(tensor, plan=((None, _sliced(rows) if distinct else rows, distinct),), count=total)
    if len(entries) > 8 and not spec.needs and all(len(tensor.array) == 1 for tensor, _, _ in entries):
        # constants of one row each
        stacked = wrap(xp(entries[0][0].array).concatenate([tensor.array for tensor, _, _ in entries]))
        which = np.empty(total, np.int64)
        for i, (_, places, _) in enumerate(entries):
            which[places] = i
        return gather_rows(stacked, plan=((None, which, False),), count=total)
    plan = []
    for tensor, places, found in entries:
        rows = np.array(found)
        distinct = _distinct(rows, len(tensor.array))
        plan.append((_sliced(np.array(places)), _sliced(rows) if distinct else rows, distinct))
    return gather_rows(*[tensor for tensor, _, _ in entries], plan=tuple(plan), count=total)


def _is_range(rows: Any) -> bool:
    return bool(rows[-1] - rows[0] == len(rows) - 1) and _is_ascending(rows)


def _is_ascending(rows: Any) -> bool:
    return bool(np.count_nonzero(rows[1:] > rows[:-1]) == len(rows) - 1)  # all() costs four times as much


def _sliced(rows: Any) -> Any:
    return slice(int(rows[0]), int(rows[-1]) + 1) if _is_range(rows) else rows


def _distinct(rows: Any, count: int) -> bool:
    if len(rows) == 1 or _is_ascending(rows):
        return True
    if len(rows) > count:
        return False
    seen = np.zeros(count, bool)
    seen[rows] = True
    return int(np.count_nonzero(seen)) == len(rows)


def _rows_of_one(lane: Any, cohort: Cohort) -> Any:
    slot = lane.tensor
    call = slot.call
    tensor = call.results[slot.index]
    size = cohort.size
    if call.constant:
        return tensor if size == 1 else tensor.expand((size, *tensor.shape[1:]))
    if lane.cohort is cohort:
        if len(tensor.array) == size:
            return tensor
        rows: Any = slice(call.start, call.start + size)
    else:
        rows = cohort.rows_in(lane.cohort) + call.start
    return gather_rows(tensor, plan=((None, rows, True),), count=size)


def frozen(value: Any) -> Any:
    """Return a static argument as a key: by type and value, slices and containers by their parts."""
    kind = value.__class__
    if kind is slice:
        return slice, frozen(value.start), frozen(value.stop), frozen(value.step)
    if kind in (tuple, list):
        return kind, *[frozen(part) for part in value]
    if is_array(value) or isinstance(value, Tensor):
        return "object", id(value)
    return kind, value


def is_small(tensor: Any) -> bool:
    """Tell whether what all samples share may as well be a row of each."""
    return tensor._node is None and tensor.array.size <= 4096


def lane_of(slot: Any, cohort: Cohort) -> Any:
    """Return a lane of a call or part."""
    lane = _new(Lane)
    lane.tensor, lane.cohort, lane._at = slot, cohort, None
    return lane


_new: Any = object.__new__
