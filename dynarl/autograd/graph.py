"""The graph that recording leaves behind: one Node per operation, one Leaf per tensor that gathers a gradient.

A tensor's `_node` is the edge that leads to what made it: a Node, an Output of a Node that has several, a Leaf, or
None where no gradient is needed. Nodes know their own edges, so a loss holds its graph alive and nothing else does.
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
        self.grad: Any = None  # the gradient gathered so far in a running backward
        self.owned = False  # whether `grad` is an array of this node alone, which may be added to in place
        self.hooks: Any = None
        self.line = user_line(4)  # 4 frames up: this, `record`, the operation, its caller

    def name(self) -> str:
        """Return the operation's name."""
        return str(self.op.__name__)

    def __repr__(self) -> str:
        return f"<{self.name()} recorded at {line_of(self.line)}>"


class Leaf:
    """The end of the graph: it holds a tensor's gradient, which lies in `home` if the tensor is in a flat buffer."""

    __slots__ = ("__weakref__", "flat", "grad", "home", "hooks", "start", "stop")

    def __init__(self) -> None:
        self.grad: Any = None
        self.home: Any = None  # a Tensor over flat.grad[start:stop]
        self.flat: Any = None
        self.start = self.stop = 0
        self.hooks: Any = None


class Output:
    """One of several outputs of a node: its gradient waits in a slot of the node's list."""

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
