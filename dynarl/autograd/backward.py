"""Backward: walk the tape from the newest operation to the oldest and gather gradients.

First order runs the recorded functions on raw arrays. `create_graph=True` runs each operation's body again on
Tensors, so that the gradient is itself on the tape.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from dynarl.autograd.device import is_array, xp
from dynarl.autograd.grad_mode import OFF, RECORD, mode
from dynarl.autograd.graph import Leaf, Node, Output
from dynarl.autograd.memory import last_modification, line_of, modified_since
from dynarl.autograd.operands import fit
from dynarl.autograd.tensor import wrap

__all__ = ["Part", "backward", "dense", "grad"]

_by_sequence = attrgetter("sequence")


class Part:
    """A gradient that is zero outside some index, which names no element twice; a vjp on raw arrays may return it."""

    __slots__ = ("index", "shape", "values")

    def __init__(self, values: Any, index: Any, shape: tuple[int, ...]) -> None:
        self.values, self.index, self.shape = values, index, shape

    def dense(self) -> Any:
        """Return the whole array."""
        out = xp(self.values).zeros(self.shape, dtype=self.values.dtype)
        out[self.index] = self.values
        return out


def add_at(total: Any, index: Any, values: Any) -> None:
    """Add values in place at an index that names no element twice."""
    if index.__class__ is not np.ndarray or index.dtype.kind == "b":
        total[index] += values
        return
    rows = total.take(index, axis=0)  # a quarter faster than NumPy's indexing
    rows += values
    total[index] = rows


def dense(g: Any) -> Any:
    """Return the whole array of a gradient that may be a part."""
    return g.dense() if g.__class__ is Part else g


class _Run:
    """One pass over the graph: where gradients of inputs go, and which edges are wanted at all."""

    __slots__ = ("captured", "create_graph", "pending", "wanted")

    def __init__(self, create_graph: bool, inputs: Sequence[Any] | None) -> None:
        self.create_graph = create_graph
        self.captured: dict[Any, Any] | None = None if inputs is None else dict.fromkeys(inputs)
        self.pending: dict[Leaf, Any] = {}
        self.wanted: set[Any] | None = None

    def add(self, edge: Any, g: Any) -> None:
        """Add a gradient to what an edge has gathered in this pass."""
        kind = edge.__class__
        if g.__class__ is Part:
            self.add_part(edge, g)
        elif kind is Node:
            if edge.grad is None:
                edge.grad = g
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

    def add_part(self, edge: Any, g: Part) -> None:
        """Add a gradient of some elements without spreading it first."""
        if edge.__class__ is not Node:
            self.add(edge, g.dense())
        elif edge.grad is None:
            edge.grad, edge.owned = g.dense(), True
        else:
            if not edge.owned:
                edge.grad, edge.owned = xp(edge.grad).array(edge.grad), True
            add_at(edge.grad, g.index, g.values)

    def finish(self) -> None:
        """Deliver what waited for its total: leaves with hooks, captured inputs."""
        for leaf, total in self.pending.items():
            total = apply_hooks(leaf.hooks, total)
            if self.captured is not None:
                if leaf in self.captured:
                    self.captured[leaf] = total
            elif self.create_graph:
                leaf.grad = total if leaf.grad is None else leaf.grad + total
            else:
                accumulate(leaf, total)


def accumulate(leaf: Leaf, g: Any) -> None:
    """Add a raw gradient to a leaf: the first one fills its home in the flat buffer, later ones add in place."""
    grad = leaf.grad
    if grad is None:
        home = leaf.home
        if home is None:
            leaf.grad = wrap(xp(g).array(g))
        else:
            if g is not home.array:
                xp(home.array).copyto(home.array, g)
            leaf.grad = home
    elif grad._node is not None:
        leaf.grad = grad + wrap(g)
    else:
        grad.array += g


def apply_hooks(hooks: Any, g: Any) -> Any:
    """Run a tensor's hooks over its gradient; what a hook returns replaces it."""
    for hook in tuple(hooks.values()) if hooks else ():
        raw = not hasattr(g, "_node")
        changed = hook(wrap(g) if raw else g)
        if changed is not None:
            g = changed.array if raw else changed
    return g


def _order(roots: Sequence[Any]) -> list[Node]:
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
    wanted = set(inputs)
    wanted.update(edge.node for edge in inputs if edge.__class__ is Output)
    for node in reversed(order):
        if any(edge in wanted or (edge.__class__ is Output and edge.node in wanted) for edge in node.edges):
            wanted.add(node)
    return wanted


def run(
    roots: Sequence[Any], seeds: Sequence[Any], inputs: Sequence[Any] | None, retain_graph: bool, create_graph: bool
) -> dict[Any, Any] | None:
    """Pull gradients `seeds` back from the edges `roots`; with `inputs`, return theirs and touch no `.grad`."""
    order = _order(roots)
    state = _Run(create_graph, inputs)
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


def _pull(order: list[Node], state: _Run, retain_graph: bool) -> None:
    """The common case, kept lean: first order, into `.grad`, nothing changed in place since."""
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
                if edge.__class__ is Node and edge.grad is None and contribution.__class__ is not Part:
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


def _pull_checked(order: list[Node], state: _Run, retain_graph: bool, changed: bool) -> None:
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


def _step(node: Node, g: Any, state: _Run, changed: bool) -> None:
    if node.vjps is None:
        raise _freed(node)
    if node.hooks is not None:
        g = apply_hooks(node.hooks, g)
    if state.captured is not None:
        _capture(node, g, state.captured)
        if state.wanted is not None and node not in state.wanted:
            return
    if changed:
        _check_unmodified(node, state.create_graph)
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


def _joint(node: Node, vjp: Any, g: Any, state: _Run) -> None:
    """Run a function that computes all gradients of a node together, into their homes where that is possible."""
    homes = state.captured is None and not state.create_graph
    wanted = state.wanted
    needs: list[Any] = []
    for edge in node.edges:
        if homes and edge.__class__ is Leaf and edge.grad is None and edge.home is not None and edge.hooks is None:
            edge.grad = home = edge.home  # reserved: a second use of this leaf adds to it
            needs.append(home.array)
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
    """Run the operation again on Tensors and return its gradient functions, which are then on the tape."""
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


def _check_unmodified(node: Node, create_graph: bool) -> None:
    """Refuse to use memory that this node saved and somebody changed in place since."""
    _check_views(node)
    if create_graph and node.op.linear:
        return
    saved = [a.array for a in node.args if hasattr(a, "_node")] if create_graph else _captured_arrays(node.vjps)
    for array in saved:
        line = modified_since(array, node.sequence)
        if line is not None:
            raise RuntimeError(
                f"backward: a tensor of shape {tuple(array.shape)} that {node.name()} (recorded at "
                f"{line_of(node.line)}) needs for its gradient was changed in place at {line_of(line)}; "
                "use the out-of-place operation or clone() the tensor first"
            )


def _check_views(node: Node) -> None:
    """Refuse a view that was taken before its memory got a new history, and used after."""
    for a, edge in zip(node.args, node.edges):
        base = getattr(a, "_base", None)
        if base is None or edge.__class__ is not Node or not edge.edges or edge.args[0] is not base[0]:
            continue
        now = base[0]._node
        if now is not edge.edges[0] and now.__class__ is Node and edge.sequence < now.sequence < node.sequence:
            raise RuntimeError(
                f"backward: {node.name()} (recorded at {line_of(node.line)}) uses a view of shape {tuple(a.shape)} "
                f"taken at {line_of(edge.line)}, but the memory was changed in place at "
                f"{line_of(now.line)} in between; take the view again after the change"
            )


def _captured_arrays(vjps: Any) -> list[Any]:
    found: list[Any] = []
    stack: list[Any] = list(vjps) if vjps.__class__ is tuple else [vjps]
    while stack:
        item: Any = stack.pop()
        if isinstance(item, FunctionType) and not hasattr(item, "body"):  # an operation holds no values
            for cell in item.__closure__ or ():
                try:
                    stack.append(cell.cell_contents)
                except ValueError:  # an empty cell
                    continue
        elif item.__class__ in (tuple, list):
            stack.extend(item)
        elif item.__class__ is MethodType:  # a Function's backward
            applied: Any = item.__self__
            stack.extend(t.array for t in applied.ctx.saved_tensors if t is not None)
        elif is_array(item):
            found.append(item)
    return found


def _check_anomaly(node: Node, g: Any) -> None:
    array = g.array if hasattr(g, "_node") else g
    if array.dtype.kind == "f" and bool(xp(array).isnan(array).any()):
        raise RuntimeError(f"{node.name()}: made a NaN in backward; its forward is at {line_of(node.line)}")


def _seed(output: Any, g: Any, create_graph: bool) -> Any:
    if output._node is None:
        raise RuntimeError(
            f"backward: the tensor of shape {tuple(output.shape)} does not require grad and has no history; "
            "was it computed under no_grad(), detached, or from tensors without requires_grad?"
        )
    if g is None:
        if output.array.size != 1:
            raise RuntimeError(
                f"backward: a gradient can be created only for one number, got shape {tuple(output.shape)}; "
                "reduce it (.sum(), .mean()) or pass gradient="
            )
        array = output.array
        ones = xp(array).ones(array.shape, array.dtype)  # ones_like is slower
        return wrap(ones) if create_graph else ones
    elif not hasattr(g, "_node"):
        raise TypeError(f"backward: gradient must be a Tensor, got {type(g).__name__}")
    if tuple(g.shape) != tuple(output.shape):
        raise RuntimeError(f"backward: gradient has shape {tuple(g.shape)}, the output {tuple(output.shape)}")
    return g if create_graph else g.array


def backward(
    tensors: Any,
    gradients: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Accumulate into `.grad` of every leaf the gradient of the given tensors (torch.autograd.backward)."""
    tensors = list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]
    if gradients is None:
        gradients = [None] * len(tensors)
    gradients = list(gradients) if isinstance(gradients, (list, tuple)) else [gradients]
    seeds = [_seed(t, g, create_graph) for t, g in zip(tensors, gradients)]
    retain = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        run([t._node for t in tensors], seeds, None, retain, create_graph)
        return
    inputs = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    captured = run([t._node for t in tensors], seeds, [t._node for t in inputs], retain, create_graph) or {}
    for t in inputs:
        g = captured[t._node]
        if g is not None:
            accumulate(t._node, g.array if hasattr(g, "_node") else g)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """Return the gradients of the outputs' sum with respect to each input, touching no `.grad` (torch.autograd.grad).

    Raises RuntimeError for an input that needs no gradient, or that the outputs do not depend on unless
    `allow_unused`.
    """
    outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    inputs = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    if grad_outputs is None:
        grad_outputs = [None] * len(outputs)
    grad_outputs = list(grad_outputs) if isinstance(grad_outputs, (list, tuple)) else [grad_outputs]
    for i, t in enumerate(inputs):
        if t._node is None:
            raise RuntimeError(f"grad: input {i} of shape {tuple(t.shape)} does not require grad")
    seeds = [_seed(t, g, create_graph) for t, g in zip(outputs, grad_outputs)]
    retain = create_graph if retain_graph is None else retain_graph
    captured = run([t._node for t in outputs], seeds, [t._node for t in inputs], retain, create_graph)
    assert captured is not None
    results: list[Any] = []
    for i, t in enumerate(inputs):
        g = captured[t._node]
        if g is None:
            if materialize_grads:
                g = xp(t.array).zeros_like(t.array)
            elif not allow_unused:
                raise RuntimeError(
                    f"grad: input {i} of shape {tuple(t.shape)} was not used in the graph; "
                    "pass allow_unused=True to get None for it"
                )
        results.append(g if g is None or hasattr(g, "_node") else wrap(np.array(g) if np.isscalar(g) else g))
    return tuple(results)
