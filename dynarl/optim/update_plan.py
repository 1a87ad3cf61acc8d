"""Update plans: a parameter group as spans, contiguous parts of a flat buffer that one vector operation updates.

A plan splits a parameter group into the longest possible spans. It stays valid, and then costs only its check, as
long as every parameter keeps its array and its gradient is in the flat buffer. Any other gradient (assigned by the
user, or of a replaced `p.data`) is a span of one parameter, and the plan is made again at each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.device import xp
from dynarl.autograd.flat import Flat, flatten
from dynarl.autograd.graph import Leaf
from dynarl.autograd.tensor import wrap

__all__ = ["Span", "StateBuffers", "UpdatePlan"]


class Span:
    """Arrays of one shape: parameters, gradients, state, and scratch space.

    `states` holds the per-parameter dicts of the members; `fresh` says that their state arrays are new (zeros).
    """

    __slots__ = ("arrays", "data", "fresh", "grad", "scratch", "states", "xp")

    def __init__(self, data: Any, grad: Any, arrays: tuple[Any, ...], states: list[dict[str, Any]], fresh: bool):
        self.data, self.grad, self.arrays, self.states, self.fresh = data, grad, arrays, states, fresh
        self.xp = xp(data)
        self.scratch = self.xp.empty_like(data), self.xp.empty_like(data)

    @property
    def step(self) -> int:
        """The number of updates of the members, including the current one."""
        return int(self.states[0]["step"])

    def count_step(self) -> None:
        """Count the current update for every member."""
        step = self.states[0].get("step", 0) + 1
        for state in self.states:
            state["step"] = step

    def gradient(self, weight_decay: float, maximize: bool) -> Any:
        """Return the gradient with sign and L2 penalty applied, in the second scratch array."""
        grad, (term, total) = self.grad, self.scratch
        if maximize:
            grad = self.xp.negative(grad, out=total)
        if weight_decay:
            grad = self.xp.add(grad, self.xp.multiply(self.data, weight_decay, out=term), out=total)
        return grad


class StateBuffers:
    """State arrays with the layout of a group's flat buffers: one per buffer and name, created when needed."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, str], tuple[Flat, int, Any]] = {}
        self._views: dict[tuple[int, str, int], Tensor] = {}

    def buffer(self, flat: Flat, name: str, low: int, high: int) -> tuple[int, Any]:
        """Return (offset, array) of the buffer that covers at least flat.data[low:high]."""
        entry = self._buffers.get((id(flat), name))
        if entry is None or low < entry[1] or high > entry[1] + entry[2].size:
            array = xp(flat.data).zeros_like(flat.data[low:high])
            entry = self._buffers[id(flat), name] = (flat, low, array)
            self._views = {key: view for key, view in self._views.items() if key[:2] != (id(flat), name)}
        return entry[1], entry[2]

    def adopt(self, state: dict[str, Any], name: str, p: Tensor, leaf: Leaf, extent: tuple[int, int]) -> None:
        """Move one state array of a parameter into the buffer, zeros where it has none."""
        offset, array = self.buffer(leaf.flat, name, *extent)
        key = (id(leaf.flat), name, leaf.start)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = wrap(array[leaf.start - offset : leaf.stop - offset].reshape(p.shape))
        current = state.get(name)
        if current is not view:
            view.array[...] = 0 if current is None else current.array
            state[name] = view


class UpdatePlan:
    """The spans of one parameter group, and the conditions under which they are still valid."""

    __slots__ = ("_absent", "_in_buffer", "names", "params", "reusable", "spans")

    def __init__(
        self,
        params: Sequence[Tensor],
        names: tuple[str, ...],
        state: dict[Tensor, dict[str, Any]],
        buffers: StateBuffers,
    ) -> None:
        flatten(params)
        self.names, self.params = names, tuple(params)
        self.spans: list[Span] = []
        # A plan must not refer to leaf.grad_view: the engine counts its references (tensor.release_grad_view).
        self._in_buffer: list[tuple[Tensor, Any, Leaf]] = []
        self._absent: list[tuple[Tensor, Leaf | None]] = []
        in_buffer: dict[Flat, list[tuple[Leaf, Tensor]]] = {}
        for p in params:
            leaf = p._leaf
            if leaf is None or leaf.grad is None:
                self._absent.append((p, leaf))
            elif leaf.grad is leaf.grad_view:
                self._in_buffer.append((p, p.array, leaf))
                in_buffer.setdefault(leaf.flat, []).append((leaf, p))
            else:
                self.spans.append(_single_span(p, leaf.grad.array, names, state))
        self.reusable = not self.spans
        for flat, members in in_buffer.items():
            self._add_spans(flat, members, state, buffers)
        self.reusable = self.reusable and not any(span.fresh for span in self.spans)

    def holds(self, params: Sequence[Tensor], names: tuple[str, ...]) -> bool:
        """Return whether the spans still describe the group."""
        if names != self.names or len(params) != len(self.params):
            return False
        for p, array, leaf in self._in_buffer:
            if leaf.grad is not leaf.grad_view or p.array is not array:
                return False
        for p, known in self._absent:
            if p._leaf is not known or (known is not None and known.grad is not None):
                return False
        return True

    def _add_spans(
        self,
        flat: Flat,
        members: list[tuple[Leaf, Tensor]],
        state: dict[Tensor, dict[str, Any]],
        buffers: StateBuffers,
    ) -> None:
        members.sort(key=lambda member: member[0].start)
        extent = members[0][0].start, members[-1][0].stop
        pieces: list[tuple[Any, list[tuple[Leaf, Tensor]]]] = []
        for leaf, p in members:
            entry = state[p] if self.names else {}
            key = entry.get("step", 0), any(name not in entry for name in self.names)
            if not pieces or pieces[-1][0] != key or pieces[-1][1][-1][0].stop != leaf.start:
                pieces.append((key, []))
            pieces[-1][1].append((leaf, p))
            for name in self.names:
                buffers.adopt(entry, name, p, leaf, extent)
        for (_, fresh), piece in pieces:
            start, stop = piece[0][0].start, piece[-1][0].stop
            arrays = []
            for name in self.names:
                offset, array = buffers.buffer(flat, name, *extent)
                arrays.append(array[start - offset : stop - offset])
            states = [state[p] for _, p in piece] if self.names else []
            self.spans.append(Span(flat.data[start:stop], flat.grad[start:stop], tuple(arrays), states, fresh))


def _single_span(p: Tensor, grad: Any, names: tuple[str, ...], state: dict[Tensor, dict[str, Any]]) -> Span:
    if not names:
        return Span(p.array, grad, (), [], False)
    entry = state[p]
    fresh = any(name not in entry for name in names)
    for name in names:
        if name not in entry:
            entry[name] = wrap(xp(p.array).zeros_like(p.array))
    return Span(p.array, grad, tuple(entry[name].array for name in names), [entry], fresh)
