"""A network of modules laid out by the tree in the observation (arXiv:1511.02799): recursion over the tree."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.conditional.layout import layout
from dynarl.autograd import Tensor
from dynarl.autograd.ops.shape import cat
from dynarl.batching import per_sample
from dynarl.distributions import Categorical

__all__ = ["TreeEvaluator"]


class TreeEvaluator(nn.Module):
    """Evaluate a binary tree from its leaves up, with one module for each kind of node.

    The observation is [nodes, tokens], one-hot; the children of node i are 2 i + 1 and 2 i + 2. Token 0 is an empty
    place, `leaves` tokens follow, and all others are operators with a module of two operands each. ``steps`` is the
    number of nodes evaluated.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        *,
        tokens: int = 7,
        leaves: int = 2,
        hidden_size: int = 16,
    ) -> None:
        super().__init__()
        size, actions = layout(self, observation_space, action_space, tokens=tokens)
        self.nodes, self.tokens = size // tokens, tokens
        self.leaves, self.embedding = leaves, nn.Linear(tokens, hidden_size)
        operators = [nn.Linear(2 * hidden_size, hidden_size) for _ in range(tokens - 1 - leaves)]
        self.operators = nn.ModuleList([nn.Sequential(linear, nn.Tanh()) for linear in operators])
        self.policy, self.value = nn.Linear(hidden_size, actions), nn.Linear(hidden_size, 1)

    def forward(self, obs: Tensor) -> tuple[Any, Tensor, dict[str, Any]]:
        """Return distribution, value and aux of one observation."""
        tree = obs.reshape(self.nodes, self.tokens)
        h = self.read(tree, 0)
        return Categorical(logits=self.policy(h)), self.value(h)[0], {"steps": tree[:, 1:].sum()}

    @per_sample
    def read(self, tree: Tensor, i: int) -> Tensor:
        """Return the value [hidden_size] of the tree below node i."""
        token = int(tree[i].argmax())
        if token <= self.leaves:
            return self.embedding(tree[i])
        operands = cat((self.read(tree, 2 * i + 1), self.read(tree, 2 * i + 2)))
        return self.operators[token - 1 - self.leaves](operands)
