"""Operations put off: what lock-step merging knows of a tensor that has not been computed yet.

A `SampleTensor` of a lock-step run holds a `LazyCall` in place of a Tensor (a `LazyOutput` for every result after the
first). It takes shape and dtype from a `Signature`: calls with equal signatures can run together. Once run, the results
of a call are rows of Tensors that many calls share.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.device import is_array, xp
from dynarl.autograd.tensor import wrap
from dynarl.batching.eager.execution import ElementwiseRule, LeadingAxesRule, state
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.lockstep.gather import gather_rows
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = [
    "CombinedGroup",
    "LazyCall",
    "LazyOutput",
    "Signature",
    "TensorSpec",
    "apply_rule",
    "gather",
    "slot_of",
    "spec_of",
]


class TensorSpec:
    """Shape, dtype and device of a deferred tensor, with a leading 1 for the batch; one object for each combination."""

    __slots__ = ("device", "dtype", "ndim", "needs", "shape", "size")

    def __init__(self, shape: tuple[int, ...], dtype: Any, needs: bool, device: Any) -> None:
        self.shape, self.dtype, self.needs, self.device = shape, dtype, needs, device
        self.ndim, self.size = len(shape), 1


_specs: dict[Any, TensorSpec] = {}


def spec_of(tensor: Any) -> TensorSpec:
    """Return the description of one sample of a Tensor [n, ...]."""
    array, needs = tensor.array, tensor._node is not None
    device = "cpu" if array.__class__ is np.ndarray else str(tensor.device)
    key = (array.shape[1:], array.dtype, needs, device)
    spec = _specs.get(key)
    if spec is None:
        spec = _specs[key] = TensorSpec((1, *array.shape[1:]), array.dtype, needs, tensor.device)
    return spec


class Signature:
    """A kind of call: calls of one signature and depth are run as one. `eager` ones are run at once, by themselves."""

    __slots__ = ("columns", "eager", "number", "op", "operands", "recording", "specs", "structure")

    def __init__(self, op: Any, recording: int) -> None:
        self.op, self.recording = op, recording
        self.eager = False
        self.columns = False
        self.number = -1
        self.specs: tuple[TensorSpec, ...] = ()
        self.structure: Any = "leaf"
        self.operands: tuple[Any, ...] = ()  # of a call that is given first results alone


class LazyCall:
    """One call of a signature by one group, and its first result in the place of a lane's Tensor.

    `array` tells shape and dtype, and holds no numbers. `results` are Tensors that hold the rows from `start` on.
    """

    __slots__ = (
        "_node",
        "args",
        "array",
        "constant",
        "depth",
        "function",
        "group",
        "lanes",
        "number",
        "results",
        "signature",
        "start",
        "used",
    )  # fmt: skip
    index = 0

    def __init__(
        self,
        signature: Any,
        spec: TensorSpec,
        group: SampleGroup,
        args: Any,
        function: Any,
        lanes: list[Any],
        depth: int,
    ) -> None:
        self.signature, self.array, self._node, self.group = signature, spec, spec.needs or None, group
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


class LazyOutput:
    """A result of a call beside its first."""

    __slots__ = ("_node", "array", "call", "index")

    def __init__(self, call: LazyCall, index: int, spec: TensorSpec) -> None:
        self.call, self.index, self.array = call, index, spec
        self._node = spec.needs or None

    @property
    def device(self) -> Any:
        """Where it will be."""
        return self.array.device


def done(tensor: Any, group: SampleGroup, start: int = 0, spec: TensorSpec | None = None) -> LazyCall:
    """Return what is there already: rows of a Tensor from `start` on."""
    call = LazyCall(None, spec or spec_of(tensor), group, (), None, _NONE, -1)
    call.results, call.start = (tensor,), start
    return call


_NONE: list[Any] = []


def lazy_rows(tensor: Any, spec: TensorSpec, group: SampleGroup, start: int) -> Any:
    """Return a lane of rows of a Tensor from `start` on."""
    call = LazyCall(None, spec, group, (), None, _NONE, -1)
    call.results, call.start = (tensor,), start
    lane = _new(SampleTensor)
    lane.tensor, lane.group, lane._at = call, group, None
    return lane


def slot_of(lane: Any) -> Any:
    """Return the call or part in a lane, giving it one if it holds a Tensor."""
    slot = lane.tensor
    if slot.__class__ is not LazyCall and slot.__class__ is not LazyOutput:
        slot = lane.tensor = done(slot, lane.group)
    return slot


class CombinedGroup(SampleGroup):
    """The rows of several calls, to run them as one group; it has no part in the batch's own numbering."""

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
    if rule.__class__ is ElementwiseRule:
        return rule.general(operands, lanes, n, static)
    if rule.__class__ is LeadingAxesRule:
        rule.check(operands[0], lanes)
        return op(*operands, **static)
    return rule(operands, lanes, n, dict(static))


def gather(lanes: list[Any], groups: list[SampleGroup], total: int) -> Any:
    """Return a Tensor [total, ...] of lanes' rows, each lane's for its group, one after the other."""
    first = lanes[0].tensor
    if len(lanes) == 1:
        return _rows_of_one(lanes[0], groups[0])
    sources: dict[int, tuple[Any, list[int], list[int]]] = {}
    place, last = 0, None
    places: list[int] = []
    rows: list[int] = []
    for lane, group in zip(lanes, groups):
        slot = lane.tensor
        call = slot if slot.__class__ is LazyCall else slot.call
        tensor = call.results[slot.index]
        if tensor is not last:
            last = tensor
            entry = sources.get(id(tensor))
            if entry is None:
                entry = sources[id(tensor)] = (tensor, [], [])
            _, places, rows = entry
        size = group.size
        if size == 1:
            places.append(place)
            if lane.group is group:
                rows.append(call.start)
            else:
                rows.append(0 if call.constant else call.start + int(group.rows_in(lane.group)[0]))
            place += 1
            continue
        places.extend(range(place, place + size))
        if call.constant:
            rows.extend([0] * size)
        elif lane.group is group:
            rows.extend(range(call.start, call.start + size))
        else:
            rows.extend((group.rows_in(lane.group) + call.start).tolist())
        place += size
    return _taken(list(sources.values()), total, first.array)


def _taken(entries: list[Any], total: int, spec: TensorSpec) -> Any:
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


def _rows_of_one(lane: Any, group: SampleGroup) -> Any:
    slot = lane.tensor
    call = slot.call
    tensor = call.results[slot.index]
    size = group.size
    if call.constant:
        return tensor if size == 1 else tensor.expand((size, *tensor.shape[1:]))
    if lane.group is group:
        if len(tensor.array) == size:
            return tensor
        rows: Any = slice(call.start, call.start + size)
    else:
        rows = group.rows_in(lane.group) + call.start
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


def sample_tensor_of(slot: Any, group: SampleGroup) -> Any:
    """Return a lane of a call or part."""
    lane = _new(SampleTensor)
    lane.tensor, lane.group, lane._at = slot, group, None
    return lane


_new: Any = object.__new__
