"""SampleNumber: a Python number of which the samples of a group have different values.

Where paths join, a number that differs between them (`n += 1` in a branch, `k = int(x)`) would keep the samples apart
for the rest of the program. It becomes a SampleNumber instead: arithmetic with it is done for each sample, by Python's
own operators. Samples part only where the program needs one value (`if`, `range`, an index, a dictionary key, text).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.autograd import Tensor
from dynarl.autograd.device import xp
from dynarl.autograd.dtypes import get_default_dtype, result_type
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.execution import state
from dynarl.batching.groups.group import PerSampleError, SampleGroup
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["SampleNumber", "kind_of_number", "numbers_of"]


class SampleNumber:
    """One sample's view of the numbers [n] of a group's samples; all are of one class, `kind`.

    `values` is an array of int64, float64 or bool, or of objects for integers that need more bits. `__class__` is the
    class of the numbers, so that `isinstance` and dispatch on classes see what the plain program sees.
    """

    __slots__ = ("_known", "group", "kind", "values")
    __array_ufunc__ = None

    def __init__(self, values: NDArray[Any], kind: type, group: SampleGroup) -> None:
        self.values, self.kind, self.group = values, kind, group
        self._known: dict[SampleGroup, Any] = {}  # the one number of groups that parted at it

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self.kind

    def at(self, group: SampleGroup) -> NDArray[Any]:
        """Return the numbers of a group, which must be part of this number's own."""
        return self.values if group is self.group else self.values[group.rows_in(self.group)]

    def read(self) -> Any:
        """Return the number of a sample; samples with different numbers go separate ways from here."""
        execution = state.execution
        if execution is None:
            raise PerSampleError("a number of a per-sample program was read after its call; return it from the program")
        group = execution.group
        if group not in self._known:
            self._known.update(execution.read_values(self.at(group)))
            group = execution.group
        return self._known[group]

    def common(self, group: SampleGroup) -> Any:
        """Return the number that all samples of a group have, None if they have several."""
        if group in self._known:
            return self._known[group]
        values = self.at(group)
        return values[0].item() if self.values.dtype != object and (values == values[0]).all() else None

    def beside(self, x: Any) -> SampleTensor:
        """Return the number as a per-sample tensor for an operation with a plain Tensor x."""
        return self.like(x, self.group)

    def like(self, other: Any, group: SampleGroup) -> SampleTensor:
        """Return the number as a tensor, in the dtype that an operation of a Python number and `other` computes in."""
        rows = other.tensor if type(other) is SampleTensor else other
        dtype = result_type(rows, self.kind())
        return SampleTensor(wrap(xp(rows.array).asarray(self.at(group).astype(dtype))), group)

    def as_tensor(self, dtype: Any = None) -> SampleTensor:
        """Return the number as `dynarl.tensor` does."""
        kind = get_default_dtype() if self.kind is float else self.values.dtype
        return SampleTensor(wrap(self.values.astype(kind if dtype is None else dtype)), self.group)

    def as_index(self, x: Any) -> Any:
        """Return the number as an index of a per-sample tensor."""
        if self.kind is not int or self.values.dtype == object:
            return self.read()
        array = x.tensor.array if type(x) is SampleTensor else x.array
        return SampleTensor(wrap(xp(array).asarray(self.values)), self.group)

    def apply(self, function: Callable[..., Any], *operands: Any) -> Any:
        """Apply a function of numbers to the numbers of each sample; without operands to this one."""
        return _apply(function, *(operands or (self,)))

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
    kind = type(x)
    if kind is SampleNumber:
        number: type = x.kind
        return number
    return kind if kind in _NUMBERS else None


def numbers_of(values: Any, group: SampleGroup) -> Any:
    """Return numbers [n], a list or an array, as one number if they are equal, else as a SampleNumber."""
    if type(values) is list:
        kind: type = type(values[0])
        try:
            values = np.array(values, _DTYPES[kind])
        except OverflowError:
            values = np.array(values, object)
    else:
        kind = _KINDS[values.dtype.kind]
        values = values.astype(_DTYPES[kind], copy=False)
    bits = values.view(np.int64) if kind is float else values
    if (bits == bits[0]).all() or (kind is float and np.isnan(values).all()):
        return values[0].item() if values.dtype != object else values[0]
    return SampleNumber(values, kind, group)


_NUMBERS: tuple[type, ...] = (bool, int, float)
_DTYPES: dict[Any, Any] = {bool: np.bool_, int: np.int64, float: np.float64}
_KINDS: dict[str, type] = {"b": bool, "i": int, "u": int, "f": float}


# -- arithmetic: Python's own, for each sample ------------------------------------------------------------------------


def _apply(function: Callable[..., Any], *operands: Any) -> Any:
    """Apply an operator to the numbers of each sample, also of samples that are on other paths by now.

    The result must not depend on the current group: replays of the program run for smaller ones.
    """
    execution = state.execution
    if execution is None:
        raise PerSampleError("a number of a per-sample program was used after its call; return it from the program")
    group = min([x.group for x in operands if type(x) is SampleNumber], key=lambda own: own.size)
    for which in (group, execution.group):
        try:
            return _computed(function, operands, which)
        except Exception:  # of some samples: first without those on other paths
            continue
    # Each sample goes on with its own number, and raises its own error.
    return function(*[x.read() if type(x) is SampleNumber else x for x in operands])


def _computed(function: Callable[..., Any], operands: tuple[Any, ...], group: SampleGroup) -> Any:
    columns = [x.at(group) if type(x) is SampleNumber else x for x in operands]
    vectorized = _VECTORIZED.get(function)
    if vectorized is not None:
        results = vectorized(*columns)
        if results is not None:
            return numbers_of(results, group)
    rows = [x.tolist() if type(own) is SampleNumber else [x] * group.size for x, own in zip(columns, operands)]
    found = [function(*row) for row in zip(*rows)]
    if {type(x) for x in found} <= {bool} or len({type(x) for x in found}) == 1:
        return numbers_of(found, group)
    execution = state.execution
    assert execution is not None
    if group is not execution.group:
        raise TypeError("results of several classes")
    return execution.read_values(found)[execution.group]  # 2 ** n is an int or a float


def _arithmetic(function: Any, largest: int) -> Callable[..., Any]:
    """Return an operation of arrays, None where its results could differ from Python's: integers beyond `largest`."""

    def vectorized(x: Any, y: Any) -> Any:
        kinds = {_kind_in(x), _kind_in(y)}
        if kinds == {"f"}:
            with np.errstate(all="ignore"):
                return function(x, y)
        if kinds == {"i"} and _within(x, largest) and _within(y, largest):
            return function(x, y)
        return None

    return vectorized


def _dividing(function: Any) -> Callable[..., Any]:
    """Return `%` or `//` of integers; None for other numbers and divisors of 0."""

    def vectorized(x: Any, y: Any) -> Any:
        whole = _kind_in(x) == "i" == _kind_in(y) and _within(x, 1 << 62) and _within(y, 1 << 62)
        return function(x, y) if whole and np.all(y) else None

    return vectorized


def _comparison(function: Any) -> Callable[..., Any]:
    def vectorized(x: Any, y: Any) -> Any:
        kinds = {_kind_in(x), _kind_in(y)}
        return function(x, y) if kinds in ({"f"}, {"i"}) and _within(x, 1 << 62) and _within(y, 1 << 62) else None

    return vectorized


def _kind_in(x: Any) -> str:
    if type(x) is np.ndarray:
        return x.dtype.kind
    return "i" if type(x) is int else "f" if type(x) is float else ""


def _within(x: Any, largest: int) -> bool:
    if _kind_in(x) == "f":
        return True
    if type(x) is int:
        return -largest < x < largest
    return bool(x.max() < largest and x.min() > -largest)


_VECTORIZED: dict[Any, Callable[..., Any]] = {
    operator.add: _arithmetic(np.add, 1 << 62),
    operator.sub: _arithmetic(np.subtract, 1 << 62),
    operator.mul: _arithmetic(np.multiply, 1 << 31),
    operator.mod: _dividing(np.remainder), operator.floordiv: _dividing(np.floor_divide),
    operator.eq: _comparison(np.equal), operator.ne: _comparison(np.not_equal),
    operator.lt: _comparison(np.less), operator.le: _comparison(np.less_equal),
    operator.gt: _comparison(np.greater), operator.ge: _comparison(np.greater_equal),
}  # fmt: skip
"""Operations of int64 or float64 that NumPy computes as Python does."""


def _binary(name: str) -> tuple[Any, Any]:
    function = getattr(operator, name.strip("_") + ("_" if name in ("__and__", "__or__") else ""))

    def forward(x: SampleNumber, y: Any) -> Any:
        if kind_of_number(y) is not None or type(y) in _OTHER_NUMBERS:
            return _apply(function, x, y)
        if type(y) is not SampleTensor and isinstance(y, Tensor):
            return function(x.beside(y), y)
        return NotImplemented

    def reflected(x: SampleNumber, y: Any) -> Any:
        if kind_of_number(y) is not None or type(y) in _OTHER_NUMBERS:
            return _apply(function, y, x)
        return NotImplemented if isinstance(y, (Tensor, np.ndarray)) else function(y, x.read())

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
