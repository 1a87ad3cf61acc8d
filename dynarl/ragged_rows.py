"""Rows: observations of varying size, each one object in arrays of dtype object.

Rings, fragments and minibatches move rows as they move numbers, without padding. `to_arrays` and `from_arrays`
convert them to plain arrays for checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RaggedRow", "from_arrays", "holds_rows", "row_array", "rows_nbytes", "to_arrays"]


class RaggedRow:
    """One observation of varying size: its ``parts``, read-only arrays."""

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[NDArray[Any]]) -> None:
        self.parts = tuple(parts)
        for part in self.parts:
            part.flags.writeable = False

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return sum(part.nbytes for part in self.parts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RaggedRow) or len(other.parts) != len(self.parts):
            return NotImplemented
        return all(np.array_equal(mine, theirs) for mine, theirs in zip(self.parts, other.parts))

    __hash__ = None  # type: ignore[assignment]  # compared by value

    def __repr__(self) -> str:
        return f"RaggedRow({', '.join(f'{part.dtype}{list(part.shape)}' for part in self.parts)})"


def row_array(rows: Iterable[RaggedRow]) -> NDArray[Any]:
    """Return rows as an array [N] of dtype object."""
    found = list(rows)
    array = np.empty(len(found), object)
    array[:] = found
    return array


def rows_nbytes(array: NDArray[Any]) -> int:
    """Return the bytes of the rows in an array, each counted once; 0 for arrays of numbers."""
    if array.dtype != object:
        return 0
    return sum({id(row): row.nbytes for row in array.reshape(-1) if isinstance(row, RaggedRow)}.values())


def holds_rows(array: NDArray[Any]) -> bool:
    """Return whether an object array holds only rows, apart from places never written to (0 or None)."""
    return all(
        isinstance(one, RaggedRow) or one is None or (type(one) is int and one == 0) for one in array.reshape(-1)
    )


def to_arrays(array: NDArray[Any]) -> dict[str, Any]:
    """Convert an object array of rows to plain arrays; places without a row stay empty.

    ``shape`` of the array, ``held`` [n] whether a place has a row, and for part k of the rows ``values/k`` (all
    numbers, concatenated) and ``shapes/k`` [rows, ndim].
    """
    flat = array.reshape(-1)
    held = np.array([isinstance(row, RaggedRow) for row in flat], np.bool_)
    rows = [row for row, is_row in zip(flat, held) if is_row]
    state: dict[str, Any] = {"shape": np.array(array.shape, np.int64), "held": held, "values": {}, "shapes": {}}
    for k, parts in enumerate(zip(*(row.parts for row in rows))):
        state["values"][str(k)] = np.concatenate([part.reshape(-1) for part in parts])
        state["shapes"][str(k)] = np.array([part.shape for part in parts], np.int64)
    return state


def from_arrays(state: Mapping[str, Any]) -> NDArray[Any]:
    """Return the object array that `to_arrays` converted."""
    held = np.asarray(state["held"])
    array = np.empty(len(held), object)
    columns = []
    for k in range(len(state["values"])):
        values, shapes = state["values"][str(k)], np.asarray(state["shapes"][str(k)])
        ends = np.cumsum(shapes.prod(axis=1, dtype=np.int64))[:-1]
        pieces = np.split(np.asarray(values), ends)
        columns.append([np.array(piece).reshape(shape) for piece, shape in zip(pieces, shapes.tolist())])
    array[held] = row_array(map(RaggedRow, zip(*columns)))
    return array.reshape([int(n) for n in state["shape"]])
