"""The graph: one Node per recorded operation, one Leaf per tensor that accumulates a gradient, handles of hooks.

A tensor's `_node` is its edge into the graph: the Node that computed it, an Output of a Node with several outputs, a
Leaf, or None if it needs no gradient. Edges point from results to operands, so only the loss keeps its graph alive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynarl.autograd.call_site import line_of, user_line
from dynarl.autograd.versions import next_sequence

__all__ = ["Leaf", "Node", "Output", "RemovableHandle"]


class Node:
    """One recorded operation: its gradient functions, and the edges along which they send gradients."""

    __slots__ = ("__weakref__", "args", "edges", "grad", "hooks", "line", "op", "owned", "sequence", "static", "vjps")

    def __init__(self, op: Any, args: tuple[Any, ...], static: dict[str, Any], edges: list[Any], vjps: Any) -> None:
        self.op = op
        self.args = args
        self.static = static
        self.edges = edges
        self.vjps = vjps
        self.sequence = next_sequence()  # backward visits nodes in descending order of it
        self.grad: Any = None  # the sum of the gradients received so far in a running backward
        # Whether `grad` belongs to this node alone. `add` sends one array to both operands, so a gradient may only be
        # added to in place after this node has made its own sum.
        self.owned = False
        self.hooks: Any = None
        self.line = user_line(4)  # 4 frames up: this, `record`, the operation, its caller

    def name(self) -> str:
        """Return the operation's name."""
        return str(self.op.__name__)

    def __repr__(self) -> str:
        return f"<{self.name()} recorded at {line_of(self.line)}>"


class Leaf:
    """The end of the graph: holds a tensor's gradient, and its place in a flat buffer (flat.py) if it has one."""

    __slots__ = ("__weakref__", "flat", "grad", "grad_view", "hooks", "start", "stop")

    def __init__(self) -> None:
        self.grad: Any = None
        self.grad_view: Any = None  # a Tensor over flat.grad[start:stop]
        self.flat: Any = None
        self.start = self.stop = 0
        self.hooks: Any = None


class Output:
    """One of several outputs of a node; the node's gradient is then a list with one slot per output."""

    __slots__ = ("count", "hooks", "index", "node")

    def __init__(self, node: Node, index: int, count: int) -> None:
        self.node, self.index, self.count = node, index, count
        self.hooks: Any = None

    def name(self) -> str:
        """Return the operation's name."""
        return self.node.name()


class RemovableHandle:
    """Handle of a hook on a tensor or a Module; `remove()` removes the hook, and so does the end of a `with` block."""

    def __init__(self, hooks: list[Any], entry: Any, on_change: Callable[[], None] | None = None) -> None:
        self._hooks = hooks
        self._entry = entry
        self._on_change = on_change

    def remove(self) -> None:
        """Remove the hook; a second call does nothing."""
        if any(entry is self._entry for entry in self._hooks):
            self._hooks[:] = [entry for entry in self._hooks if entry is not self._entry]
            if self._on_change is not None:
                self._on_change()

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()
