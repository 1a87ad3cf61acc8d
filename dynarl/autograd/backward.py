"""`backward` and `grad`: the two ways to ask for gradients, with PyTorch's arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.autograd import dispatch
from dynarl.autograd.device import xp
from dynarl.autograd.engine import run_backward
from dynarl.autograd.gradients import accumulate
from dynarl.autograd.tensor import wrap

__all__ = ["backward", "grad"]


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
        run_backward([t._node for t in tensors], seeds, None, retain, create_graph)
        return
    inputs = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    captured = run_backward([t._node for t in tensors], seeds, [t._node for t in inputs], retain, create_graph) or {}
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
    if any([t.__class__ is dispatch.sample_type for t in (*outputs, *inputs)]):
        found: tuple[Any, ...] = dispatch.batching_rules["grad"](
            outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused, materialize_grads
        )
        return found
    if grad_outputs is None:
        grad_outputs = [None] * len(outputs)
    grad_outputs = list(grad_outputs) if isinstance(grad_outputs, (list, tuple)) else [grad_outputs]
    for i, t in enumerate(inputs):
        if t._node is None:
            raise RuntimeError(f"grad: input {i} of shape {tuple(t.shape)} does not require grad")
    seeds = [_seed(t, g, create_graph) for t, g in zip(outputs, grad_outputs)]
    retain = create_graph if retain_graph is None else retain_graph
    captured = run_backward([t._node for t in outputs], seeds, [t._node for t in inputs], retain, create_graph)
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
