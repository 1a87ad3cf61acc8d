"""A walk along the links of a graph: messages between neighbours until a fixed point."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.autograd import Tensor, arange, zeros
from dynarl.autograd.ops.shape import stack
from dynarl.batching import RaggedGraph
from dynarl.distributions import Categorical
from dynarl.envs.spaces import flat_size

__all__ = ["GraphWalker"]


class GraphWalker(nn.Module):
    """Choose start nodes, send their shares along the links until a fixed point, and act on the nodes that hold them.

    At first a softmax over all nodes gives each node a share. In a hop each node passes its share to its neighbours,
    divided by attention (arXiv:1710.10903) over the features of the links that leave it. The observation decides the
    number of hops: they end where no share moves by more than `tolerance`. Nodes without outgoing links lose their
    share. ``steps`` is the number of hops.

    `hops` makes the same network static: that many hops at every step.
    """

    def __init__(
        self,
        observation_space: spaces.Graph,
        action_space: spaces.Discrete,
        *,
        hidden_size: int = 32,
        max_hops: int = 10,
        tolerance: float = 0.1,
        hops: int | None = None,
    ) -> None:
        super().__init__()
        if (
            not isinstance(observation_space, spaces.Graph)
            or observation_space.edge_space is None
            or not isinstance(action_space, spaces.Discrete)
        ):
            raise ValueError(
                "GraphWalker: is for Graph observations whose edges have features, and Discrete actions, got "
                f"{observation_space}, {action_space}"
            )
        node, edge = flat_size(observation_space.node_space), flat_size(observation_space.edge_space)
        actions = int(action_space.n)
        self.max_hops, self.tolerance, self.hops = max_hops if hops is None else hops, tolerance, hops
        self.start, self.follow = nn.Linear(node, 1), nn.Linear(edge, 1)
        self.read = nn.Sequential(nn.Linear(node, hidden_size), nn.Tanh())
        self.policy, self.value = nn.Linear(hidden_size, actions), nn.Linear(hidden_size, 1)

    def forward(self, graph: RaggedGraph) -> tuple[Any, Tensor, dict[str, Any]]:
        """Return distribution, value and aux of one graph."""
        nodes = stack(list(graph.nodes))  # [n, F]
        passes = self.passes(graph, len(nodes))
        at = self.start(nodes)[:, 0].softmax(-1)
        n, moved = 0, 1.0
        while n < self.max_hops and moved > self.tolerance:
            before, at, n = at, passes @ at, n + 1
            moved = 1.0 if self.hops is not None else (at - before).abs().max()
        h = self.read(at @ nodes)
        return Categorical(logits=self.policy(h)), self.value(h)[0], {"steps": n}

    def passes(self, graph: RaggedGraph, n: int) -> Tensor:
        """Return the part of the share of each node (column) that each node (row) receives in one hop, [n, n]."""
        links = list(graph.edge_links)
        if not links:
            return zeros(n, n)
        ends, score = stack(links), self.follow(stack(list(graph.edges)))[:, 0]
        source, target = ((ends[:, i].unsqueeze(1) == arange(n)).float() for i in (0, 1))  # [links, n]
        most = (score.unsqueeze(1) + (source - 1.0) * 1e9).max(0)[0]  # of the links that leave each node
        weight = (score - source @ most).exp()
        share = weight / (source @ (source.T @ weight))
        passes: Tensor = target.T @ (source * share.unsqueeze(1))
        return passes
