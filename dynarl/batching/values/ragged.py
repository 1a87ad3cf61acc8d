"""Ragged: a batch of sequences of different lengths, and RaggedGraph: a batch of graphs of different sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl.autograd import Tensor
from dynarl.autograd.device import xp
from dynarl.autograd.ops.segment import Segments
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.group import SampleGroup
from dynarl.batching.values.sample_tensor import SampleTensor
from dynarl.batching.values.shared_memory import argument

__all__ = ["END", "Ragged", "RaggedGraph", "SampleSequence"]

END: Any = type("End", (), {})()
"""Stands for the element after a sequence's last."""


class Ragged:
    """N sequences [L_i, ...] of different lengths, one for each sample.

    Inside a per-sample program it is a sequence of the sample's own L_i elements: `for x in sequence`, `len`,
    `sequence[i]`, `sequence[-1]`. Groups split where a sequence ends. Lengths are on the host, so no split waits for a
    device.

    Outside, `values` [total, ...] holds the elements of all sequences one after the other and `segments` their
    lengths, for operations on all sequences at once: `dynarl.segment_sum(ragged.values, ragged.segments)`. There is no
    padding.
    """

    def __init__(self, sequences: Sequence[Any]) -> None:
        if len(sequences) == 0:
            raise ValueError("Ragged: needs at least one sequence, got none")
        arrays = [np.asarray(s.array if isinstance(s, Tensor) else s) for s in sequences]
        shapes = {a.shape[1:] for a in arrays}
        if len(shapes) > 1 or any(a.ndim == 0 for a in arrays):
            raise ValueError(f"Ragged: sequences must be [L_i, ...] with one element shape, got {sorted(shapes)}")
        self._set(np.concatenate(arrays), np.array([len(a) for a in arrays]))

    @classmethod
    def packed(cls, values: Any, lengths: Any) -> Ragged:
        """Return sequences from an array `values` [total, ...] of all elements and `lengths` [N]."""
        ragged = cls.__new__(cls)
        ragged._set(values, lengths)
        if len(values) != ragged.segments.total:
            raise ValueError(f"Ragged: lengths add up to {ragged.segments.total} elements, got {len(values)}")
        return ragged

    def _set(self, values: Any, lengths: Any) -> None:
        self.values: Tensor = wrap(values)
        self.segments = Segments(lengths)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The lengths [N]."""
        lengths: NDArray[np.int64] = self.segments.lengths
        return lengths

    @cached_property
    def steps(self) -> Any:
        """Element t of every sequence in row t, [longest, N, ...]; 0 beyond the end of a sequence."""
        values = self.values.array
        rows, inside = self.segments.padded
        if len(values) == 0:
            return xp(values).zeros((1, *rows.shape[:1], *values.shape[1:]), dtype=values.dtype)
        # [N, longest] -> [longest, N, 1, ...], to broadcast against elements
        inside = xp(values).asarray(inside.T.reshape(*inside.T.shape, *[1] * (values.ndim - 1)))
        return xp(values).where(inside, values[xp(values).asarray(rows.T)], values.dtype.type(0))

    def __len__(self) -> int:
        return len(self.lengths)

    def per_sample(self, group: SampleGroup) -> SampleSequence:
        """Return the sequence as one sample's program sees it."""
        return SampleSequence(self, group)


class SampleSequence:
    """One sample's sequence."""

    _batching_constant = True  # a program cannot change it

    def __init__(self, ragged: Ragged, group: SampleGroup) -> None:
        self._steps = [argument(wrap(step), group) for step in ragged.steps]
        # One flag more than there are steps: how often a sample decides whether to end must not depend on the longest
        # sequence of its batch, or recorded paths would not fit another batch.
        self._more = [argument(wrap(ragged.lengths > t), group) for t in range(len(ragged.steps) + 1)]
        self._length = argument(wrap(ragged.lengths), group)

    def __iter__(self) -> Iterator[SampleTensor]:
        for t, more in enumerate(self._more):
            if not more:
                return
            yield self._steps[t]

    def steps(self) -> Iterator[Callable[[], Any]]:
        """Yield for each step a function that returns its element, or END for a sample that has no more."""
        for t in range(len(self._more)):
            yield partial(self._step, t)

    def _step(self, t: int) -> Any:
        return self._steps[t] if self._more[t] else END

    def __len__(self) -> int:
        return int(self._length)

    def __getitem__(self, index: int) -> SampleTensor:
        index = index.__index__()
        if index < 0:
            index += len(self)
        if index < 0 or not self._more[min(index, len(self._steps))]:
            raise IndexError(f"Ragged: index {index} is beyond the end of a sequence")
        return self._steps[index]


class RaggedGraph:
    """N graphs of different sizes: `nodes`, `edges` (None without edge features) and `edge_links`, each Ragged.

    A link [2] goes from one node to another, both counted from 0 within their own graph. Inside a per-sample program
    the three are the sample's own: `graph.nodes[link[0]]` for `link in graph.edge_links`.
    """

    _batching_constant = True

    def __init__(self, nodes: Any, edges: Any, edge_links: Any) -> None:
        self.nodes, self.edges, self.edge_links = nodes, edges, edge_links

    def _batch_fields(self) -> tuple[Any, Any, Any]:
        return self.nodes, self.edges, self.edge_links

    def __len__(self) -> int:
        return len(self.nodes)

    @cached_property
    def links(self) -> NDArray[np.int64]:
        """The links [total edges, 2] between rows of `nodes.values`, on the host."""
        before = np.repeat(self.nodes.segments.starts, self.edge_links.lengths)
        links: NDArray[np.int64] = self.edge_links.values.numpy() + before[:, None]
        return links
