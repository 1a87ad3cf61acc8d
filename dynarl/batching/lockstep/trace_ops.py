"""Operations of a merged call: described by what they are applied to, and their results' shapes learned from zeros."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.grad_mode import OFF, mode
from dynarl.autograd.tensor import wrap
from dynarl.batching.eager.execution import _named, is_batch, whole_batch
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.lockstep.lazy import (
    LazyCall,
    Signature,
    apply_rule,
    done,
    frozen,
    is_small,
    sample_tensor_of,
    spec_of,
)
from dynarl.batching.lockstep.tracer import LockstepPath, Tracer, depth_of, enter
from dynarl.batching.rules.operations import BY_ROW
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["draw", "record"]

_NUMBERS = frozenset((float, int, bool))


def record(self: Tracer, path: LockstepPath, op: Any, args: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """Note an operation and return the lane that will hold its result."""
    self.step(path)
    key = op if not static else (op, *[(name, frozen(value)) for name, value in static.items()])
    call = _as_usual(self, key, args, static, path.group)
    if call is not None:
        return _noted(self, path, op, call)
    return _described(self, path, key, op, args, static)


def _described(
    self: Tracer, path: LockstepPath, key: Any, op: Any, args: tuple[Any, ...], static: dict[str, Any]
) -> Any:
    group = path.group
    description: list[Any] = [op, mode.recording]
    fixed: list[Any] = []
    numbers: list[Any] = []
    lanes: list[Any] = []
    depth = -1
    by_row = op in BY_ROW
    for i, a in enumerate(args):
        if a.__class__ is not SampleTensor:
            other = _beside(self, op, a, by_row)
            if other is not a:
                a = other
                args = (*args[:i], a, *args[i + 1 :])
            if a.__class__ is not SampleTensor:
                _enter_shared(a, by_row, description, fixed, numbers)
                continue
        depth = max(depth, enter(a, group, description, lanes))
    if static:
        description += key[1:]
    kind = tuple(description)
    signature = self.signatures.get(kind)
    if signature is None:
        signature = _learn(self, kind, op, args, static)
    if signature.eager or mode.anomaly:
        return _now(self, path, op, args, static)
    if not fixed and (by_row or len(lanes) == len(args)):
        signature.operands, self.usual[key] = kind[2 : 2 + len(args)], signature
    if not signature.columns:
        fixed += numbers
    call = LazyCall(signature, signature.specs[0], group, args, static, lanes, depth + 1)
    call.number = self.number(signature, fixed) if fixed else signature.number
    return _noted(self, path, op, call)


def _as_usual(self: Tracer, key: Any, args: Any, static: Any, group: SampleGroup) -> LazyCall | None:
    """Return a call that is like the last one of its operation, None if it is not."""
    signature = self.usual.get(key)
    depth = None if signature is None else depth_of(args, signature, group)
    if signature is None or depth is None:
        return None
    call = LazyCall(
        signature, signature.specs[0], group, args, static, [a for a in args if a.__class__ is SampleTensor], depth + 1
    )
    fixed = [] if signature.columns else [a for a in args if a.__class__ is not SampleTensor]
    call.number = self.number(signature, fixed) if fixed else signature.number
    return call


def _noted(self: Tracer, path: LockstepPath, key: Any, call: LazyCall) -> Any:
    self.pending.note(call)
    lane = sample_tensor_of(call, path.group)
    path.log.append((key, lane))
    path.position += 1
    return lane


def _enter_shared(a: Any, by_row: bool, description: list[Any], fixed: list[Any], numbers: list[Any]) -> None:
    """Take a number, or a tensor that all samples share, as an operand."""
    kind = a.__class__
    if kind not in _NUMBERS:
        fixed.append(id(a))
        description.append(None if a is None else (a.shape, a.dtype, a._node is not None))
    elif by_row:
        numbers.append(a)
        description.append(kind)
    else:
        description.append((kind, a))


def draw(self: Tracer, path: LockstepPath, key: Any, draws: Any, *what: Any) -> Any:
    """Note a random draw of (kind, shape, dtype, device): each sample's next numbers, whenever they are made."""
    self.step(path)
    group = path.group
    samples = group.samples()
    counts = draws.reserve(samples)
    description = (key, *what)
    signature = self.signatures.get(description)
    if signature is None:
        signature = self.new_signature(description, draws.make, OFF)
        signature.specs = (spec_of(draws.make(samples, counts, *what)),)
    call = LazyCall(signature, signature.specs[0], group, (samples, counts, *what), key, [], 0)
    call.number = signature.number
    return _noted(self, path, key, call)


def _beside(self: Tracer, op: Any, a: Any, by_row: bool) -> Any:
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
    return sample_tensor_of(known[1], self.run.root)


def _learn(self: Tracer, description: Any, op: Any, args: Any, static: Any) -> Signature:
    """Find out the shape and dtype an operation will give by applying it to zeros."""
    signature = self.new_signature(description, op, mode.recording)
    operands, lanes = [], []
    for a in args:
        lanes.append(a.__class__ is SampleTensor)
        if a.__class__ is SampleTensor:
            spec = a.tensor.array
            zeros = np.zeros((2, *spec.shape[1:]), spec.dtype)
            a = wrap(zeros).to(spec.device)
            a.requires_grad_(spec.needs)
        operands.append(a)
    try:
        with np.errstate(all="ignore"):
            out = apply_rule(op, operands, lanes, 2, static)
        signature.eager = not isinstance(out, Tensor) or out.ndim == 0 or len(out) != 2
    except Exception:  # it says what is wrong where it is run on the samples themselves
        signature.eager = True
    if not signature.eager:
        signature.specs = (spec_of(out),)
        kinds = {a.dtype.kind for a in args if a.__class__ is SampleTensor}
        given = {a.__class__ for a in args if a.__class__ in _NUMBERS}
        signature.columns = (
            op in BY_ROW and bool not in given and (kinds == {"f"} or (kinds == {"i"} and given == {int}))
        )
    return signature


def _now(self: Tracer, path: LockstepPath, op: Any, args: Any, static: Any) -> Any:
    """Apply an operation at once, for one path alone."""
    lanes = [a.__class__ is SampleTensor for a in args]
    operands = [self.ready(a, path.group) if lane else a for a, lane in zip(args, lanes)]
    out = apply_rule(op, operands, lanes, path.group.size, static)
    self.run.count(1, path.group.size)
    lane = sample_tensor_of(done(out, path.group), path.group)
    path.log.append((op, lane))
    path.position += 1
    return lane
