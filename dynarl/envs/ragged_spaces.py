"""Observations of varying size as rows: gymnasium's Sequence and Graph, alone or in a Dict or Tuple.

The parts of a row are in the order of the space's leaves (Dicts by sorted key): for a Sequence its elements [L, ...];
for a Graph its nodes [n, ...], its edge_links [e, 2] and, if edges have features, its edges [e, ...]; for any other
space the stored observation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from dynarl.envs.spaces import ObservationLayout, fixed_layout, integer_range, is_ragged, parts_of
from dynarl.ragged_rows import RaggedRow, row_array

__all__ = ["check_ragged", "example_rows", "row_of", "split_batch"]

_GRAPH = ("nodes", "edges", "edge_links")


def check_ragged(space: Space[Any]) -> None:
    """Raise ValueError for a Sequence or Graph whose elements vary in size or are not numbers."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for _, part in parts_of(space):
            check_ragged(part)
        return
    for name, features in _feature_spaces(space):
        if is_ragged(features):
            raise ValueError(
                f"observation space: the {name} of a Sequence or Graph must have a fixed size, got {space}; "
                "make one flat Sequence, with a feature that groups its elements"
            )
        fixed_layout(features)


def _feature_spaces(space: Any) -> list[tuple[str, Space[Any]]]:
    if isinstance(space, spaces.Sequence):
        return [("elements", space.feature_space)]
    if isinstance(space, spaces.Graph):
        edges = [] if space.edge_space is None else [("edges", space.edge_space)]
        return [("nodes", space.node_space), *edges]
    return [("parts", space)]


def row_of(space: Space[Any], obs: Any) -> RaggedRow:
    """Return one observation of the environment as a row.

    Raises ValueError naming the field that does not fit the space: another shape or dtype, numbers that are not finite
    or outside a discrete space, different numbers of edges and links, links to nodes that do not exist.
    """
    return RaggedRow(_parts(space, obs, "obs"))


def _parts(space: Any, obs: Any, path: str) -> Iterator[NDArray[Any]]:
    match space:
        case spaces.Dict() | spaces.Tuple():
            for key, part in parts_of(space):
                try:
                    inner = obs[key]
                except (KeyError, IndexError, TypeError):
                    raise ValueError(f"{path}[{key!r}] is missing, {path} must lie in {space}") from None
                yield from _parts(part, inner, f"{path}[{key!r}]")
        case spaces.Sequence():
            yield _elements(space.feature_space, obs, path, stacked=space.stack)
        case spaces.Graph():
            yield from _graph(space, obs, path)
        case _:
            layout = fixed_layout(space)
            try:
                array = np.asarray(obs) if layout.pack is None else layout.pack(obs, ())
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}: {error}") from error
            yield _fitting(layout, array, 0, path)


def _elements(features: Space[Any], given: Any, path: str, *, stacked: bool) -> NDArray[Any]:
    """Return elements as stored, [L, ...]: a copy."""
    layout = fixed_layout(features)
    length = _stacked_length(features, given, path) if stacked else _length(given, path)
    if length == 0:
        return np.zeros((0, *layout.shape), layout.dtype)
    if layout.pack is None:
        return _fitting(layout, _numbers(given, path), 1, path)
    try:
        array = layout.pack(given, (length,)) if stacked else np.stack([layout.pack(one, ()) for one in given])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"the elements of {path} do not fit their space: {error}") from error
    return _fitting(layout, array, 1, path)


def _length(given: Any, path: str) -> int:
    if not isinstance(given, (tuple, list, np.ndarray)) or (isinstance(given, np.ndarray) and given.ndim == 0):
        raise ValueError(f"{path} must be a sequence of elements, got {type(given).__name__}")
    return len(given)


def _stacked_length(features: Any, given: Any, path: str) -> int:
    """Return L of elements given as one array, or as one array for each part of a Dict or Tuple."""
    if not isinstance(features, spaces.Dict | spaces.Tuple):
        return _length(given, path)
    try:
        lengths = {key: _stacked_length(part, given[key], f"{path}[{key!r}]") for key, part in parts_of(features)}
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"{path} must hold one array for each part of {features}, got {given!r:.80}") from None
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the parts of {path} must have one length, got {lengths}")
    return next(iter(lengths.values()))


def _fitting(layout: ObservationLayout, array: NDArray[Any], lead: int, path: str) -> NDArray[Any]:
    """Return a copy in the stored dtype of an array with ``lead`` dimensions before those of the space."""
    name = f"elements of {path}" if lead else path
    if array.shape[lead:] != layout.shape:
        raise ValueError(f"{name} must have shape {layout.shape}, got {array.shape[lead:]}")
    if not np.can_cast(array.dtype, layout.dtype, "same_kind"):
        raise ValueError(f"{name} must have dtype {layout.dtype}, got {array.dtype}")
    array = np.array(array, layout.dtype, order="C")
    _check_values(layout.space, array, path)
    return array


def _numbers(given: Any, path: str) -> NDArray[Any]:
    try:
        array = np.asarray(given)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "fiub":
        shapes = sorted({np.shape(one) for one in given}) if not isinstance(given, np.ndarray) else array.dtype
        raise ValueError(f"elements of {path} must be numbers of one shape, got {shapes}")
    return array


def _check_values(space: Any, array: NDArray[Any], path: str) -> None:
    if array.dtype.kind == "f":
        bad, rule = ~np.isfinite(array), "be finite"
    else:
        limits = integer_range(space)
        if limits is None:
            return
        bad, rule = (array < limits[0]) | (array > limits[1]), f"lie in {space}"
    if bad.any():
        place = np.argwhere(bad)[0].tolist()
        raise ValueError(f"{path}{place or ''} must {rule}, got {array[tuple(place)]}")


def _graph(space: spaces.Graph, obs: Any, path: str) -> Iterator[NDArray[Any]]:
    if any(not hasattr(obs, name) for name in _GRAPH):
        raise ValueError(f"{path} must have nodes, edges and edge_links (a GraphInstance), got {type(obs).__name__}")
    nodes = _elements(space.node_space, obs.nodes, f"{path}.nodes", stacked=True)
    links = np.zeros((0, 2), np.int64)
    if obs.edge_links is not None and len(obs.edge_links):
        links = np.array(obs.edge_links)
        if links.ndim != 2 or links.shape[1] != 2 or links.dtype.kind not in "iu":
            raise ValueError(f"{path}.edge_links must be integers [edges, 2], got {links.dtype} of shape {links.shape}")
        bad = (links < 0) | (links >= len(nodes))
        if bad.any():
            place = np.argwhere(bad)[0].tolist()
            raise ValueError(
                f"{path}.edge_links{place} must name one of {len(nodes)} nodes, counted from 0, "
                f"got {links[tuple(place)]}"
            )
    yield nodes
    yield links.astype(np.int64)
    if space.edge_space is None:
        if obs.edges is not None:
            raise ValueError(f"{path}.edges must be None, {space} has no features of edges")
        return
    edges = _elements(space.edge_space, () if obs.edges is None else obs.edges, f"{path}.edges", stacked=True)
    if len(edges) != len(links):
        raise ValueError(f"{path}: every edge must have a link, got {len(edges)} edges and {len(links)} edge_links")
    yield edges


def split_batch(space: Any, obs: Any, rows: int) -> Iterator[Any]:
    """Yield the single observations of a batch of ``rows``, as made by gymnasium's vector environments."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        keys = [key for key, _ in parts_of(space)]
        for found in zip(*(split_batch(part, obs[key], rows) for key, part in parts_of(space)), strict=True):
            yield dict(zip(keys, found)) if isinstance(space, spaces.Dict) else found
        return
    if len(obs) != rows:
        raise ValueError(f"obs must be of {rows} environments, got {len(obs)}")
    yield from obs


def example_rows(space: Any, rows: int) -> NDArray[Any]:
    """Return valid rows [N] as an example input of a network: row i has i + 1 elements, nodes and links."""
    return row_array(RaggedRow(_example(space, i + 1)) for i in range(rows))


def _example(space: Any, size: int) -> Iterator[NDArray[Any]]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for _, part in parts_of(space):
            yield from _example(part, size)
    elif isinstance(space, spaces.Sequence):
        yield _zeros(space.feature_space, (size,))
    elif isinstance(space, spaces.Graph):
        yield _zeros(space.node_space, (size,))
        yield np.zeros((size, 2), np.int64)
        if space.edge_space is not None:
            yield _zeros(space.edge_space, (size,))
    else:
        yield _zeros(space, ())


def _zeros(space: Space[Any], lead: tuple[int, ...]) -> NDArray[Any]:
    layout = fixed_layout(space)
    start = np.asarray(getattr(layout.space, "start", 0), layout.dtype)
    zeros: NDArray[Any] = np.asarray(np.zeros((*lead, *layout.shape), layout.dtype) + start)
    return zeros
