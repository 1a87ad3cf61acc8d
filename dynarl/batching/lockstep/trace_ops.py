"""Tracing operations and random draws: the shape of a result is learned from zeros, once for each signature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from dynarl.autograd import Tensor
from dynarl.autograd.device import xp
from dynarl.autograd.grad_mode import OFF, mode
from dynarl.autograd.tensor import wrap
from dynarl.batching.draws import DeviceLike
from dynarl.batching.groups.execution import DRAW, Operands, Operation, Static
from dynarl.batching.groups.group import SampleGroup, number_key
from dynarl.batching.groups.run import name_of
from dynarl.batching.lockstep.lazy import (
    LazyCall,
    Signature,
    as_now,
    computed,
    constant,
    frozen,
    is_small,
    sample_tensor,
    spec_of,
)
from dynarl.batching.lockstep.tracer import TracedExecution, Tracer, depth_of, enter
from dynarl.batching.rules.table import RULES, SHAREABLE, ViewRule, apply_rule, of_one_sample
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.values.shared_memory import note_view

__all__ = ["trace_draw", "trace_operation"]

_NUMBERS = frozenset((float, int, bool))


def trace_operation(execution: TracedExecution, op: Operation, operands: Operands, static: Static) -> Any:
    """Record an operation and return the SampleTensor of its result."""
    tracer = execution.tracer
    tracer.step(execution)
    if tracer.tracks_views:
        return _trace_tracked(execution, op, operands, static)
    key = op if not static else (op, *[(name, frozen(value)) for name, value in static.items()])
    call = _usual_call(tracer, key, operands, static, execution.group)
    if call is not None:
        return tracer.add(execution, op, call)
    return _trace_unusual(execution, key, op, operands, static)


def _trace_tracked(execution: TracedExecution, op: Operation, operands: Operands, static: Static) -> Any:
    """Record an operation in a program that changes tensors in place."""
    now = tuple([as_now(a) if a.__class__ is SampleTensor else a for a in operands])
    key = op if not static else (op, *[(name, frozen(value)) for name, value in static.items()])
    result = _trace_unusual(execution, key, op, now, static)
    rule = RULES.get(op)
    if rule.__class__ is ViewRule and (shares := rule.shares(None, static)) is not False:
        note_view(operands[0], result, op, static if shares else None)
    return result


def _usual_call(tracer: Tracer, key: Any, args: Operands, static: Static, group: SampleGroup) -> LazyCall | None:
    """Return a call that has the signature of the operation's last usual call, None if it has not."""
    signature = tracer.usual.get(key)
    depth = None if signature is None else depth_of(args, signature, group)
    if signature is None or depth is None:
        return None
    operands = [a for a in args if a.__class__ is SampleTensor]
    call = LazyCall(signature, signature.specs[0], group, args, static, operands, depth + 1)
    fixed = [] if signature.columns else [number_key(a) for a in args if a.__class__ is not SampleTensor]
    call.number = tracer.number(signature, fixed) if fixed else signature.number
    return call


def _trace_unusual(execution: TracedExecution, key: Any, op: Operation, args: Operands, static: Static) -> Any:
    tracer, group = execution.tracer, execution.group
    parts: list[Any] = [op, mode.recording]  # of the signature's key
    fixed: list[Any] = []
    numbers: list[Any] = []
    operands: list[Any] = []
    depth = -1
    shareable = op in SHAREABLE
    for i, a in enumerate(args):
        if a.__class__ is not SampleTensor:
            shared = _shared(tracer, op, a, shareable)
            if shared is not a:
                a = shared
                args = (*args[:i], a, *args[i + 1 :])
            if a.__class__ is not SampleTensor:
                _enter_shared(a, shareable, parts, fixed, numbers)
                continue
        depth = max(depth, enter(a, group, parts, operands))
    if static:
        parts += key[1:]
    full_key = tuple(parts)
    signature = tracer.signatures.get(full_key)
    if signature is None:
        signature = _learn(tracer, full_key, op, args, static)
    if signature.eager or mode.anomaly:
        return _run_now(execution, op, args, static)
    if not fixed and (shareable or len(operands) == len(args)):
        signature.operands, tracer.usual[key] = full_key[2 : 2 + len(args)], signature
    if not signature.columns:
        fixed += numbers
    call = LazyCall(signature, signature.specs[0], group, args, static, operands, depth + 1)
    call.number = tracer.number(signature, fixed) if fixed else signature.number
    return tracer.add(execution, op, call)


def _enter_shared(a: Any, shareable: bool, parts: list[Any], fixed: list[Any], numbers: list[Any]) -> None:
    """Append a number or a shared tensor to the key of a signature, and what calls must agree on to `fixed`."""
    kind = a.__class__
    if kind not in _NUMBERS:
        fixed.append(id(a))
        parts.append(None if a is None else (a.shape, a.dtype, a._node is not None))
    elif shareable:
        numbers.append(number_key(a))
        parts.append(kind)
    else:
        parts.append((kind, number_key(a)))


def _shared(tracer: Tracer, op: Operation, a: Any, shareable: bool) -> Any:
    """Return a shared operand; small tensors as a SampleTensor of equal rows, so that more calls can run as one."""
    if a is None or a.__class__ in _NUMBERS:
        return a
    if tracer.run.is_argument(a):
        raise tracer.run.fail_whole_batch(op)
    if isinstance(a, np.generic):
        return a.item()
    if not isinstance(a, Tensor) and not hasattr(a, "dtype"):
        raise TypeError(f"{name_of(op)}: expected a Tensor, an array or a number, got {type(a).__name__}")
    tensor = a if isinstance(a, Tensor) else wrap(a)
    if not is_small(tensor):
        return tensor if isinstance(a, Tensor) else wrap(a.copy())
    kept = _kept(tracer, a, tensor)
    return sample_tensor(kept.sample.tensor, tracer.run.root) if shareable else kept.tensor


class _Kept:
    """A copy of a small operand that all samples share: the program may change it in place before the call runs."""

    __slots__ = ("content", "original", "sample", "tensor")

    def __init__(self, original: Any, tensor: Tensor, content: bytes, root: SampleGroup) -> None:
        self.original = original  # kept, so that its id stays its own
        self.content = content
        self.tensor: Tensor = wrap(xp(tensor.array).array(tensor.array))
        self.sample = constant(self.tensor, root)


def _kept(tracer: Tracer, original: Any, tensor: Tensor) -> _Kept:
    # On a GPU the content is not compared: that would wait for the device at every operation.
    content = tensor.array.tobytes() if tensor.array.__class__ is np.ndarray else b""
    kept: _Kept | None = tracer.shared.get(id(original))
    if kept is None or kept.content != content:
        kept = tracer.shared[id(original)] = _Kept(original, tensor, content, tracer.run.root)
    return kept


def _learn(tracer: Tracer, key: Any, op: Operation, args: Operands, static: Static) -> Signature:
    """Add the signature of an operation, with the shape and dtype of its result learned from two rows of zeros."""
    signature = tracer.new_signature(key, "operation", op, mode.recording)
    operands: list[Any] = []
    batched: list[bool] = []
    for a in args:
        batched.append(a.__class__ is SampleTensor)
        if a.__class__ is SampleTensor:
            spec = a.tensor.array
            zeros = np.zeros((2, *spec.shape[1:]), spec.dtype)
            a = wrap(zeros).to(spec.device)
            a.requires_grad_(spec.needs)
        operands.append(a)
    try:
        with np.errstate(all="ignore"):
            out = apply_rule(op, operands, batched, 2, static)
        signature.eager = not isinstance(out, Tensor) or out.ndim == 0 or len(out) != 2
    except Exception:  # run on the samples themselves, the operation raises its own message
        signature.eager = True
    if not signature.eager:
        signature.specs = (spec_of(out),)
        kinds = {a.dtype.kind for a in args if a.__class__ is SampleTensor}
        given = {a.__class__ for a in args if a.__class__ in _NUMBERS}
        # A row of numbers must not change the dtype of the result: floats with any number, integers with integers.
        safe = bool not in given and (kinds == {"f"} or (kinds == {"i"} and given == {int}))
        signature.columns = op in SHAREABLE and safe
    return signature


def _run_now(execution: TracedExecution, op: Operation, args: Operands, static: Static) -> SampleTensor:
    """Apply an operation at once, for one path alone."""
    tracer, group = execution.tracer, execution.group
    batched = [a.__class__ is SampleTensor for a in args]
    operands = [tracer.rows(a, group) if own else a for a, own in zip(args, batched)]
    try:
        out = apply_rule(op, operands, batched, group.size, static)
    except Exception as error:
        alone = [wrap(a.array[0]) if own else a for a, own in zip(operands, batched)]
        raise of_one_sample(error, op, alone, static) from None
    tracer.run.count(1, group.size)
    x = sample_tensor(computed(out, group), group)
    execution.log.append((op, x))
    execution.position += 1
    return x


def trace_draw(
    execution: TracedExecution, kind: str, shape: tuple[int, ...], dtype: DTypeLike | None, device: DeviceLike
) -> SampleTensor:
    """Record a random draw: each sample's next numbers, whenever they are computed."""
    tracer, group = execution.tracer, execution.group
    streams = tracer.run.streams()
    tracer.step(execution)
    samples = group.samples()
    counts = streams.reserve(samples)
    key = (DRAW, kind, shape, dtype, device)
    signature = tracer.signatures.get(key)
    if signature is None:
        signature = tracer.new_signature(key, "draw", None, OFF)
        signature.specs = (spec_of(streams.make(samples, counts, kind, shape, dtype, device)),)
    args = (samples, counts, kind, shape, dtype, device)
    call = LazyCall(signature, signature.specs[0], group, args, streams.make, [], 0)
    call.number = signature.number
    return tracer.add(execution, DRAW, call)
