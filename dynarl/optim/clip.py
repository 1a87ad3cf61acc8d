"""Gradient clipping, and parameters as one vector (PyTorch's torch.nn.utils)."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite, sqrt
from typing import Any

import numpy as np

from dynarl.autograd import Tensor
from dynarl.autograd.device import xp
from dynarl.autograd.ops.shape import cat
from dynarl.autograd.tensor import wrap
from dynarl.autograd.versions import mark_modified

__all__ = ["clip_grad_norm_", "clip_grad_value_", "parameters_to_vector", "vector_to_parameters"]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients in place so that the norm of their concatenation is at most `max_norm`.

    Returns the norm before clipping, a 0-dim Tensor (0 where no parameter has a gradient). The factor is
    max_norm / (norm + 1e-6), at most 1. `foreach` has no effect. Raises RuntimeError for a
    norm that is not finite if `error_if_nonfinite`; otherwise every gradient then becomes that (NaN or 0).
    """
    pieces = _gradient_pieces(parameters)
    if not pieces:
        return _result(np.zeros((), np.float32))
    norm = _norm(pieces, norm_type)
    if error_if_nonfinite and not isfinite(norm):
        raise RuntimeError(
            f"clip_grad_norm_: the total norm of order {norm_type} of the gradients is {float(norm)}, so it cannot be "
            "clipped; pass error_if_nonfinite=False to clip anyway"
        )
    if norm.__class__ is not float:  # on a GPU the norm stays on the device: reading it would wait for queued work
        factor = xp(norm).minimum(float(max_norm) / (norm + 1e-6), 1.0)
        for piece in pieces:
            piece *= factor.astype(piece.dtype)
            mark_modified(piece)
        return _result(norm.astype(pieces[0].dtype))
    factor = float(max_norm) / (norm + 1e-6)
    if not factor >= 1.0:  # true for NaN as well
        with np.errstate(invalid="ignore"):  # inf * 0 is NaN, as in PyTorch
            for piece in pieces:
                np.multiply(piece, factor, piece)
                mark_modified(piece)
    return _result(np.array(norm, pieces[0].dtype))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Clamp every gradient element to [-clip_value, clip_value] in place."""
    limit = float(clip_value)
    for piece in _gradient_pieces(parameters):
        xp(piece).clip(piece, -limit, limit, out=piece)
        mark_modified(piece)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """Concatenate parameters, flattened, into one differentiable vector."""
    vector: Tensor = cat([p.reshape(-1) for p in parameters])
    return vector


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy consecutive pieces of a vector into the parameters, in place (PyTorch makes them views of it).

    Raises ValueError unless the vector has exactly as many elements as the parameters together.
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"vector_to_parameters: expected a Tensor, got {type(vec).__name__}")
    targets = list(parameters)
    total = sum(p.array.size for p in targets)
    if vec.array.shape != (total,):
        raise ValueError(
            f"vector_to_parameters: expected a vector of {total} elements, as many as the parameters have, "
            f"got shape {tuple(vec.array.shape)}"
        )
    start = 0
    for p in targets:
        stop = start + p.array.size
        p.array[...] = vec.array[start:stop].reshape(p.array.shape)
        mark_modified(p.array)
        start = stop


def _result(norm: Any) -> Tensor:
    result: Tensor = wrap(norm)
    return result


def _gradient_pieces(parameters: Tensor | Iterable[Tensor]) -> list[Any]:
    """Return arrays that hold all gradients: contiguous parts of the flat buffers, other gradients one by one."""
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    pieces: list[Any] = []
    flat: Any = None
    start = stop = -1
    for p in parameters:
        leaf = p._leaf
        if leaf is None or leaf.grad is None:
            continue
        if leaf.grad is not leaf.grad_view:
            pieces.append(leaf.grad.array)
        elif leaf.start == stop and leaf.flat is flat:
            stop = leaf.stop
        else:
            if flat is not None:
                pieces.append(flat.grad[start:stop])
            flat, start, stop = leaf.flat, leaf.start, leaf.stop
    if flat is not None:
        pieces.append(flat.grad[start:stop])
    return pieces


def _norm(pieces: list[Any], order: float) -> Any:
    """Return the norm over all pieces: a float for NumPy's arrays, a 0-dim array on other devices."""
    if order == 2.0:
        if len(pieces) == 1 and pieces[0].__class__ is np.ndarray and pieces[0].ndim == 1:
            return sqrt(pieces[0].dot(pieces[0]))
        total = _total([g.reshape(-1).dot(g.reshape(-1)) for g in pieces])
        return sqrt(total) if total.__class__ is float else xp(total).sqrt(total)
    if order == inf:
        tops = [xp(g).abs(g).max() for g in pieces if g.size]
        if not tops or pieces[0].__class__ is np.ndarray:
            return float(max(map(float, tops), default=0.0))
        return xp(tops[0]).stack(tops).max()
    total = _total([(xp(g).abs(g) ** order).sum() for g in pieces])
    return total ** (1.0 / order)


def _total(terms: list[Any]) -> Any:
    if isinstance(terms[0], np.generic):
        return float(sum(map(float, terms)))
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
