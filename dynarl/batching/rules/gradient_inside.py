"""Gradients inside per-sample programs: `dynarl.autograd.grad` of one sample's number, and leaves made by a program.

Rows are independent, so the gradient of the sum over rows has each sample's own gradient in its row. With respect to a
tensor that all samples share, a parameter, every row takes a backward pass of its own. The graph is always kept: other
samples, and backward on the batch outside, may need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynarl.autograd import Tensor
from dynarl.autograd.device import xp
from dynarl.autograd.engine import run_backward
from dynarl.autograd.graph import Leaf
from dynarl.autograd.ops.shape import stack
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.execution import Execution, ended, state
from dynarl.batching.groups.group import PerSampleError
from dynarl.batching.groups.rows import take_rows
from dynarl.batching.rules.change_in_place import must_track_views
from dynarl.batching.values.changes import held_by, set_state
from dynarl.batching.values.sample_tensor import SampleTensor

__all__ = ["grad"]

_GRADIENT = "a gradient"
_LEAF = "a leaf that requires grad"


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """Return one sample's gradients as `dynarl.autograd.grad` does."""
    execution = _current()
    if execution.replaying():
        found: tuple[Any, ...] = execution.recall(_GRADIENT)
        return found
    outs, ins = _listed(outputs), _listed(inputs)
    given = [None] * len(outs) if grad_outputs is None else _listed(grad_outputs)
    for i, t in enumerate(ins):
        if t._node is None:
            raise RuntimeError(f"grad: input {i} of shape {tuple(t.shape)} does not require grad")
    seeds = [_seed(execution, out, g) for out, g in zip(outs, given)]
    rows = [execution.rows(out) if out.__class__ is SampleTensor else out for out in outs]
    own = [execution.source(t) for t in ins if t.__class__ is SampleTensor]
    captured = _pulled(rows, seeds, [tensor for tensor, _ in own], create_graph)
    found_own = iter([_own_rows(g, places) for g, (_, places) in zip(captured, own)])
    shared = [t for t in ins if t.__class__ is not SampleTensor]
    found_shared = iter(_of_each_row(rows, seeds, shared, create_graph, execution.group.size) if shared else ())
    results: list[Any] = []
    for i, t in enumerate(ins):
        g = next(found_own if t.__class__ is SampleTensor else found_shared)
        if g is None and not materialize_grads and not allow_unused:
            raise RuntimeError(
                f"grad: input {i} of shape {tuple(t.shape)} was not used in the graph; "
                "pass allow_unused=True to get None for it"
            )
        if g is None and materialize_grads:
            g = wrap(xp(rows[0].array).zeros((execution.group.size, *t.shape), dtype=t.dtype))
        results.append(None if g is None else execution.of_rows(g))
    execution.step()
    execution.remember(_GRADIENT, tuple(results))
    return tuple(results)


def _current() -> Execution:
    if state.execution is None:
        raise ended()
    return state.execution


def _listed(tensors: Any) -> list[Any]:
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]


def _seed(execution: Execution, output: Any, g: Any) -> Any:
    """Return the gradient [n, ...] of an output."""
    if output._node is None:
        raise RuntimeError(
            f"backward: the tensor of shape {tuple(output.shape)} does not require grad and has no history; "
            "was it computed under no_grad(), detached, or from tensors without requires_grad?"
        )
    if output.__class__ is not SampleTensor:
        raise PerSampleError(
            f"grad: the output of shape {tuple(output.shape)} is shared by all samples; compute its gradient outside"
        )
    size = execution.group.size
    if g is None:
        if output.numel() != 1:
            raise RuntimeError(
                f"backward: a gradient can be created only for one number, got shape {tuple(output.shape)}; "
                "reduce it (.sum(), .mean()) or pass gradient="
            )
        rows = execution.rows(output).array
        return wrap(xp(rows).ones(rows.shape, rows.dtype))
    if tuple(g.shape) != tuple(output.shape):
        raise RuntimeError(f"backward: gradient has shape {tuple(g.shape)}, the output {tuple(output.shape)}")
    return execution.rows(g) if g.__class__ is SampleTensor else g.expand((size, *g.shape))


def _pulled(outputs: Sequence[Any], seeds: Sequence[Any], inputs: Sequence[Any], create_graph: bool) -> list[Any]:
    """Return the gradients of the sum over all rows, None for inputs that are not in the graph."""
    if not inputs:
        return []
    raw = [seed if create_graph else seed.array for seed in seeds]
    captured = run_backward([out._node for out in outputs], raw, [t._node for t in inputs], True, create_graph)
    assert captured is not None
    found = [captured[t._node] for t in inputs]
    return [g if g is None or isinstance(g, Tensor) else wrap(g) for g in found]


def _own_rows(g: Any, places: Any) -> Any:
    return g if g is None or places is None else take_rows(g, rows=places)


def _of_each_row(
    outputs: Sequence[Any], seeds: Sequence[Any], inputs: Sequence[Any], create_graph: bool, size: int
) -> list[Any]:
    """Return for shared inputs the gradient [n, ...] of each row's own output: one backward pass for each row."""
    found: list[list[Any]] = []
    for i in range(size):
        mask = [(wrap(xp(seed.array).arange(size)) == i).reshape(size, *(1,) * (seed.ndim - 1)) for seed in seeds]
        own = [seed * m.to(seed.dtype) for seed, m in zip(seeds, mask)]
        found.append(_pulled(outputs, own, inputs, create_graph))
    return [None if column[0] is None else stack(list(column)) for column in zip(*found)]


# -- leaves -----------------------------------------------------------------------------------------------------------


def _requires_grad_(self: SampleTensor, requires_grad: bool = True) -> SampleTensor:
    """Switch the gradient of a leaf on or off, in place."""
    if not self.is_leaf:
        if requires_grad:
            return self
        raise RuntimeError("requires_grad_: only leaf tensors can stop requiring grad; use detach()")
    if requires_grad == (self._node is not None):
        return self
    if requires_grad and self.dtype.kind != "f":
        raise RuntimeError(f"requires_grad_: only floating tensors can require grad, got {self.dtype}")
    _replace(self, lambda rows: wrap(rows.array, Leaf() if requires_grad else None))
    return self


def _detach_(self: SampleTensor) -> SampleTensor:
    """Forget the history in place."""
    if self._node is not None:
        _replace(self, lambda rows: wrap(rows.array))
    return self


def _replace(x: SampleTensor, function: Any) -> None:
    """Give a tensor the same values with another history."""
    execution = _current()
    if execution.run.lockstep:
        must_track_views(execution)
    if execution.replaying():
        made = execution.recall(_LEAF)
    else:
        made = execution.of_rows(function(execution.rows(x)))
        execution.remember(_LEAF, made)
    execution.run.undo.append(held_by(x))
    set_state(x, made.tensor, made.group)


SampleTensor.requires_grad_ = _requires_grad_  # type: ignore[method-assign, assignment]
SampleTensor.detach_ = _detach_  # type: ignore[method-assign, assignment]
