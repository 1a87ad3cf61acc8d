"""Operations that move, view, join and split elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dynarl.autograd.device import xp
from dynarl.autograd.dispatch import overridable
from dynarl.autograd.dtypes import result_type
from dynarl.autograd.operands import fit
from dynarl.autograd.tape import primitive
from dynarl.autograd.tensor import wrap


@primitive(linear=True, views=True)
def _reshape(x: Any, *, shape: tuple[int, ...]) -> Any:
    before = x.shape
    return x.reshape(shape), (lambda g: g.reshape(before),)


def _sizes(shape: tuple[Any, ...]) -> tuple[int, ...]:
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    return tuple(int(s) for s in shape)


def reshape(input: Any, *shape: Any) -> Any:
    """Return the same elements in another shape; one size may be -1."""
    return _reshape(input, shape=_sizes(shape))


def view(input: Any, *shape: Any) -> Any:
    """Reshape; a dtype argument is not offered. Copies where the memory order demands it."""
    return _reshape(input, shape=_sizes(shape))


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Merge the dimensions start_dim to end_dim into one."""
    if input.ndim == 0:
        return input.reshape(1)
    start, end = start_dim % input.ndim, end_dim % input.ndim
    middle = math.prod(input.shape[start : end + 1])
    return _reshape(input, shape=(*input.shape[:start], middle, *input.shape[end + 1 :]))


def unflatten(input: Any, dim: int, sizes: Any) -> Any:
    """Split one dimension into several; one size may be -1."""
    dim %= input.ndim
    known = -math.prod(sizes) if -1 in sizes else 0
    sizes = tuple(input.shape[dim] // known if s == -1 else s for s in sizes)
    return _reshape(input, shape=(*input.shape[:dim], *sizes, *input.shape[dim + 1 :]))


def check_dim(input: Any, dim: int, name: str) -> None:
    """Raise IndexError for a dimension that the tensor does not have (a 0-dim tensor counts as one dimension)."""
    ndim = input.ndim or 1
    if not -ndim <= dim < ndim:
        raise IndexError(f"{name}: dim must be in [{-ndim}, {ndim - 1}] for shape {tuple(input.shape)}, got {dim}")


def unsqueeze(input: Any, dim: int) -> Any:
    """Insert a dimension of size 1 at dim."""
    if not -input.ndim - 1 <= dim <= input.ndim:
        raise IndexError(f"unsqueeze: dim must be in [{-input.ndim - 1}, {input.ndim}], got {dim}")
    dim %= input.ndim + 1
    return _reshape(input, shape=(*input.shape[:dim], 1, *input.shape[dim:]))


def squeeze(input: Any, dim: Any = None) -> Any:
    """Drop dimensions of size 1: all, or those named (which stay when larger)."""
    dims = range(input.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    for d in dims:
        check_dim(input, d, "squeeze")
    drop = {d % (input.ndim or 1) for d in dims}
    return _reshape(input, shape=tuple(s for i, s in enumerate(input.shape) if not (i in drop and s == 1)))


@primitive(linear=True, views=True)
def _transpose(x: Any, *, axes: tuple[int, ...]) -> Any:
    inverse = tuple(sorted(range(len(axes)), key=axes.__getitem__))
    return xp(x).transpose(x, axes), (lambda g: xp(g).transpose(g, inverse),)


def permute(input: Any, *dims: Any) -> Any:
    """Reorder the dimensions."""
    axes = tuple(d % input.ndim for d in _sizes(dims))
    if sorted(axes) != list(range(input.ndim)):
        raise RuntimeError(f"permute: dims must name each of {input.ndim} dimensions once, got {dims}")
    return _transpose(input, axes=axes)


def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """Swap two dimensions."""
    if input.ndim == 0:
        return input
    for dim in (dim0, dim1):
        check_dim(input, dim, "transpose")
    axes = list(range(input.ndim))
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return _transpose(input, axes=tuple(a % input.ndim for a in axes))


def t(input: Any) -> Any:
    """Transpose a matrix; a vector or number is returned as it is."""
    if input.ndim > 2:
        raise RuntimeError(f"t: expected at most 2 dimensions, got shape {tuple(input.shape)}; use transpose or mT")
    return transpose(input, 0, 1) if input.ndim == 2 else input


def movedim(input: Any, source: Any, destination: Any) -> Any:
    """Move dimensions to new places."""
    source = [source] if isinstance(source, int) else list(source)
    destination = [destination] if isinstance(destination, int) else list(destination)
    source, destination = [s % input.ndim for s in source], [d % input.ndim for d in destination]
    order = [d for d in range(input.ndim) if d not in source]
    for d, s in sorted(zip(destination, source)):
        order.insert(d, s)
    return _transpose(input, axes=tuple(order))


@primitive(linear=True, views=True)
def _broadcast_to(x: Any, *, shape: tuple[int, ...]) -> Any:
    return xp(x).broadcast_to(x, shape), (lambda g: fit(g, x),)


def expand(input: Any, *sizes: Any) -> Any:
    """Broadcast to sizes without copying; -1 keeps a size."""
    shape = _sizes(sizes)
    extra = len(shape) - input.ndim
    if extra < 0:
        raise RuntimeError(f"expand: needs at least {input.ndim} sizes for shape {tuple(input.shape)}, got {shape}")
    wanted = tuple(input.shape[i - extra] if s == -1 else s for i, s in enumerate(shape))
    if any(old not in (1, new) for old, new in zip(input.shape, wanted[extra:])):
        raise RuntimeError(f"expand: only sizes of 1 can grow, shape {tuple(input.shape)} cannot become {wanted}")
    return _broadcast_to(input, shape=wanted)


def expand_as(input: Any, other: Any) -> Any:
    """Broadcast to the shape of another tensor."""
    return _broadcast_to(input, shape=tuple(other.shape))


def broadcast_to(input: Any, size: Any) -> Any:
    """Broadcast to a shape without copying."""
    return expand(input, size)


def broadcast_tensors(*tensors: Any) -> tuple[Any, ...]:
    """Broadcast tensors to their common shape."""
    shape = np.broadcast_shapes(*(tuple(x.shape) for x in tensors))
    return tuple(_broadcast_to(x, shape=shape) for x in tensors)


def repeat(input: Any, *sizes: Any) -> Any:
    """Tile the tensor sizes[i] times along each dimension (NumPy's tile)."""
    shape = _sizes(sizes)
    if len(shape) < input.ndim:
        raise RuntimeError(f"repeat: needs at least {input.ndim} sizes for shape {tuple(input.shape)}, got {shape}")
    old = (1,) * (len(shape) - input.ndim) + tuple(input.shape)
    spread = _reshape(input, shape=tuple(n for s in old for n in (1, s)))
    spread = _broadcast_to(spread, shape=tuple(n for r, s in zip(shape, old) for n in (r, s)))
    return _reshape(spread, shape=tuple(r * s for r, s in zip(shape, old)))


def tile(input: Any, *dims: Any) -> Any:
    """Tile along each dimension; missing leading counts are 1."""
    shape = _sizes(dims)
    return repeat(input, (1,) * (input.ndim - len(shape)) + shape)


@overridable
def repeat_interleave(input: Any, repeats: Any, dim: int | None = None) -> Any:
    """Repeat each element along dim (of the flattened tensor without dim); repeats is a number or one per element."""
    if dim is None:
        input, dim = input.reshape(-1), 0
    np_ = xp(input.array)
    counts = getattr(repeats, "array", repeats)
    return input.index_select(dim, wrap(np_.repeat(np_.arange(input.shape[dim]), counts)))


@primitive(linear=True)
def _flip(x: Any, *, axis: Any) -> Any:
    return xp(x).flip(x, axis), (lambda g: xp(g).flip(g, axis),)


def flip(input: Any, *dims: Any) -> Any:
    """Reverse the order along dims."""
    return _flip(input, axis=_sizes(dims))


@primitive(linear=True)
def _roll(x: Any, *, shift: Any, axis: Any) -> Any:
    back = tuple(-s for s in shift) if isinstance(shift, tuple) else -shift
    return xp(x).roll(x, shift, axis), (lambda g: xp(g).roll(g, back, axis),)


def roll(input: Any, shifts: Any, dims: Any = None) -> Any:
    """Shift elements along dims, wrapping round."""
    shift = tuple(shifts) if isinstance(shifts, (tuple, list)) else shifts
    return _roll(input, shift=shift, axis=tuple(dims) if isinstance(dims, (tuple, list)) else dims)


@primitive(linear=True)
def _concatenate(*xs: Any, axis: int) -> Any:
    np_ = xp(xs[0])
    sizes = [x.shape[axis] for x in xs]
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    lead = (slice(None),) * (axis % xs[0].ndim)

    def part(i: int) -> Any:
        where = (*lead, slice(starts[i], starts[i + 1]))
        return lambda g: g[where]

    return np_.concatenate(xs, axis), tuple(part(i) for i in range(len(xs)))


_concatenate.__name__ = "cat"


def _same_dtypes(tensors: Any) -> list[Any]:
    tensors = [x if hasattr(x, "_node") else wrap(x) for x in tensors]
    first = tensors[0].dtype
    if all(x.dtype == first for x in tensors):
        return tensors
    dtype = result_type(*tensors)
    return [x if x.dtype == dtype else x.to(dtype) for x in tensors]


def cat(tensors: Any, dim: int = 0) -> Any:
    """Join tensors along an existing dimension."""
    if len(tensors) == 0:
        raise ValueError("cat: expected at least one tensor, got none")
    tensors = _same_dtypes(tensors)
    if any(
        x.shape == (0,) for x in tensors
    ):  # PyTorch ignores empty vectors here: buffer = tensor([]); cat((buffer, x))
        tensors = [x for x in tensors if x.shape != (0,)] or tensors[:1]
    return _concatenate(*tensors, axis=dim)


def stack(tensors: Any, dim: int = 0) -> Any:
    """Join tensors of one shape along a new dimension."""
    if len(tensors) == 0:
        raise ValueError("stack: expected at least one tensor, got none")
    shapes = {tuple(x.shape) for x in tensors}
    if len(shapes) > 1:
        raise RuntimeError(f"stack: all tensors must have one shape, got {sorted(shapes)}")
    return cat([unsqueeze(x, dim) for x in tensors], dim)


def hstack(tensors: Any) -> Any:
    """Join along the second dimension (the first for vectors)."""
    return cat(tensors, 0 if tensors[0].ndim == 1 else 1)


def vstack(tensors: Any) -> Any:
    """Join as rows."""
    return cat([x.reshape(1, -1) if x.ndim < 2 else x for x in tensors], 0)


def split(tensor: Any, split_size_or_sections: Any, dim: int = 0) -> tuple[Any, ...]:
    """Cut into pieces of a size (the last may be smaller) or of the given sizes."""
    total = tensor.shape[dim]
    sections = split_size_or_sections
    if isinstance(sections, int):
        sizes = [min(sections, total - start) for start in range(0, total, sections)]
    else:
        sizes = [int(s) for s in sections]
    if sum(sizes) != total:
        raise RuntimeError(f"split: sizes must sum to {total} along dim {dim}, got {sizes}")
    pieces, start = [], 0
    for size in sizes:
        pieces.append(narrow(tensor, dim, start, size))
        start += size
    return tuple(pieces)


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    """Cut into at most `chunks` pieces of equal size (the last may be smaller)."""
    return split(input, max(1, math.ceil(input.shape[dim] / chunks)), dim)


def narrow(input: Any, dim: int, start: int, length: int) -> Any:
    """Return the slice [start, start + length) along dim."""
    return input[(slice(None),) * (dim % input.ndim) + (slice(start, start + length),)]


def select(input: Any, dim: int, index: int) -> Any:
    """Return one slice along dim, without that dimension."""
    return input[(slice(None),) * (dim % input.ndim) + (index,)]


def unbind(input: Any, dim: int = 0) -> tuple[Any, ...]:
    """Return all slices along dim."""
    return tuple(select(input, dim, i) for i in range(input.shape[dim]))


@primitive(linear=True)
def _triangle(x: Any, *, diagonal: int, name: str) -> Any:
    return getattr(xp(x), name)(x, diagonal), (lambda g: getattr(xp(g), name)(g, diagonal),)


def tril(input: Any, diagonal: int = 0) -> Any:
    """Keep the lower triangle of matrices, zeros elsewhere."""
    return _triangle(input, diagonal=diagonal, name="tril")


def triu(input: Any, diagonal: int = 0) -> Any:
    """Keep the upper triangle of matrices, zeros elsewhere."""
    return _triangle(input, diagonal=diagonal, name="triu")


@overridable
def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """Return the diagonals over two dimensions, as the last dimension."""
    moved = movedim(input, (dim1, dim2), (-2, -1))
    rows, columns = moved.shape[-2:]
    count = max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
    index = xp(input.array).arange(count)
    return moved[..., wrap(index + max(0, -offset)), wrap(index + max(0, offset))]


_diagonal = diagonal


@overridable
def diag(input: Any, diagonal: int = 0) -> Any:
    """Return the diagonal of a matrix, or the matrix with this diagonal."""
    if input.ndim == 2:
        return _diagonal(input, diagonal)
    np_ = xp(input.array)
    size = input.shape[0] + abs(diagonal)
    return _embed(input, np_, size, diagonal)


def _embed(input: Any, np_: Any, size: int, offset: int) -> Any:
    index = np_.arange(input.shape[0])
    mask = np_.zeros((input.shape[0], size, size), dtype=input.dtype)
    mask[index, index + max(0, -offset), index + max(0, offset)] = 1
    return (input.reshape(-1, 1, 1) * wrap(mask)).sum(0)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Any, ...]:
    """Return coordinate grids of vectors."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if indexing == "xy" and len(tensors) > 1:
        grids = meshgrid(tensors[1], tensors[0], *tensors[2:])
        return tuple(transpose(g, 0, 1) for g in (grids[1], grids[0], *grids[2:]))
    shape = tuple(x.shape[0] for x in tensors)
    return tuple(
        expand(x.reshape(tuple(-1 if i == k else 1 for k in range(len(shape)))), shape) for i, x in enumerate(tensors)
    )
