"""Operations of an eager execution: applied at once to all rows of the current group.

This is the innermost loop of per-sample programs. The common cases (operands of the current group, equal ranks and
dtypes, one operand) are therefore tested first and written out rather than called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.grad_mode import ANOMALY, mode
from dynarl.autograd.ops.indexing import _getitem
from dynarl.autograd.tape import record
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.execution import Execution, Operands, Operation, Static
from dynarl.batching.rules.table import RULES, ElementwiseRule, LeadingAxesRule, ViewRule, of_one_sample, rule_of
from dynarl.batching.values.sample_number import SampleNumber
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.values.shared_memory import note_view

__all__ = ["EagerOperations"]

_NUMBERS = frozenset((float, int, bool))
_ERRORS = (ValueError, TypeError, IndexError, RuntimeError)
_NO_STATIC: Static = {}
_ONE_BATCHED = (True,)
_ALL = slice(None)
_MISSING = object()
_new: Callable[[Any], Any] = object.__new__


class EagerOperations(Execution):
    """The part of an eager execution that applies operations."""

    __slots__ = ()

    def result(self, key: object, tensor: Tensor) -> SampleTensor:
        """Log the result of a new operation, and return it as the group's."""
        self.steps += 1
        if self.steps > self.run.max_steps:
            self.fail_endless()
        group = self.group
        x: SampleTensor = _new(SampleTensor)  # without __init__: this runs for every operation
        x.tensor, x.group, x._parts = tensor, group, None
        if group.size > 1:
            self.log.append((key, x))
            self.position += 1
        return x

    def apply(self, op: Operation, operands: Operands, static: Static) -> Any:
        """Apply an operation by its rule."""
        for value in static.values():
            if type(value) in _WITH_NUMBERS and _has_number(value):  # an option of an operation is one number
                return self.apply(op, operands, {name: _read(part) for name, part in static.items()})
        try:
            return self._apply(op, operands, static)
        except _ERRORS as error:
            raise of_one_sample(error, op, [self.first(x) for x in operands], static) from None

    def first(self, x: Any) -> Any:
        """Return an operand as the first sample has it."""
        return wrap(x.at(self.group).array[0]) if x.__class__ is SampleTensor else x

    def _apply(self, op: Operation, operands: Operands, static: Static) -> Any:
        group = self.group
        rule: Any = RULES.get(op, _MISSING)
        if rule is None:
            (x,) = operands
            return self.result(op, op(x.tensor if x.group is group else x.at(group), **static))
        if rule.__class__ is ElementwiseRule:
            return self.result(op, self._pair(op, operands, rule, static))
        if rule is _MISSING:
            rule = rule_of(op)
        if len(operands) == 1:
            (x,) = operands
            rows = (x.tensor if x.group is group else x.at(group),)
            result = self.result(op, rule(rows, _ONE_BATCHED, group.size, static))
            if self.run.tracks_views and rule.__class__ is ViewRule:
                shares = rule.shares(rows[0], static)
                if shares is not False:
                    note_view(x, result, op, static if shares else None)
            return result
        batched, given = self._given(op, operands)
        if rule.__class__ is LeadingAxesRule:
            rule.check(given[0], batched)
            return self.result(op, op(*given, **static))
        return self.result(op, rule(given, batched, group.size, static))

    def _given(self, op: Operation, operands: Operands) -> tuple[list[bool], list[Any]]:
        """Return which operands have rows, and the operands as Tensors."""
        group = self.group
        batched: list[bool] = []
        given: list[Any] = []
        for x in operands:
            if x.__class__ is SampleTensor:
                batched.append(True)
                given.append(x.tensor if x.group is group else x.at(group))
            elif type(x) is SampleNumber:
                like = next(y for y in operands if y.__class__ is SampleTensor)
                batched.append(True)
                given.append(x.like(like, group).tensor)
            else:
                batched.append(False)
                given.append(self._shared(op, x))
        return batched, given

    def rows(self, x: Any) -> Any:
        """Return the rows of the current group."""
        return x.at(self.group)

    def source(self, x: Any) -> tuple[Any, Any]:
        """Return the Tensor of a SampleTensor, and the current group's rows in it."""
        rows = x.at(self.group)
        return (rows, None) if x.group is self.group else (x.tensor, self.group.rows_in(x.group))

    def of_rows(self, tensor: Any) -> Any:
        """Return the SampleTensor of the current group's rows."""
        return SampleTensor(tensor, self.group)

    def constant(self, x: Any) -> Any:
        """Return a per-sample tensor whose rows are one Tensor."""
        return SampleTensor(x.expand((self.group.size, *x.shape)), self.group)

    def getitem(self, x: Any, index: Any) -> SampleTensor:
        """Return `x[index]`: one sample's first axis is the second of the rows."""
        if type(index) in _WITH_NUMBERS and _has_number(index):
            index = _read(index)
        rows = x.tensor if x.group is self.group else x.at(self.group)
        whole = (_ALL, *index) if index.__class__ is tuple else (_ALL, index)
        try:
            result = self.result(_getitem, _getitem(rows, index=whole))
        except _ERRORS as error:
            raise of_one_sample(error, _getitem, (self.first(x),), {"index": index}) from None
        if self.run.tracks_views:
            note_view(x, result, _getitem, {"index": index})
        return result

    def _shared(self, op: Operation, x: Any) -> Any:
        """Return an operand that all samples share; fail if it is a whole batch."""
        if self.run.is_argument(x):
            raise self.run.fail_whole_batch(op)
        if x.__class__ is np.ndarray:  # another path may change it: backward needs it as it is now
            return x.copy()
        return x.item() if isinstance(x, np.generic) else x

    def _pair(self, op: Operation, operands: Operands, rule: ElementwiseRule, static: Static) -> Any:
        """Apply an elementwise operation; numbers and equal ranks and dtypes need no alignment."""
        x, y = operands
        group = self.group
        if x.__class__ is SampleTensor:
            p = x.tensor if x.group is group else x.at(group)
            if y.__class__ is SampleTensor:
                q = y.tensor if y.group is group else y.at(group)
                if p.array.ndim == q.array.ndim and p.array.dtype is q.array.dtype:
                    return op(p, q, **static)
                return rule.general((p, q), (True, True), group.size, static)
            if type(y) in _NUMBERS:
                return op(p, y, **static)
            if type(y) is SampleNumber:
                return rule.general((p, y.like(x, group).tensor), (True, True), group.size, static)
            return rule.general((p, self._shared(op, y)), (True, False), group.size, static)
        q = y.tensor if y.group is group else y.at(group)
        if type(x) in _NUMBERS:
            return op(x, q, **static)
        if type(x) is SampleNumber:
            return rule.general((x.like(y, group).tensor, q), (True, True), group.size, static)
        return rule.general((self._shared(op, x), q), (False, True), group.size, static)

    def binary(self, op: Any, x: Any, y: Any) -> Any:
        """Apply `+`, `-` or `*` to floats of one rank, or a float and a number; leave everything else to `apply`."""
        group = self.group
        left = right = None
        if x.__class__ is SampleTensor:
            x_rows = x.tensor if x.group is group else x.at(group)
            a, left = x_rows.array, x_rows._node
            dtype, ndim = a.dtype, a.ndim
            if y.__class__ is SampleTensor:
                y_rows = y.tensor if y.group is group else y.at(group)
                b, right = y_rows.array, y_rows._node
                usual = b.dtype is dtype
                if usual and b.ndim != ndim:
                    return self.result(op, RULES[op].by_rank(x_rows, y_rows))  # type: ignore[union-attr, misc]
            else:
                y_rows = b = y
                usual = dtype.kind == "f" and type(y) in _NUMBERS
        else:
            y_rows = y.tensor if y.group is group else y.at(group)
            b, right = y_rows.array, y_rows._node
            x_rows = a = x
            usual = b.dtype.kind == "f" and type(x) in _NUMBERS
        recording = mode.recording
        if not usual or recording == ANOMALY:
            return self.apply(op, (x, y), {})
        try:
            out, vjps = op.body(a, b)
        except (ValueError, TypeError):
            return self.apply(op, (x, y), {})  # its message explains the shapes
        tensor = _new(Tensor)
        tensor.array, tensor._leaf = out, None
        if recording and (left is not None or right is not None):
            tensor._node = record(op, (x_rows, y_rows), _NO_STATIC, out, vjps, [left, right])
        else:
            tensor._node = None
        return self.result(op, tensor)


_WITH_NUMBERS = frozenset((SampleNumber, tuple, list, slice))


def _has_number(x: Any) -> bool:
    """Return whether an option is or holds a number that differs between samples."""
    kind = type(x)
    if kind is slice:
        return SampleNumber in (type(x.start), type(x.stop), type(x.step))
    if kind is tuple or kind is list:
        return any([type(part) in _WITH_NUMBERS and _has_number(part) for part in x])
    return kind is SampleNumber


def _read(x: Any) -> Any:
    """Return an option with each sample's numbers; samples with different ones part."""
    kind = type(x)
    if kind is slice:
        return slice(_read(x.start), _read(x.stop), _read(x.step))
    if kind is tuple or kind is list:
        return kind([_read(part) for part in x])
    return x.read() if kind is SampleNumber else x
