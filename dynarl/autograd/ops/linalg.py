"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynarl.autograd.device import xp
from dynarl.autograd.operands import fit
from dynarl.autograd.tape import primitive


@primitive
def matmul(x: Any, y: Any) -> Any:
    """Multiply matrices with PyTorch's rules for vectors and batches: x [..., n, k] @ y [..., k, m]."""
    if x.ndim == 0 or y.ndim == 0:
        raise ValueError("both operands must have at least one dimension")
    if x.shape[-1] != y.shape[0 if y.ndim == 1 else -2]:
        raise ValueError("inner dimensions differ")
    if x.dtype != y.dtype:
        raise TypeError("both operands must have one dtype")

    def vjp_x(g: Any) -> Any:
        if x.ndim == 1:
            return g * y if y.ndim == 1 else fit((y @ g.reshape(*g.shape, 1)).reshape(*y.shape[:-1]), x)
        if y.ndim == 1:
            return g.reshape(*g.shape, 1) * y
        return fit(g @ y.swapaxes(-1, -2), x)

    def vjp_y(g: Any) -> Any:
        if y.ndim == 1:
            return g * x if x.ndim == 1 else fit((x * g.reshape(*g.shape, 1)), y)
        if x.ndim == 1:
            return fit(x.reshape(-1, 1) * g.reshape(*g.shape[:-1], 1, g.shape[-1]), y)
        return fit(x.swapaxes(-1, -2) @ g, y)

    return x @ y, (vjp_x, vjp_y)


def mm(input: Any, mat2: Any) -> Any:
    """Multiply two matrices [n, k] @ [k, m]."""
    return _checked("mm", input, mat2, 2, 2)


def bmm(input: Any, mat2: Any) -> Any:
    """Multiply batches of matrices [b, n, k] @ [b, k, m]."""
    return _checked("bmm", input, mat2, 3, 3)


def mv(input: Any, vec: Any) -> Any:
    """Multiply a matrix [n, k] with a vector [k]."""
    return _checked("mv", input, vec, 2, 1)


def dot(input: Any, tensor: Any) -> Any:
    """Return the inner product of two vectors."""
    return _checked("dot", input, tensor, 1, 1)


def _checked(name: str, x: Any, y: Any, x_dims: int, y_dims: int) -> Any:
    if x.ndim != x_dims or y.ndim != y_dims:
        raise ValueError(f"{name}: operands must have {x_dims} and {y_dims} dimensions, got {x.shape} and {y.shape}")
    return matmul(x, y)


def outer(input: Any, vec2: Any) -> Any:
    """Return the matrix of products of two vectors."""
    return input.reshape(-1, 1) * vec2.reshape(1, -1)


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """Return beta * input + alpha * (mat1 @ mat2)."""
    product = mm(mat1, mat2)
    return (input if beta == 1 else input * beta) + (product if alpha == 1 else product * alpha)


def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """Return beta * input + alpha * bmm(batch1, batch2)."""
    return input * beta + bmm(batch1, batch2) * alpha


def _parse(equation: str, dims: list[int]) -> tuple[list[str], str]:
    equation = equation.replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(dims):
        raise ValueError(f"einsum: {equation!r} names {len(terms)} operands, got {len(dims)}")
    used = set(equation)
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in used]
    longest = max((n - len(t.replace("...", "")) for t, n in zip(terms, dims) if "..." in t), default=0)
    dots = "".join(free[:longest])
    filled = []
    for term, n in zip(terms, dims):
        if "..." in term:
            count = n - len(term.replace("...", ""))
            term = term.replace("...", dots[longest - count :] if count else "")
        if len(term) != n:
            raise ValueError(f"einsum: {term!r} in {equation!r} names {len(term)} dimensions, its operand has {n}")
        filled.append(term)
    if arrow:
        return filled, right.replace("...", dots)
    letters = "".join(filled)
    return filled, dots + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in dots))


@primitive
def _einsum(*operands: Any, terms: tuple[str, ...], out: str) -> Any:
    np_ = xp(operands[0])
    if len(operands) == 1:
        value = np_.einsum(f"{terms[0]}->{out}", operands[0])
    else:
        optimize = {} if hasattr(operands[0], "_node") else {"optimize": True}
        value = np_.einsum(f"{','.join(terms)}->{out}", *operands, **optimize)

    def vjp_of(i: int) -> Any:
        def vjp(g: Any) -> Any:
            others = [(t, x) for j, (t, x) in enumerate(zip(terms, operands)) if j != i]
            known = set(out).union(*(t for t, _ in others)) if others else set(out)
            target = "".join(c for c in dict.fromkeys(terms[i]) if c in known)
            spec = ",".join([out, *(t for t, _ in others)])
            part = xp(g).einsum(f"{spec}->{target}", g, *(x for _, x in others))
            return _spread(part, target, terms[i], operands[i].shape)

        return vjp

    return value, tuple(vjp_of(i) for i in range(len(operands)))


def _spread(part: Any, have: str, want: str, shape: tuple[int, ...]) -> Any:
    """Broadcast a gradient over letters of one operand only, and place it on the diagonal of repeated letters."""
    unique = "".join(dict.fromkeys(want))
    sizes = dict(zip(want, shape))
    expanded = part.reshape(tuple(sizes[c] if c in have else 1 for c in unique))
    expanded = xp(part).broadcast_to(expanded, tuple(sizes[c] for c in unique))
    if unique == want:
        return expanded
    letters = {c: i for i, c in enumerate(unique)}
    grids = np.indices(tuple(sizes[c] for c in unique), sparse=True)
    mask = np.ones((1,) * len(want), dtype=bool)
    for axis, c in enumerate(want):
        first = want.index(c)
        if axis != first:
            index = np.arange(sizes[c])
            a = index.reshape([-1 if k == first else 1 for k in range(len(want))])
            b = index.reshape([-1 if k == axis else 1 for k in range(len(want))])
            mask = mask & (a == b)
    assert len(grids) == len(letters)
    position = [want.index(c) for c in unique]
    full = expanded.reshape(tuple(sizes[unique[position.index(k)]] if k in position else 1 for k in range(len(want))))
    return full * xp(part).asarray(mask.astype(part.dtype))


def einsum(equation: str, *operands: Any) -> Any:
    """Sum products of operands by Einstein's convention ("ij,jk->ik"), ellipsis included."""
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    terms, out = _parse(equation, [x.ndim for x in operands])
    return _einsum(*operands, terms=tuple(terms), out=out)
