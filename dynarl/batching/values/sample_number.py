"""SampleNumber: a Python number of which the samples of a group have different values.

Where paths join, a number that differs between them (`n += 1` in a branch, `k = int(x)`) would keep the samples apart
for the rest of the program. It becomes a SampleNumber instead: arithmetic with it is done for each sample, by Python's
own operators. Samples part only where the program needs one value (`if`, `range`, an index, a dictionary key, text).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.device import xp
from dynarl.autograd.dtypes import result_type
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.execution import state
from dynarl.batching.groups.group import PerSampleError, SampleGroup
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["SampleNumber", "kind_of_number", "numbers_of"]

_NUMBERS = (bool, int, float)


class SampleNumber:
    """One sample's view of the numbers [n] of a group's samples; all are of one class, `kind`."""

    __slots__ = ("group", "kind", "values")
    __array_ufunc__ = None

    def __init__(self, values: Sequence[Any], group: SampleGroup) -> None:
        self.values, self.group = values, group
        self.kind: type = values[0].__class__

    def at(self, group: SampleGroup) -> Sequence[Any]:
        """Return the numbers of a group, which must be part of this number's own."""
        if group is self.group:
            return self.values
        values = self.values
        return [values[i] for i in group.rows_in(self.group).tolist()]

    def read(self) -> Any:
        """Return the number of a sample; samples with different numbers go separate ways from here."""
        execution = state.execution
        if execution is None:
            raise PerSampleError("a number of a per-sample program was read after its call; return it from the program")
        return execution.read_number(self)

    python_number = read  # for operations on plain Tensors: see dynarl.autograd.operands

    def like(self, other: Any, group: SampleGroup) -> SampleTensor:
        """Return the number as a tensor, in the dtype that an operation of a Python number and `other` computes in."""
        values = self.at(group)
        rows = other.tensor if other.__class__ is SampleTensor else other
        dtype = result_type(rows, values[0])
        return SampleTensor(wrap(xp(rows.array).asarray(np.array(values, dtype))), group)

    def as_index(self, x: Any) -> Any:
        """Return the number as an index of a per-sample tensor."""
        execution = state.execution
        if execution is None or self.kind is not int:
            return self.read()
        array = x.tensor.array
        return SampleTensor(wrap(xp(array).asarray(np.array(self.at(execution.group)))), execution.group)

    def __bool__(self) -> bool:
        return bool(self.read())

    def __int__(self) -> int:
        return int(self.read())

    def __float__(self) -> float:
        return float(self.read())

    def __complex__(self) -> complex:
        return complex(self.read())

    def __index__(self) -> int:
        return operator.index(self.read())

    def __hash__(self) -> int:
        return hash(self.read())

    def __str__(self) -> str:
        return str(self.read())

    def __format__(self, spec: str) -> str:
        return format(self.read(), spec)

    def __repr__(self) -> str:
        return repr(self.read())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.read(), dtype)

    def __copy__(self) -> SampleNumber:
        return self

    def __deepcopy__(self, memo: Any) -> SampleNumber:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.read(), name)  # methods of int and float


def kind_of_number(x: Any) -> type | None:
    """Return bool, int or float for a number of a program, also one that differs between samples; else None."""
    kind = x.__class__
    if kind is SampleNumber:
        number: type = x.kind
        return number
    return kind if kind in _NUMBERS else None


# -- arithmetic: Python's own, for each sample ------------------------------------------------------------------------


def _apply(function: Callable[..., Any], *operands: Any) -> Any:
    """Apply an operator to the numbers of the samples of the current group."""
    execution = state.execution
    if execution is None:
        raise PerSampleError("a number of a per-sample program was used after its call; return it from the program")
    group = execution.group
    columns = [x.at(group) if x.__class__ is SampleNumber else [x] * group.size for x in operands]
    try:
        results = [function(*row) for row in zip(*columns)]
    except Exception:  # of some samples: each goes on with its own number, and raises its own error
        return function(*[x.read() if x.__class__ is SampleNumber else x for x in operands])
    return numbers_of(results, group)


def numbers_of(results: list[Any], group: SampleGroup) -> Any:
    """Return numbers [n] as one number if they are equal, else as a SampleNumber."""
    first = results[0]
    kind = first.__class__
    if kind is float:
        text = repr(first)
        if all([x.__class__ is float and (x is first or repr(x) == text) for x in results]):
            return first
    elif all([x.__class__ is kind and x == first for x in results]):
        return first
    if kind in _NUMBERS and all([x.__class__ is kind for x in results]):
        return SampleNumber(results, group)
    execution = state.execution
    assert execution is not None
    return execution.read_values(results)  # of several classes: 2 ** n is an int or a float


def _binary(name: str) -> tuple[Any, Any]:
    function = getattr(operator, name.strip("_") + ("_" if name in ("__and__", "__or__") else ""))

    def forward(x: SampleNumber, y: Any) -> Any:
        if kind_of_number(y) is not None or y.__class__ in _OTHER_NUMBERS:
            return _apply(function, x, y)
        if y.__class__ is not SampleTensor and isinstance(y, Tensor):
            execution = state.execution
            assert execution is not None
            return function(x.like(y, execution.group), y)
        return NotImplemented

    def reflected(x: SampleNumber, y: Any) -> Any:
        if kind_of_number(y) is not None or y.__class__ in _OTHER_NUMBERS:
            return _apply(function, y, x)
        return function(y, x.read()) if not isinstance(y, Tensor) else NotImplemented

    return forward, reflected


_OTHER_NUMBERS = frozenset((complex, np.float64, np.float32, np.int64, np.int32, np.bool_))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift"):
    _forward, _reflected = _binary(f"__{_name}__")
    setattr(SampleNumber, f"__{_name}__", _forward)
    setattr(SampleNumber, f"__r{_name}__", _reflected)
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(SampleNumber, f"__{_name}__", _binary(f"__{_name}__")[0])


def _unary(function: Callable[..., Any]) -> Any:
    return lambda x, *arguments: _apply(lambda value: function(value, *arguments), x)


_UNARY: dict[str, Callable[..., Any]] = {
    "__neg__": operator.neg, "__pos__": operator.pos, "__abs__": abs, "__invert__": operator.invert,
    "__round__": round, "__floor__": math.floor, "__ceil__": math.ceil, "__trunc__": math.trunc,
}  # fmt: skip
for _name, _function in _UNARY.items():
    setattr(SampleNumber, _name, _unary(_function))


def _divmod(x: Any, y: Any) -> Any:
    return x // y, x % y


def _rdivmod(x: Any, y: Any) -> Any:
    return y // x, y % x


for _name, _function in (("__divmod__", _divmod), ("__rdivmod__", _rdivmod)):
    setattr(SampleNumber, _name, _function)
