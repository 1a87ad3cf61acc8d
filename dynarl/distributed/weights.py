"""Weights as one flat buffer, which the learner sends to every worker once per version."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FlatLayout"]

_ALIGNMENT = 16


class FlatLayout:
    """Offsets of named arrays in one buffer of bytes. Actors of one class and config have equal layouts."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._places: dict[str, tuple[int, int, tuple[int, ...], np.dtype[Any]]] = {}
        stop = 0
        for name, array in arrays.items():
            start = -(-stop // _ALIGNMENT) * _ALIGNMENT
            stop = start + array.nbytes
            self._places[name] = (start, stop, array.shape, array.dtype)
        self.nbytes = stop

    def pack(self, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
        """Return a new buffer, uint8 [nbytes], that holds the arrays."""
        buffer = np.zeros(self.nbytes, np.uint8)
        for name, view in self.unpack(buffer).items():
            np.copyto(view, arrays[name])
        return buffer

    def unpack(self, buffer: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Return the arrays as views of a buffer; raises ValueError for a buffer of another size."""
        if buffer.nbytes != self.nbytes:
            raise ValueError(
                f"weights: this process has networks of {self.nbytes} bytes, got {buffer.nbytes}; "
                "learner and workers must run the same code with the same configuration"
            )
        return {
            name: buffer[start:stop].view(dtype)[: prod(shape)].reshape(shape)
            for name, (start, stop, shape, dtype) in self._places.items()
        }
