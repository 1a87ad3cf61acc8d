"""A device for machines without a GPU: arrays that are NumPy inside and refuse what CuPy's arrays refuse.

No silent conversion to NumPy, no mixing with numpy.ndarray, indexing and reductions give 0-dim arrays and never
scalars, and functions that CuPy lacks are missing. What would wait for a GPU (float(), bool(), item()) is counted.
"""

from typing import Any

import numpy as np

NAME = "strict"
# What CuPy 13 implements of the ufunc methods; the others raise NotImplementedError there
REDUCES = {"add", "multiply"}
SCATTERS = {"add", "subtract", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor"}
MISSING = {
    "acos", "acosh", "apply_over_axes", "asin", "asinh", "astype", "atan", "atan2", "atanh", "bitwise_invert", "block",
    "bool", "concat", "cumulative_prod", "cumulative_sum", "errstate", "frompyfunc", "insert", "isdtype", "long",
    "matrix_transpose", "matvec", "ndenumerate", "nditer", "permute_dims", "pow", "put_along_axis", "trapezoid",
    "unique_counts", "unique_inverse", "unique_values", "unstack", "vecdot", "vecmat",
}  # fmt: skip
MISSING_METHODS = {"__array_interface__", "__array_struct__", "byteswap", "ctypes", "mT", "resize", "setflags"}
UNSUPPORTED_ARGUMENTS = {"where", "initial", "subok"}  # copyto alone takes where
syncs = 0


class StrictArray:
    """A NumPy array behind glass: every operation stays among strict arrays and numbers."""

    __slots__ = ("__weakref__", "_inside", "base")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, inside: np.ndarray, base: Any = None):
        self._inside = inside
        self.base = base

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("Implicit conversion of a device array to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        function = _Ufunc(ufunc)
        return function(*args, **kwargs) if method == "__call__" else getattr(function, method)(*args, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _apply(function, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in MISSING_METHODS:
            raise AttributeError(f"this device's arrays have no {name}")
        value = getattr(self._inside, name)
        if callable(value):
            return lambda *args, **kwargs: _apply(value, args, kwargs, self)
        return _outside(value, [self])

    def __getitem__(self, index: Any) -> Any:
        return _outside(np.asarray(self._inside[_inside(index)]), [self], self._inside)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._inside[_inside(index)] = _inside(value)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self._inside)))

    def __len__(self) -> int:
        return len(self._inside)

    def __bool__(self) -> bool:
        return bool(_wait(self))

    def __float__(self) -> float:
        return float(_wait(self).item())

    def __int__(self) -> int:
        return int(_wait(self).item())

    def item(self, *index: int) -> Any:
        return _wait(self).item(*index)

    def tolist(self) -> Any:
        return _wait(self).tolist()

    def __repr__(self) -> str:
        return f"strict({self._inside!r})"


def _wait(array: StrictArray) -> np.ndarray:
    global syncs
    syncs += 1
    return array._inside


def _inside(value: Any) -> Any:
    """Unwrap arguments; a numpy.ndarray among them is the mistake this device exists to find."""
    if isinstance(value, StrictArray):
        return value._inside
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}: a NumPy array met a device array")
    if isinstance(value, tuple | list):
        return type(value)(_inside(v) for v in value)
    return value


def _strict_in(values: Any) -> list[StrictArray]:
    found = []
    for value in values:
        if isinstance(value, StrictArray):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += _strict_in(value)
    return found


def _outside(result: Any, sources: list[StrictArray], exact: Any = None) -> Any:
    """Wrap results: the same object for an out= argument, a view that knows its base, never a scalar."""
    if isinstance(result, tuple | list):
        parts = [_outside(r, sources) for r in result]
        return result._make(parts) if hasattr(result, "_make") else type(result)(parts)
    if isinstance(result, np.generic):
        return StrictArray(np.asarray(result))
    if not isinstance(result, np.ndarray):
        return result
    for source in sources:
        if result is source._inside:
            return source
        if result.base is not None and np.may_share_memory(result, source._inside):
            return StrictArray(result, source if source.base is None else source.base)
    return StrictArray(result)


def _apply(function: Any, args: Any, kwargs: dict[str, Any], me: Any = None) -> Any:
    unsupported = UNSUPPORTED_ARGUMENTS & kwargs.keys()
    if unsupported and function is not np.copyto:
        raise TypeError(f"{function.__name__} has no argument {sorted(unsupported)} on this device")
    sources = _strict_in([me, *args, *kwargs.values()])
    result = function(*_inside(tuple(args)), **{k: _inside(v) for k, v in kwargs.items()})
    return _outside(result, sources)


class _Ufunc:
    """A ufunc over strict arrays, with the methods CuPy implements."""

    def __init__(self, ufunc: np.ufunc):
        self.ufunc, self.__name__ = ufunc, ufunc.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _apply(self.ufunc, args, kwargs)

    def __getattr__(self, method: str) -> Any:
        offered = {"reduce": REDUCES, "accumulate": REDUCES, "at": SCATTERS}.get(method, set())
        if method != "outer" and self.__name__ not in offered:
            raise NotImplementedError(f"`{self.__name__}.{method}` is not supported on this device")
        return lambda *args, **kwargs: _apply(getattr(self.ufunc, method), args, kwargs)


class _Namespace:
    """NumPy's names over strict arrays."""

    ndarray = StrictArray

    def __init__(self, module: Any = np):
        self._module = module
        self.used: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name in MISSING:
            raise AttributeError(f"this device has no function {name}")
        value = getattr(self._module, name)
        self.used.add(name)
        if isinstance(value, np.ufunc):
            value = _Ufunc(value)
        elif callable(value) and not isinstance(value, type):
            value = _function(value)
        elif type(value) is type(np):
            value = _Namespace(value)
        self.__dict__[name] = value
        return value

    @staticmethod
    def asarray(values: Any, dtype: Any = None) -> StrictArray:
        """Upload: the one function that takes NumPy arrays."""
        if isinstance(values, StrictArray):
            return values if dtype in (None, values.dtype) else values.astype(dtype)
        return StrictArray(np.array(_inside(values) if isinstance(values, list | tuple) else values, dtype=dtype))

    @staticmethod
    def array(values: Any, dtype: Any = None, copy: bool = True) -> StrictArray:
        """Upload or copy."""
        if isinstance(values, StrictArray):
            return StrictArray(np.array(values._inside, dtype=dtype))
        return _Namespace.asarray(values, dtype)

    ascontiguousarray = asarray


def _function(function: Any) -> Any:
    return lambda *args, **kwargs: _apply(function, args, kwargs)


def _operators() -> None:
    """Give StrictArray the operators, each the ufunc of its name."""
    binary = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "pow": np.power,
        "floordiv": np.floor_divide, "mod": np.remainder, "matmul": np.matmul, "and": np.bitwise_and,
        "or": np.bitwise_or, "xor": np.bitwise_xor,
    }  # fmt: skip
    for name, ufunc in binary.items():
        f = _Ufunc(ufunc)
        setattr(StrictArray, f"__{name}__", lambda x, y, f=f: f(x, y) if _known(y) else NotImplemented)
        setattr(StrictArray, f"__r{name}__", lambda x, y, f=f: f(y, x) if _known(y) else NotImplemented)
        setattr(StrictArray, f"__i{name}__", lambda x, y, f=f: f(x, y, out=x))
    comparisons = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
                   "ge": np.greater_equal}  # fmt: skip
    for name, ufunc in comparisons.items():
        f = _Ufunc(ufunc)
        setattr(StrictArray, f"__{name}__", lambda x, y, f=f: f(x, y) if _known(y) else NotImplemented)
    for name, ufunc in {"neg": np.negative, "pos": np.positive, "abs": np.abs, "invert": np.invert}.items():
        f = _Ufunc(ufunc)
        setattr(StrictArray, f"__{name}__", lambda x, f=f: f(x))


def _known(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}: a NumPy array met a device array")
    return isinstance(value, StrictArray | int | float | np.generic)


_operators()
namespace = _Namespace()


def register() -> None:
    """Make `device="strict"` known to the engine."""
    from dynarl.autograd.device import register_device

    register_device(
        NAME,
        StrictArray,
        namespace,
        to_host=lambda array: array._inside.copy(),
        from_host=lambda array, index: StrictArray(array.copy()),
    )
