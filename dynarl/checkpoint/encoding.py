"""A state as JSON and arrays, without pickle.

Arrays are kept in a flat mapping under their path ("policy/net.0.weight"), and `{"$array": path}` replaces them in the
tree. `{"$float": "inf"}` represents a float that JSON lacks, `{"$rows": ...}` an array of rows of varying size (see
dynarl.ragged_rows). Keys that begin with `$` get a second `$`.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dynarl.ragged_rows import from_arrays, holds_rows, to_arrays

__all__ = ["decode", "encode"]

_DTYPES = frozenset(
    {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
    | {"float16", "float32", "float64", "complex64"}
)


def encode(value: Any, path: str, arrays: dict[str, Any] | None) -> Any:
    """Return `value` as JSON and put its arrays into `arrays` under their paths (None: arrays are refused)."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.ndarray) and value.dtype == object and arrays is not None and holds_rows(value):
        return {"$rows": encode(to_arrays(value), path, arrays)}
    if isinstance(value, (np.ndarray, np.generic)):
        return _encode_array(np.asarray(value), path, arrays)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, Mapping):
        if bad := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"checkpoint: keys must be strings, got {bad[0]!r} at {path or 'the top'!r}")
        return {_escape_key(key): encode(item, _join(path, key), arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item, _join(path, str(i)), arrays) for i, item in enumerate(value)]
    raise TypeError(
        f"checkpoint: {type(value).__module__}.{type(value).__qualname__} at {path or 'the top'!r} cannot be "
        "stored without pickle; allowed are NumPy arrays, numbers, strings, booleans, None, dicts and lists"
    )


def _encode_array(array: np.ndarray[Any, Any], path: str, arrays: dict[str, Any] | None) -> Any:
    if arrays is None:
        if array.ndim == 0:
            return encode(array.item(), path, None)
        raise TypeError(f"checkpoint: meta holds no arrays, got one of shape {array.shape} at {path!r}")
    if array.dtype.name not in _DTYPES:
        raise TypeError(f"checkpoint: dtype {array.dtype} at {path!r} cannot be stored; allowed are {sorted(_DTYPES)}")
    # order="C" and not ascontiguousarray, which would turn a 0-d array into a 1-d one
    arrays[path] = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    return {"$array": path}


def decode(value: Any, arrays: Mapping[str, Any]) -> Any:
    """Return the value that `encode` turned into `value` and `arrays`."""
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$array"}:
        return arrays[value["$array"]]
    if value.keys() == {"$float"}:
        return float(value["$float"])
    if value.keys() == {"$rows"}:
        return from_arrays(decode(value["$rows"], arrays))
    return {_unescape_key(key): decode(item, arrays) for key, item in value.items()}


def _escape_key(key: str) -> str:
    return "$" + key if key.startswith("$") else key


def _unescape_key(key: str) -> str:
    return key[1:] if key.startswith("$$") else key


def _join(path: str, key: str) -> str:
    key = key.replace("~", "~0").replace("/", "~1")
    return f"{path}/{key}" if path else f"./{key}" if key.startswith("__") else key
