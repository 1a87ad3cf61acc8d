"""The engine: visit recorded operations from the newest to the oldest and send each one's gradient to its operands.

First order runs the recorded gradient functions on raw arrays. `create_graph=True` runs each operation's body again on
Tensors, so that the gradient is itself recorded and can be differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from dynarl.autograd.call_site import line_of
from dynarl.autograd.device import xp
from dynarl.autograd.grad_mode import OFF, RECORD, mode
from dynarl.autograd.gradients import IndexedGradient, accumulate, add_at, apply_hooks, dense
from dynarl.autograd.graph import Leaf, Node, Output
from dynarl.autograd.inplace_checks import check_unmodified
from dynarl.autograd.operands import fit
from dynarl.autograd.versions import last_modification

__all__ = ["run_backward"]

_by_sequence = attrgetter("sequence")


class _Pass:
    """One backward pass: inputs whose gradients are returned, edges that lead to them, leaves with a pending total."""

    __slots__ = ("captured", "create_graph", "pending", "wanted")

    def __init__(self, create_graph: bool, inputs: Sequence[Any] | None) -> None:
        self.create_graph = create_graph
        self.captured: dict[Any, Any] | None = None if inputs is None else dict.fromkeys(inputs)
        self.pending: dict[Leaf, Any] = {}
        self.wanted: set[Any] | None = None

    def add(self, edge: Any, g: Any) -> None:
        """Add a gradient to the sum of an edge."""
        kind = edge.__class__
        if g.__class__ is IndexedGradient:
            self.add_indexed(edge, g)
        elif kind is Node:
            if edge.grad is None:
                edge.grad, edge.owned = g, False  # in an earlier pass through a retained graph it may have been owned
            elif edge.owned:
                edge.grad += g
            else:
                edge.grad = edge.grad + g
                edge.owned = not self.create_graph
        elif kind is Leaf:
            if self.captured is not None or edge.hooks is not None or self.create_graph:
                before = self.pending.get(edge)
                self.pending[edge] = g if before is None else before + g
            else:
                accumulate(edge, g)
        else:
            slots = edge.node.grad
            if slots is None:
                slots = edge.node.grad = [None] * edge.count
            slots[edge.index] = g if slots[edge.index] is None else slots[edge.index] + g

    def add_indexed(self, edge: Any, g: IndexedGradient) -> None:
        """Add a gradient of some elements without making it a full array first."""
        if edge.__class__ is not Node:
            self.add(edge, g.dense())
        elif edge.grad is None:
            edge.grad, edge.owned = g.dense(), True
        else:
            if not edge.owned:
                edge.grad, edge.owned = xp(edge.grad).array(edge.grad), True
            add_at(edge.grad, g.index, g.values)

    def finish(self) -> None:
        """Deliver the totals of leaves with hooks and of captured inputs, which are known only after the whole pass."""
        for leaf, total in self.pending.items():
            total = apply_hooks(leaf.hooks, total)
            if self.captured is not None:
                if leaf in self.captured:
                    self.captured[leaf] = total
            elif self.create_graph:
                leaf.grad = total if leaf.grad is None else leaf.grad + total
            else:
                accumulate(leaf, total)


def _order(roots: Sequence[Any]) -> list[Node]:
    """Return the nodes that the roots depend on, newest first: a topological order, because operands are older."""
    seen: set[Node] = set()
    todo: list[Node] = []
    for root in roots:
        node = root.node if root.__class__ is Output else root
        if node.__class__ is Node and node not in seen:
            seen.add(node)
            todo.append(node)
    for node in todo:
        for edge in node.edges:
            if edge.__class__ is Output:
                edge = edge.node
            if edge.__class__ is Node and edge not in seen:
                seen.add(edge)
                todo.append(edge)
    todo.sort(key=_by_sequence, reverse=True)
    return todo


def _leading_to(inputs: Any, order: list[Node]) -> set[Any]:
    """Return the edges from which one of the inputs can be reached."""
    wanted = set(inputs)
    wanted.update(edge.node for edge in inputs if edge.__class__ is Output)
    for node in reversed(order):
        if any(edge in wanted or (edge.__class__ is Output and edge.node in wanted) for edge in node.edges):
            wanted.add(node)
    return wanted


def run_backward(
    roots: Sequence[Any], seeds: Sequence[Any], inputs: Sequence[Any] | None, retain_graph: bool, create_graph: bool
) -> dict[Any, Any] | None:
    """Propagate the gradients `seeds` of the edges `roots`; with `inputs`, return theirs and change no `.grad`."""
    order = _order(roots)
    state = _Pass(create_graph, inputs)
    if inputs is not None:
        state.wanted = _leading_to(inputs, order)
    changed = bool(order) and last_modification() > order[-1].sequence
    before = mode.recording
    mode.recording = before if create_graph else OFF
    if create_graph and before == OFF:
        mode.recording = RECORD
    plain = inputs is None and not create_graph and not changed and not mode.anomaly
    try:
        for root, seed in zip(roots, seeds):
            state.add(root, seed)
        with np.errstate(all="ignore"):  # 0/0 and overflow are values here, as in PyTorch
            if plain:
                _pull(order, state, retain_graph)
            else:
                _pull_checked(order, state, retain_graph, changed)
    except BaseException:
        for node in order:
            node.grad = None
        raise
    finally:
        mode.recording = before
    state.finish()
    return state.captured


def _pull(order: list[Node], state: _Pass, retain_graph: bool) -> None:
    """The common case: first order, into `.grad`, no memory changed in place since recording."""
    for node in order:
        g = node.grad
        if g is None:
            continue
        node.grad = None
        vjps = node.vjps
        if node.hooks is not None:
            g = apply_hooks(node.hooks, g)
        if vjps.__class__ is tuple:
            for edge, vjp in zip(node.edges, vjps):
                if edge is None:
                    continue
                contribution = vjp(g)
                if edge.__class__ is Node and edge.grad is None and contribution.__class__ is not IndexedGradient:
                    edge.grad = contribution
                    edge.owned = False
                else:
                    state.add(edge, contribution)
        elif vjps is None:
            raise _freed(node)
        else:
            _joint(node, vjps, g, state)
        if not retain_graph:
            node.vjps = None
            node.args = ()
            node.edges = _FREED


def _pull_checked(order: list[Node], state: _Pass, retain_graph: bool, changed: bool) -> None:
    """The general case: captured inputs, create_graph, checks for changes in place and NaN."""
    try:
        for node in order:
            g = node.grad
            if g is not None:
                _step(node, g, state, changed)
                if not retain_graph:
                    node.vjps = None
                    node.args = ()
                    node.edges = _FREED
    finally:
        for node in order:
            node.grad = None


_FREED: list[Any] = []


def _freed(node: Node) -> RuntimeError:
    return RuntimeError(
        f"backward: {node!r} was already freed by an earlier backward; "
        "pass retain_graph=True to the first call, or compute the loss again"
    )


def _step(node: Node, g: Any, state: _Pass, changed: bool) -> None:
    if node.vjps is None:
        raise _freed(node)
    if node.hooks is not None:
        g = apply_hooks(node.hooks, g)
    if state.captured is not None:
        _capture(node, g, state.captured)
        if state.wanted is not None and node not in state.wanted:
            return
    if changed:
        check_unmodified(node, state.create_graph)
    vjps = _lift(node) if state.create_graph else node.vjps
    if vjps.__class__ is tuple:
        for edge, vjp in zip(node.edges, vjps):
            if edge is not None and (state.wanted is None or _is_wanted(edge, state.wanted)):
                contribution = dense(vjp(g))
                if mode.anomaly:
                    _check_anomaly(node, contribution)
                state.add(edge, contribution)
    else:
        _joint(node, vjps, g, state)
    node.grad = None


def _is_wanted(edge: Any, wanted: set[Any]) -> bool:
    return edge in wanted or (edge.__class__ is Output and edge.node in wanted)


def _capture(node: Node, g: Any, captured: dict[Any, Any]) -> None:
    if node in captured:
        captured[node] = g
    elif g.__class__ is list:
        for edge in captured:
            if edge.__class__ is Output and edge.node is node:
                captured[edge] = g[edge.index]


def _joint(node: Node, vjp: Any, g: Any, state: _Pass) -> None:
    """Run a function that computes all gradients of a node together, into the flat gradient buffer where possible."""
    into_buffer = state.captured is None and not state.create_graph
    wanted = state.wanted
    needs: list[Any] = []
    for edge in node.edges:
        writable = edge.__class__ is Leaf and edge.grad is None and edge.grad_view is not None and edge.hooks is None
        if into_buffer and writable:
            edge.grad = grad_view = edge.grad_view  # set now, so that a second use of this leaf adds to it
            needs.append(grad_view.array)
        else:
            needs.append(edge is not None and (wanted is None or _is_wanted(edge, wanted)))
    for edge, need, contribution in zip(node.edges, needs, vjp(g, needs)):
        if contribution is need or need is False:
            continue
        if need is not True or mode.anomaly:
            contribution = dense(contribution)
        if need is not True:
            xp(need).copyto(need, 0.0 if contribution is None else contribution)
        elif contribution is not None:
            if mode.anomaly:
                _check_anomaly(node, contribution)
            state.add(edge, contribution)


def _lift(node: Node) -> Any:
    """Run the operation again on Tensors and return its gradient functions, whose operations are then recorded."""
    if node.op.lifted is not None:
        vjps = node.op.lifted(*node.args, **node.static)
    else:
        vjps = node.op.body(*node.args, **node.static)[1]
    if vjps.__class__ is not tuple:
        return vjps
    return tuple(
        [
            None if edge is None else (lambda g, vjp=vjp, a=a: fit(vjp(g), a))
            for a, edge, vjp in zip(node.args, node.edges, vjps)
        ]
    )


def _check_anomaly(node: Node, g: Any) -> None:
    array = g.array if hasattr(g, "_node") else g
    if array.dtype.kind == "f" and bool(xp(array).isnan(array).any()):
        raise RuntimeError(f"{node.name()}: made a NaN in backward; its forward is at {line_of(node.line)}")
