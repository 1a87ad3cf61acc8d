"""Indexing: reading and writing parts of a tensor, by slices, masks and index arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dynarl.autograd import dispatch
from dynarl.autograd.device import xp
from dynarl.autograd.dispatch import overridable
from dynarl.autograd.grad_mode import mode
from dynarl.autograd.gradients import IndexedGradient
from dynarl.autograd.operands import describe
from dynarl.autograd.ops.elementwise import where
from dynarl.autograd.ops.views import check_inplace, follow, viewed
from dynarl.autograd.tape import call, primitive, record
from dynarl.autograd.tensor import wrap
from dynarl.autograd.versions import mark_modified

_BASIC = (int, slice, type(None), type(Ellipsis))
_KINDS = frozenset(_BASIC)


def raw_index(index: Any) -> Any:
    """Return an index with raw arrays in place of Tensors and lists."""
    if isinstance(index, tuple):
        return tuple(raw_index(i) for i in index)
    if hasattr(index, "_node"):
        array = index.array
        return int(array) if array.ndim == 0 and array.dtype.kind in "iu" else array
    if isinstance(index, list):
        return np.asarray(index)
    return index


def _is_basic(index: Any) -> bool:
    if index.__class__ is not tuple:
        return type(index) in _KINDS or _is_number(index)
    for part in index:  # noqa: SIM110  (all() costs three times as much)
        if type(part) not in _KINDS and not _is_number(part):
            return False
    return True


def _is_number(part: Any) -> bool:
    """Return whether an index of another class is basic; a number that differs between samples is not."""
    return isinstance(part, _BASIC) and not hasattr(part, "as_index")


def _cannot_repeat(index: Any) -> bool:
    """Return whether an index cannot repeat an element: slices, numbers and masks cannot, index arrays can."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(isinstance(i, _BASIC) or getattr(i, "dtype", None) == np.bool_ for i in parts)


@primitive(linear=True, views=True)
def _getitem(x: Any, *, index: Any) -> Any:
    shape = x.shape
    out = x[index]
    if isinstance(out, np.generic):  # one element: NumPy copies it as a scalar; with `...` the result is a 0-dim view
        out = x[(*index, ...)] if isinstance(index, tuple) else x[index, ...]
    if not _is_basic(index) and not _cannot_repeat(index):
        return out, (lambda g: call(_spread, g, index=index, shape=shape),)
    return out, (
        lambda g: (
            call(_spread, g, index=index, shape=shape) if hasattr(g, "_node") else IndexedGradient(g, index, shape)
        ),
    )


@primitive(linear=True)
def _spread(x: Any, *, index: Any, shape: tuple[int, ...]) -> Any:
    """Add x at `index` into zeros of a shape; values at repeated elements add up."""
    if hasattr(x, "_node"):
        return x, (lambda g: g[index],)
    np_ = xp(x)
    if _cannot_repeat(index):
        out = np_.zeros(shape, dtype=x.dtype)
        out[index] = x
        return out, (lambda g: g[index],)
    positions = np_.arange(math.prod(shape)).reshape(shape)[index]
    return sum_at(x, positions, shape), (lambda g: g[index],)


def sum_at(values: Any, positions: Any, shape: tuple[int, ...]) -> Any:
    """Sum values into zeros of a shape at flat positions, in a fixed order, so that results are reproducible."""
    np_ = xp(values)
    size = math.prod(shape)
    values, positions = np_.broadcast_to(values, positions.shape).reshape(-1), positions.reshape(-1)
    if values.dtype.kind != "f":
        out = np_.zeros(size, dtype=values.dtype)
        np_.add.at(out, positions, values)
        return out.reshape(shape)
    if np_ is np:
        return np.bincount(positions, weights=values, minlength=size).astype(values.dtype).reshape(shape)
    # On a GPU the atomic adds of bincount and scatter_add come in any order: sort and take differences instead.
    out = np_.zeros(size, dtype="float64")
    if positions.shape[0]:
        order = np_.argsort(positions, kind="stable")
        ordered, sums = positions[order], np_.cumsum(values[order].astype("float64"))
        last = np_.concatenate([ordered[1:] != ordered[:-1], np_.ones(1, dtype=bool)])
        ends = sums[last]
        out[ordered[last]] = np_.concatenate([ends[:1], ends[1:] - ends[:-1]])
    return out.astype(values.dtype).reshape(shape)


@overridable
def getitem(x: Any, index: Any) -> Any:
    """Return x[index] with NumPy's and PyTorch's indexing; slices share memory with x."""
    if _is_basic(index):
        return _getitem(x, index=index)
    if index.__class__ is tuple and any([part.__class__ is dispatch.sample_type for part in index]):
        return dispatch.batching_rules["getitem"](x, index)
    parts = index if index.__class__ is tuple else (index,)
    if any([hasattr(part, "as_index") for part in parts]):
        found = tuple([part.as_index(x) if hasattr(part, "as_index") else part for part in parts])
        return getitem(x, found if index.__class__ is tuple else found[0])
    index = raw_index(index)
    if _is_basic(index):
        return _getitem(x, index=index)
    index = _on_device(index, x.array)
    first, then = _numbers_first(index)
    return _getitem(x if first is None else _getitem(x, index=first), index=then)


def _numbers_first(index: Any) -> tuple[Any, Any]:
    """Split an index where a number is separated from an index array, as x[0, :, array]: PyTorch applies it first.

    NumPy would treat the number as an index array, and move the indexed dimension to the front.
    """
    if not isinstance(index, tuple):
        return None, index
    places = [k for k, part in enumerate(index) if not isinstance(part, _BASIC) or part.__class__ is int]
    if places[-1] - places[0] == len(places) - 1 or not any(index[k].__class__ is int for k in places):
        return None, index
    first: list[Any] = []
    then: list[Any] = []
    for part in index:
        if not isinstance(part, _BASIC):
            first += [slice(None)] * (part.ndim if part.dtype == np.bool_ else 1)
            then.append(part)
        else:
            first.append(part)
            if part.__class__ is not int:
                then.append(part if part is Ellipsis else slice(None))
    return tuple(first), tuple(then)


def _on_device(index: Any, array: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_on_device(i, array) for i in index)
    return xp(array).asarray(index) if isinstance(index, np.ndarray) and xp(array) is not np else index


def _setitem_lifted(x: Any, value: Any, *, index: Any) -> Any:
    return (lambda g: _setitem_masked(g, index=index), lambda g: g[index])


@primitive(linear=True)
def _setitem_masked(g: Any, *, index: Any) -> Any:
    """Return g with zeros at `index`."""
    if hasattr(g, "_node"):
        return g, (lambda h: _setitem_masked(h, index=index),)
    out = xp(g).array(g)
    out[index] = 0
    return out, (lambda h: call(_setitem_masked, h, index=index),)


@primitive(lifted=_setitem_lifted, linear=True)
def _setitem(x: Any, value: Any, *, index: Any) -> Any:
    x[index] = value
    shape = getattr(value, "shape", ())

    def vjp_value(g: Any) -> Any:
        part = g[index]
        extra = part.ndim - len(shape)
        axes = (*range(extra), *(i + extra for i, s in enumerate(shape) if s == 1 and part.shape[i + extra] != 1))
        return (part.sum(axis=axes, keepdims=True) if axes else part).reshape(shape)

    return x, (lambda g: call(_setitem_masked, g, index=index), vjp_value)


def setitem(x: Any, index: Any, value: Any) -> None:
    """Assign x[index] = value in place; gradients flow to the remaining elements of x and to the value."""
    parts = index if index.__class__ is tuple else (index,)
    if value.__class__ is dispatch.sample_type or any([part.__class__ is dispatch.sample_type for part in parts]):
        dispatch.batching_rules["refuse_shared"](x, "setitem")
    if dispatch.call_module is not None:  # a batched call runs
        dispatch.refuse_memory(x, "setitem")
    index = raw_index(index)
    needs = mode.recording and (x._node is not None or getattr(value, "_node", None) is not None)
    if needs:
        check_inplace(x, "setitem")
        if viewed(value) is not None:  # the value may share memory with the region written to
            value = value.clone()
    raw = value.array if hasattr(value, "_node") else value
    if not _is_basic(index):
        index = _on_device(index, x.array)
        first, then = _numbers_first(index)
        if first is not None:
            setitem(_getitem(x, index=first), then, value)
            return
    try:
        x.array[index] = raw
    except (ValueError, TypeError, IndexError) as error:
        raise type(error)(f"setitem: {error}, got {describe((x, value))}") from error
    mark_modified(x.array)
    if needs:
        before = wrap(x.array, x._node)
        if not hasattr(value, "_node"):
            value = wrap(xp(x.array).asarray(raw, dtype=x.dtype))
        _, vjps = _setitem.body(x.array, value.array, index=index)
        edges = [before._node, value._node]
        follow(x, record(_setitem, (before, value), {"index": index}, x.array, vjps, edges))


@primitive(linear=True)
def _take_along(x: Any, *, index: Any, axis: int) -> Any:
    shape = x.shape
    return xp(x).take_along_axis(x, index, axis), (
        lambda g: call(_spread_along, g, index=index, axis=axis, shape=shape),
    )


def _grid(np_: Any, index: Any, axis: int) -> tuple[Any, ...]:
    shape = index.shape
    return tuple(
        index if i == axis else np_.arange(n).reshape(tuple(n if k == i else 1 for k in range(len(shape))))
        for i, n in enumerate(shape)
    )


@primitive(linear=True)
def _spread_along(x: Any, *, index: Any, axis: int, shape: tuple[int, ...]) -> Any:
    vjps = (lambda g: call(_take_along, g, index=index, axis=axis),)
    if hasattr(x, "_node"):
        return x, vjps
    np_ = xp(x)
    where = _grid(np_, index, axis % index.ndim)
    if index.shape[axis] == 1:
        out = np_.zeros(shape, dtype=x.dtype)
        out[where] = x
        return out, vjps
    positions = np_.arange(math.prod(shape)).reshape(shape)[where]
    return sum_at(x, positions, shape), vjps


@overridable
def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    """Take elements along dim by an index of the same number of dimensions, broadcasting the others."""
    if dim is None:
        return _take_along(input.reshape(-1), index=indices.array.reshape(-1), axis=0)
    index = indices.array
    np_ = xp(index)
    axis = dim % input.ndim
    shape = tuple(s for i, s in enumerate(input.shape) if i != axis)
    rest = tuple(s for i, s in enumerate(index.shape) if i != axis)
    if shape != rest:
        common = (
            np_.broadcast_shapes(shape, rest) if hasattr(np_, "broadcast_shapes") else np.broadcast_shapes(shape, rest)
        )
        index = np_.broadcast_to(index, (*common[:axis], index.shape[axis], *common[axis:]))
        input = input.expand(*common[:axis], input.shape[axis], *common[axis:])
    return _take_along(input, index=index, axis=axis)


@overridable
def gather(input: Any, dim: int, index: Any) -> Any:
    """Return out[i][j] = input[index[i][j]][j] (dim 0); index may be smaller than input in the other dims."""
    array = getattr(index, "array", index)
    if array.ndim != input.ndim:
        raise RuntimeError(
            f"gather: index must have as many dimensions as input, got index {tuple(array.shape)} "
            f"for input {tuple(input.shape)}"
        )
    if array.dtype.kind not in "iu":
        raise TypeError(f"gather: index must be an integer tensor, got {array.dtype}; convert with .long()")
    if input.ndim == 0:
        return input
    axis = dim % input.ndim
    size = input.shape[axis]
    if array.size and isinstance(array, np.ndarray) and not (array.min() >= 0 and array.max() < size):
        raise IndexError(f"gather: indices must be in [0, {size}), got {array.min()} to {array.max()}")
    for i, (have, want) in enumerate(zip(input.shape, array.shape)):
        if i != axis and want != have:
            input = input.narrow(i, 0, want)
    return _take_along(input, index=array, axis=axis)


@primitive(linear=True)
def _scatter(x: Any, value: Any, *, index: Any, axis: int) -> Any:
    def cleared(g: Any) -> Any:
        return call(_clear_along, g, index=index, axis=axis)

    def taken(g: Any) -> Any:
        part = call(_take_along, g, index=index, axis=axis)
        return part if hasattr(value, "shape") and value.shape else part.sum()

    if hasattr(x, "_node"):
        return x, (cleared, taken)
    np_ = xp(x)
    out = np_.array(x)
    out[_grid(np_, index, axis)] = value
    return out, (cleared, taken)


@primitive(linear=True)
def _clear_along(g: Any, *, index: Any, axis: int) -> Any:
    if hasattr(g, "_node"):
        return g, (lambda h: _clear_along(h, index=index, axis=axis),)
    out = xp(g).array(g)
    out[_grid(xp(g), index, axis)] = 0
    return out, (lambda h: call(_clear_along, h, index=index, axis=axis),)


def _cropped(index: Any, src: Any) -> Any:
    if hasattr(src, "shape") and src.shape and tuple(src.shape) != tuple(index.shape):
        return src[tuple(slice(0, n) for n in index.shape)]
    return src


@overridable
def scatter(input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Any:
    """Return input with out[index[i][j]][j] = src[i][j] for dim 0; src is a tensor or a number."""
    if reduce == "add":
        return scatter_add(input, dim, index, src)
    if reduce is not None:
        raise ValueError(f"scatter: reduce must be None or 'add', got {reduce!r}")
    src = value if src is None else src
    return _scatter(input, _cropped(index, src), index=index.array, axis=dim % input.ndim)


@overridable
def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """Return input with src added at index along dim; repeated indices add up."""
    axis = dim % input.ndim
    return input + _spread_along(_cropped(index, src), index=index.array, axis=axis, shape=tuple(input.shape))


def index_select(input: Any, dim: int, index: Any) -> Any:
    """Return the slices of input along dim named by a vector of indices."""
    return getitem(input, (slice(None),) * (dim % max(input.ndim, 1)) + (index,))


@overridable
def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    """Return input with slices of source added along dim at the indices."""
    where = (slice(None),) * (dim % input.ndim) + (index.array,)
    spread = _spread(source, index=where, shape=tuple(input.shape))
    return input + (spread if alpha == 1 else spread * alpha)


def take(input: Any, index: Any) -> Any:
    """Return elements of the flattened input."""
    return getitem(input.reshape(-1), index)


@overridable
def masked_fill(input: Any, mask: Any, value: Any) -> Any:
    """Return input with `value` where the mask is true."""
    if mask.dtype != np.bool_:
        raise TypeError(f"masked_fill: mask must be a bool tensor, got {mask.dtype}")
    if not hasattr(value, "_node"):
        value = wrap(xp(input.array).asarray(value, dtype=input.dtype))
    return where(mask, value, input)


def masked_select(input: Any, mask: Any) -> Any:
    """Return the elements where the mask is true, as a vector."""
    np_ = xp(input.array)
    shape = np.broadcast_shapes(tuple(input.shape), tuple(mask.shape))
    return getitem(input.expand(shape), wrap(np_.broadcast_to(mask.array, shape)))


def nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    """Return the indices of elements that are not zero: [n, ndim], or one vector per dimension."""
    found = input.array.nonzero()
    if as_tuple:
        return tuple(wrap(i) for i in found)
    return wrap(xp(input.array).stack(found, 1))


@overridable
def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """Return int64 [..., num_classes] with a one at each class index; -1 takes the largest index plus one."""
    array = tensor.array
    np_ = xp(array)
    if array.dtype.kind not in "iu":
        raise TypeError(f"one_hot: indices must be integers, got {array.dtype}; convert with .long()")
    classes = int(array.max()) + 1 if num_classes == -1 else num_classes
    # Not checked on a GPU: reading the extremes would wait for the device
    if np_ is np and array.size and not 0 <= array.min() <= array.max() < classes:
        raise ValueError(f"one_hot: class values must be in [0, {classes}), got {array.min()} to {array.max()}")
    return wrap((array[..., None] == np_.arange(classes)).astype("int64"))
