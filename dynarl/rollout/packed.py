"""Compact storage of Dict and Tuple observations with images: one byte per pixel instead of a float32."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.envs.spaces import flat_size, is_ragged, leaves_of

__all__ = ["PackedRows", "packed_rows"]


class PackedRows:
    """Packs stored observations, float32 [..., F], into bytes [..., size].

    `parts` has one entry per run of columns, in order: the number of columns, and whether they are integers in [0,
    255].
    """

    def __init__(self, parts: list[tuple[int, bool]]) -> None:
        fields, self._columns, start = [], {}, 0
        for are_bytes, group in groupby(parts, key=lambda part: part[1]):
            width = sum(columns for columns, _ in group)
            name = str(start)
            fields.append((name, np.uint8 if are_bytes else np.float32, (width,)))
            self._columns[name] = slice(start, start + width)
            start += width
        self.width = start
        self._dtype = np.dtype(fields, align=True)
        self.layout: tuple[tuple[int, ...], Any] = ((self._dtype.itemsize,), np.uint8)

    def pack(self, rows: NDArray[Any]) -> NDArray[np.uint8]:
        """Return rows [..., F] as bytes [..., size]."""
        packed = np.zeros(rows.shape[:-1], self._dtype)
        for name, columns in self._columns.items():
            packed[name] = rows[..., columns]
        return packed[..., None].view(np.uint8)

    def unpack(self, packed: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return bytes [..., size] as the rows [..., F] that were packed."""
        fields = np.ascontiguousarray(packed).view(self._dtype)[..., 0]
        rows = np.empty((*packed.shape[:-1], self.width), np.float32)
        for name, columns in self._columns.items():
            rows[..., columns] = fields[name]
        return rows


def packed_rows(space: spaces.Space[Any]) -> PackedRows | None:
    """Return the packing of observations of a space, None if a replay stores them unpacked."""
    if not isinstance(space, spaces.Dict | spaces.Tuple) or is_ragged(space):
        return None
    parts = [(flat_size(leaf), isinstance(leaf, spaces.Box) and leaf.dtype == np.uint8) for leaf in leaves_of(space)]
    return PackedRows(parts) if any(are_bytes for _, are_bytes in parts) else None
