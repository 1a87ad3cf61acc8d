"""What policies see of observations of varying size: rows are put together to `Ragged`, for a batch at a time.

A Sequence is a `Ragged` of encoded elements [L, F], a Graph a `RaggedGraph`, a Dict or Tuple with one of them a dict
or tuple of these and of tensors [N, F] (Discrete as one-hot, as `dynarl.envs.encode` does).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.autograd.device import to_device
from dynarl.autograd.tensor import wrap
from dynarl.batching import Ragged, RaggedGraph
from dynarl.envs.observations import observation_layout
from dynarl.envs.ragged_spaces import example_rows
from dynarl.envs.spaces import encode, parts_of

__all__ = ["example_input", "ragged_input"]


def ragged_input(space: spaces.Space[Any], rows: NDArray[Any], device: str = "cpu") -> Any:
    """Return rows [N] of a space as a policy's input on a device."""
    return _input(space, iter(list(zip(*(row.parts for row in rows)))), device)


def example_input(space: spaces.Space[Any], rows: int) -> Any:
    """Return valid input of a batch to try a network on, whose sizes differ."""
    return ragged_input(space, example_rows(space, rows))


def _input(space: Any, columns: Iterator[Any], device: str) -> Any:
    match space:
        case spaces.Dict():
            return {key: _input(part, columns, device) for key, part in parts_of(space)}
        case spaces.Tuple():
            return tuple(_input(part, columns, device) for _, part in parts_of(space))
        case spaces.Sequence():
            return _ragged(space.feature_space, next(columns), device)
        case spaces.Graph():
            nodes = _ragged(space.node_space, next(columns), device)
            links = next(columns)
            edges = None if space.edge_space is None else _ragged(space.edge_space, next(columns), device)
            # the host needs the links to put messages in order
            return RaggedGraph(nodes, edges, Ragged.packed(np.concatenate(links), [len(one) for one in links]))
    return wrap(to_device(_encoded(space, np.stack(next(columns))), device))


def _ragged(features: spaces.Space[Any], column: Any, device: str) -> Ragged:
    values = to_device(_encoded(features, np.concatenate(column)), device)
    return Ragged.packed(values, [len(one) for one in column])


def _encoded(space: spaces.Space[Any], array: NDArray[Any]) -> NDArray[np.float32]:
    return encode(observation_layout(space).space, array)
