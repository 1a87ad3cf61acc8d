"""Networks that make a feature vector of a set or a graph, whatever its size, with operations on segments."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from dynarl import nn
from dynarl.agents.encoders import images
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
from dynarl.envs.spaces import flat_size, parts_of

__all__ = ["GraphEncoder", "PartsEncoder", "Pool", "SetEncoder"]

POOLINGS = ("mean", "sum", "max", "attention")


class Pool(nn.Module):
    """Rows [total, F] of N samples to [N, P]: what each pooling makes of a sample's rows, side by side.

    "mean", "sum" and "max" as they say, "attention" the mean weighted by a softmax over scores that are linear in
    the rows, one for each of `heads` equal parts of F (arXiv:1810.00825, with one learned query). Samples without
    rows give 0.
    """

    def __init__(self, size: int, pooling: tuple[str, ...] = ("mean", "max"), heads: int = 4) -> None:
        super().__init__()
        if not pooling or any(name not in POOLINGS for name in pooling):
            raise ValueError(f"pooling: must be some of {', '.join(POOLINGS)}, got {pooling!r}")
        if "attention" in pooling and size % heads:
            raise ValueError(f"heads: must divide the {size} features, got {heads}")
        self.pooling, self.heads = pooling, heads
        self.score = nn.Linear(size, heads) if "attention" in pooling else None
        self.size = size * len(pooling)

    def forward(self, rows: Tensor, segments: Segments) -> Tensor:
        """Return [N, P] of rows [total, F]."""
        reduce = {"mean": segment_mean, "sum": segment_sum, "max": segment_max, "attention": self._attend}
        pooled: Tensor = cat([reduce[name](rows, segments) for name in self.pooling], 1)
        return pooled

    def _attend(self, rows: Any, segments: Segments) -> Any:
        assert self.score is not None
        weight = segment_softmax(self.score(rows), segments)
        parts = rows.reshape(rows.shape[0], self.heads, rows.shape[1] // self.heads) * weight.unsqueeze(-1)
        return segment_sum(parts.reshape(rows.shape[0], rows.shape[1]), segments)


class SetEncoder(nn.Module):
    """A Sequence seen as a set (Deep Sets, arXiv:1703.06114): rho(pool of phi(x)), ReLU layers of `features`.

    The order of the elements does not count; where it should, write the position into the elements, or a policy
    for one sample that reads them in turn. Elements that hold images or text go through their own encoder first.
    With the pooled elements comes log(1 + length).
    """

    def __init__(
        self, space: spaces.Sequence, features: int = 64, pooling: tuple[str, ...] = ("mean", "max"),
        encoder: str = "auto",
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed, size = _embedding(space.feature_space, encoder)
        self.phi = nn.Sequential(nn.Linear(size, features), nn.ReLU(), nn.Linear(features, features), nn.ReLU())
        self.pool = Pool(features, pooling)
        self.rho = nn.Sequential(nn.Linear(self.pool.size + 1, features), nn.ReLU())

    def forward(self, obs: Ragged) -> Tensor:
        """Return features [N, F] of N sequences."""
        pooled = self.pool(self.phi(self.embed(obs.values)), obs.segments)
        features: Tensor = self.rho(_with_size(pooled, obs.segments))
        return features


class GraphEncoder(nn.Module):
    """Message passing (arXiv:1704.01212) over `steps` links, then the nodes pooled as a set.

    Along each link v -> w go relu(A h_v + B h_w + C e) to w and relu(D h_w + E h_v + F e) back to v; with m_v,
    the sum of what arrives at v, h_v <- h_v + relu(U [h_v, m_v]). Every step has weights of its own.
    """

    def __init__(
        self, space: spaces.Graph, features: int = 64, steps: int = 3, pooling: tuple[str, ...] = ("mean", "max"),
        encoder: str = "auto",
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed, size = _embedding(space.node_space, encoder)
        self.enter = nn.Sequential(nn.Linear(size, features), nn.ReLU())
        self.embed_edge: nn.Module = nn.Identity()
        edge_size = 0
        if space.edge_space is not None:
            self.embed_edge, edge_size = _embedding(space.edge_space, encoder)
        self.steps = nn.ModuleList([_MessagePassing(features, edge_size) for _ in range(steps)])
        self.pool = Pool(features, pooling)
        self.rho = nn.Sequential(nn.Linear(self.pool.size + 1, features), nn.ReLU())

    def forward(self, obs: RaggedGraph) -> Tensor:
        """Return features [N, F] of N graphs."""
        h: Any = self.enter(self.embed(obs.nodes.values))
        source, target = (Places(obs.links[:, end], len(h.array)) for end in (0, 1))
        edges = None if obs.edges is None else self.embed_edge(obs.edges.values)
        for step in self.steps:  # also without any link: what a node becomes must not depend on other graphs
            h = step(h, source, target, edges)
        pooled = self.pool(h, obs.nodes.segments)
        features: Tensor = self.rho(_with_size(pooled, obs.nodes.segments))
        return features


class _MessagePassing(nn.Module):
    """One step. What is linear in a node is computed once for it, not for each of its links."""

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
        arrived = sum_rows(message[:, : self.size], places=target) + sum_rows(message[:, self.size :], places=source)
        return h + self.update(cat([h, arrived], 1))


class PartsEncoder(nn.Module):
    """A Dict or Tuple with Sequences or Graphs to features [N, F]: each part by its own network, side by side."""

    def __init__(self, space: Any, encoder: str = "auto") -> None:
        super().__init__()
        self.keys = [key for key, _ in parts_of(space)]
        self.parts = nn.ModuleList([self._part(part, encoder) for _, part in parts_of(space)])

    def _part(self, part: Any, encoder: str) -> nn.Module:
        if isinstance(part, spaces.Dict | spaces.Tuple):
            return PartsEncoder(part, encoder)
        return images.features_for(part, encoder) or nn.Identity()

    def forward(self, obs: Any) -> Tensor:
        """Return features [N, F] of a dict or tuple of inputs."""
        features: Tensor = cat([part(obs[key]) for key, part in zip(self.keys, self.parts)], 1)
        return features


def _embedding(space: spaces.Space[Any], encoder: str) -> tuple[nn.Module, int]:
    """Return the network for single elements and the number of its features."""
    network = images.features_for(space, encoder)
    if network is None:
        return nn.Identity(), flat_size(space)
    from dynarl.agents.policies import features_size

    return network, features_size(network, space)


def _with_size(pooled: Tensor, segments: Segments) -> Tensor:
    array = pooled.array
    size = xp(array).asarray(np.log1p(segments.lengths).astype(array.dtype)[:, None])
    both: Tensor = cat([pooled, wrap(size)], 1)
    return both
