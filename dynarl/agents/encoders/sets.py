"""Networks from a set or a graph of any size to a feature vector, by operations on segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from dynarl import nn
from dynarl.agents.encoders.features import features_size
from dynarl.autograd import Tensor
from dynarl.autograd.device import xp
from dynarl.autograd.ops.segment import (
    Places,
    Segments,
    gather_rows,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
    sum_rows,
)
from dynarl.autograd.ops.shape import cat
from dynarl.autograd.tensor import wrap
from dynarl.batching import Ragged, RaggedGraph
from dynarl.envs.spaces import flat_size

__all__ = ["Embed", "GraphEncoder", "PartsEncoder", "Pool", "SetEncoder"]

POOLINGS = ("mean", "sum", "max", "attention")
Embed = Callable[[spaces.Space[Any]], nn.Module | None]
"""Makes the network of the elements of a space; None where they are read as the numbers they are encoded in."""


class Pool(nn.Module):
    """Pool the rows [total, F] of N samples to [N, P], the results of several poolings concatenated.

    "attention" is the mean weighted by a softmax over scores that are linear in the rows, one score for each of
    `heads` equal parts of F (arXiv:1810.00825, with one learned query). Samples without rows give 0.
    """

    def __init__(self, size: int, pooling: tuple[str, ...] = ("mean", "max"), heads: int = 4) -> None:
        super().__init__()
        if not pooling or any(name not in POOLINGS for name in pooling):
            raise ValueError(f"pooling: must be one or more of {', '.join(POOLINGS)}, got {pooling!r}")
        if "attention" in pooling and size % heads:
            raise ValueError(f"heads: must divide the {size} features, got {heads}")
        self.pooling, self.heads = pooling, heads
        self.score = nn.Linear(size, heads) if "attention" in pooling else None
        self.size = size * len(pooling)

    def forward(self, rows: Tensor, segments: Segments) -> Tensor:
        """Return pooled features [N, P] of rows [total, F]."""
        reduce = {"mean": segment_mean, "sum": segment_sum, "max": segment_max, "attention": self._attend}
        pooled: Tensor = cat([reduce[name](rows, segments) for name in self.pooling], 1)
        return pooled

    def _attend(self, rows: Any, segments: Segments) -> Any:
        assert self.score is not None
        weight = segment_softmax(self.score(rows), segments)
        # [total, F] -> [total, heads, F / heads] -> [total, F]
        parts = rows.reshape(rows.shape[0], self.heads, rows.shape[1] // self.heads) * weight.unsqueeze(-1)
        return segment_sum(parts.reshape(rows.shape[0], rows.shape[1]), segments)


class SetEncoder(nn.Module):
    """Encode a Sequence as a set (Deep Sets, arXiv:1703.06114): rho(pool(phi(x))), ReLU layers of size `features`.

    The result does not depend on the order of the elements. Where order matters, add the position to the elements,
    or write a per-sample policy that reads them in order. `embed` makes the network that elements pass first (images,
    text). rho also gets log(1 + length).
    """

    def __init__(
        self, space: spaces.Sequence, features: int = 64, pooling: tuple[str, ...] = ("mean", "max"),
        embed: Embed | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed, size = _embedding(space.feature_space, embed)
        self.phi = nn.Sequential(nn.Linear(size, features), nn.ReLU(), nn.Linear(features, features), nn.ReLU())
        self.pool = Pool(features, pooling)
        self.rho = nn.Sequential(nn.Linear(self.pool.size + 1, features), nn.ReLU())

    def forward(self, obs: Ragged) -> Tensor:
        """Return features [N, F] of N sequences."""
        pooled = self.pool(self.phi(self.embed(obs.values)), obs.segments)
        features: Tensor = self.rho(_with_size(pooled, obs.segments))
        return features


class GraphEncoder(nn.Module):
    """Encode a Graph by message passing (arXiv:1704.01212) over `steps` links and by pooling the nodes as a set.

    A link v -> w sends relu(A h_v + B h_w + C e) to w and relu(D h_w + E h_v + F e) back to v. m_v is the sum of the
    messages to v, and h_v <- h_v + relu(U [h_v, m_v]). Each step has its own weights. `embed` makes the networks that
    nodes and edges pass first.
    """

    def __init__(
        self, space: spaces.Graph, features: int = 64, steps: int = 3, pooling: tuple[str, ...] = ("mean", "max"),
        embed: Embed | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed, size = _embedding(space.node_space, embed)
        self.enter = nn.Sequential(nn.Linear(size, features), nn.ReLU())
        self.embed_edge: nn.Module = nn.Identity()
        edge_size = 0
        if space.edge_space is not None:
            self.embed_edge, edge_size = _embedding(space.edge_space, embed)
        self.steps = nn.ModuleList([_MessagePassing(features, edge_size) for _ in range(steps)])
        self.pool = Pool(features, pooling)
        self.rho = nn.Sequential(nn.Linear(self.pool.size + 1, features), nn.ReLU())

    def forward(self, obs: RaggedGraph) -> Tensor:
        """Return features [N, F] of N graphs."""
        h: Any = self.enter(self.embed(obs.nodes.values))
        source, target = (Places(obs.links[:, end], len(h.array)) for end in (0, 1))
        edges = None if obs.edges is None else self.embed_edge(obs.edges.values)
        for step in self.steps:  # also in a batch without links: a node's features must not depend on other graphs
            h = step(h, source, target, edges)
        pooled = self.pool(h, obs.nodes.segments)
        features: Tensor = self.rho(_with_size(pooled, obs.nodes.segments))
        return features


class _MessagePassing(nn.Module):
    """One step of message passing. Linear terms of a node are computed once per node, not once per link."""

    def __init__(self, features: int, edge_size: int) -> None:
        super().__init__()
        self.size = features
        self.of_source, self.of_target = (nn.Linear(features, 2 * features) for _ in range(2))
        self.of_edge = nn.Linear(edge_size, 2 * features, bias=False) if edge_size else None
        self.update = nn.Sequential(nn.Linear(2 * features, features), nn.ReLU())

    def forward(self, h: Any, source: Places, target: Places, edges: Any) -> Any:
        """Return the nodes [nodes, F] after one step; `edges` [links, E] or None."""
        message = gather_rows(self.of_source(h), places=source) + gather_rows(self.of_target(h), places=target)
        if self.of_edge is not None:
            message = message + self.of_edge(edges)
        message = nn.functional.relu(message)
        received = sum_rows(message[:, : self.size], places=target) + sum_rows(message[:, self.size :], places=source)
        return h + self.update(cat([h, received], 1))


class PartsEncoder(nn.Module):
    """Map a Dict or Tuple with Sequences or Graphs to features [N, F], each part by its own network.

    `networks` are those of the parts by key (the position in a Tuple), in the order of the space; None passes the
    encoded numbers [N, F] through. The features of the parts are concatenated.
    """

    def __init__(self, networks: Mapping[Any, nn.Module | None]) -> None:
        super().__init__()
        self.keys = list(networks)
        self.parts = nn.ModuleList([nn.Identity() if part is None else part for part in networks.values()])

    def forward(self, obs: Any) -> Tensor:
        """Return features [N, F] of a dict or tuple of inputs."""
        features: Tensor = cat([part(obs[key]) for key, part in zip(self.keys, self.parts)], 1)
        return features


def _embedding(space: spaces.Space[Any], embed: Embed | None) -> tuple[nn.Module, int]:
    """Return the network for single elements and the number of its features."""
    network = None if embed is None else embed(space)
    return (nn.Identity(), flat_size(space)) if network is None else (network, features_size(network, space))


def _with_size(pooled: Tensor, segments: Segments) -> Tensor:
    array = pooled.array
    size = xp(array).asarray(np.log1p(segments.lengths).astype(array.dtype)[:, None])
    both: Tensor = cat([pooled, wrap(size)], 1)
    return both
