"""Changes in place of per-sample tensors: `h += 1`, `h.mul_(2)`, `h[0] = v`.

A change gives the SampleTensor object a new Tensor, so that every name of the object sees it. Tensors that share its
memory in plain Python change with it: the ones that it is a view of get the new part written into them, and the other
views of those are stale, to be taken again when they are used. What the objects held before is appended to `run.undo`:
`roll_back` restores it before another path runs. The operations of a change are logged like any other, so a replay that
begins with the objects as they were changes them again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from dynarl.autograd import Tensor, enable_grad
from dynarl.autograd.grad_mode import mode
from dynarl.autograd.graph import Leaf
from dynarl.autograd.ops import elementwise, indexing, inplace, shape
from dynarl.autograd.tensor import wrap
from dynarl.batching.groups.execution import MADE, Execution, ended, state
from dynarl.batching.groups.group import PerSampleError, SampleGroup
from dynarl.batching.rules.assignment import assigned
from dynarl.batching.rules.table import apply_rule
from dynarl.batching.values.changes import held_by, set_state
from dynarl.batching.values.sample_tensor import STALE, SampleTensor, detached
from dynarl.batching.values.shared_memory import ARGUMENT, Shared, TrackViews, note_view, origin_of, views_of

__all__ = ["change", "made", "must_track_views", "refuse_shared", "remedy"]


def change(x: Any, y: Any, name: str) -> None:
    """Change x to the values of y in place; `name` is the method, for messages."""
    execution = _current()
    must_track_views(execution)
    _check_memory(x, name)
    y = _as_stored(x, y, name)
    _set(execution, x, y)
    _write_to_base(execution, x, y, name)
    _take_again(execution, x)


def _current() -> Execution:
    if state.execution is None:
        raise ended()
    return state.execution


def must_track_views(execution: Execution) -> None:
    """Make sure that views are noted in this run."""
    run = execution.run
    if not run.tracks_views:
        run.must_track_views = True
        raise TrackViews


def _check_memory(x: Any, name: str, but: Any = None) -> None:
    """Raise PerSampleError if memory would change that is not the program's, or it is not known whose."""
    origin = origin_of(x)
    if origin is ARGUMENT:
        raise PerSampleError(
            f"{name}: changes in place a tensor that was passed to the program, the caller's data; make a new one: "
            f"{remedy(name)}"
        )
    if origin.__class__ is Shared and origin.alive():
        raise PerSampleError(
            f"{name}: changes in place a tensor that may share memory with another one (a detached or copied view, or "
            f"one that only some samples share); make a new one: {remedy(name)}"
        )
    if origin.__class__ is tuple:
        _check_memory(origin[0], name, but=x)
    _check_views(x, name, but)


def _check_views(x: Any, name: str, but: Any = None) -> None:
    for view in views_of(x):
        if view is but:
            continue
        origin = origin_of(view)
        if origin.__class__ is Shared or (origin[1] is detached and view._node is not None):
            raise PerSampleError(
                f"{name}: changes in place a tensor that another one may share memory with (a detached or copied view, "
                f"or one that only some samples share); make a new one: {remedy(name)}"
            )
        _check_views(view, name)


def remedy(name: str) -> str:
    """Return what to write in place of a change in place."""
    symbols = {"add_": "+", "sub_": "-", "mul_": "*", "div_": "/", "pow_": "**"}
    symbol = symbols.get(name)
    if symbol is not None:
        return f"`h = h {symbol} x` for `h {symbol}= x` or `h.{name}(x)`"
    return "stack, cat, where or scatter" if name == "setitem" else f"`h = h.{name[:-1]}(...)`, or change a clone()"


def _as_stored(x: Any, y: Any, name: str) -> Any:
    """Return the values y in the dtype of x; raise where plain Tensors would."""
    own = x.shape
    if y.shape != own:
        raise RuntimeError(f"{name}: the result has shape {tuple(y.shape)}, the tensor {tuple(own)}")
    if not np.can_cast(y.dtype, x.dtype, casting="same_kind"):
        raise RuntimeError(f"{name}: a result of dtype {y.dtype} cannot be stored in a tensor of dtype {x.dtype}")
    if y.__class__ is not SampleTensor:
        raise PerSampleError(f"{name}: expected a per-sample result, got {type(y).__name__}")
    return y if y.dtype == x.dtype else y.to(x.dtype)


def _set(execution: Execution, x: Any, y: SampleTensor) -> None:
    """Let x hold what y holds, and note what it held before."""
    tensor, group = y.tensor, y.group
    if not mode.recording and x._node is not None:
        tensor, group = _with_history(x, y)
    execution.run.undo.append(held_by(x))
    set_state(x, tensor, group)


def _set_values(execution: Execution, x: Any, y: SampleTensor) -> None:
    """Let x hold the values of y with the history that it has: its memory was changed through a detached tensor."""
    tensor, group = y.tensor, y.group
    if x._node is not None:
        tensor, group = _with_history(x, y)
    elif y._node is not None:
        if not isinstance(tensor, Tensor):
            raise PerSampleError("a change in place of a detached tensor, to values with history: clone() it first")
        tensor = tensor.detach()
    execution.run.undo.append(held_by(x))
    set_state(x, tensor, group)


def _with_history(x: SampleTensor, y: SampleTensor) -> tuple[Any, SampleGroup]:
    """Return the values of y with the history of x, and their group.

    Under no_grad a change in place leaves the history as it is.
    """
    execution = _current()
    if not isinstance(y.tensor, Tensor):  # lock-step
        with enable_grad():
            values: Tensor = wrap(execution.rows(y).array, execution.rows(x)._node)
        return execution.of_rows(values).tensor, execution.group
    with enable_grad():
        rows = x.at(y.group)
    return wrap(y.tensor.array, rows._node), y.group


def _write_to_base(execution: Execution, x: Any, y: Any, name: str) -> None:
    """Write the values of a view into the tensor that it is a view of."""
    origin = origin_of(x)
    if origin.__class__ is not tuple:
        return
    base, op, static = origin
    if op is detached:
        _set_values(execution, base, y)
        _write_to_base(execution, base, y, name)
        _take_again(execution, base, but=x)
        return
    whole = _pasted(base, y, op, static)
    if whole is None:
        raise PerSampleError(
            f"{name}: changes in place a view made by {op.__name__}, whose elements share memory; clone() it first"
        )
    _set(execution, base, whole)
    _write_to_base(execution, base, whole, name)
    _take_again(execution, base, but=x)


def _pasted(base: Any, part: Any, op: Any, static: dict[str, Any]) -> Any:
    """Return the values of a tensor whose view has changed to `part`; None if that view has no inverse."""
    if op in (indexing._getitem, indexing.getitem):
        return assigned(base, static["index"], part)
    if op is shape._reshape:
        return part.reshape(base.shape)
    if op is shape._transpose:
        return part.permute(*np.argsort(static["axes"]).tolist())
    return None


def _take_again(execution: Execution, x: Any, but: Any = None) -> None:
    """Let the views of a tensor that has changed be taken again."""
    for view in views_of(x):
        if view is not but:
            execution.run.undo.append(held_by(view))
            view.group, view._parts = STALE, None
            _take_again(execution, view)


def _refresh(self: SampleTensor) -> None:
    """Take a stale view again. This is not logged: a replay does it again only where the view is still needed."""
    base, op, static = origin_of(self)
    if base.group is STALE:
        _refresh(base)
    execution = state.execution
    with enable_grad():
        if execution is None or (isinstance(base.tensor, Tensor) and op is not indexing.getitem):
            set_state(self, apply_rule(op, (base.tensor,), (True,), base.group.size, static), base.group)
            return
        start = len(execution.log)
        again = op(base, **static)
        del execution.log[start:]
        execution.position = start
        base._base[1].pop()
    execution.run.undo.append(held_by(self))
    set_state(self, again.tensor, again.group)


# -- methods of SampleTensor -----------------------------------------------------------------------------------------


def _in_place(name: str, op: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        _check_leaf(self, name, args)
        change(self, op(self, *args, **kwargs), name)
        return self

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"Do `{name[:-1]}` in place and return the tensor."
    return method


def _check_leaf(x: Any, name: str, args: tuple[Any, ...]) -> None:
    if mode.recording and x._node.__class__ is Leaf:
        raise RuntimeError(
            f"{name}: a leaf tensor of shape {tuple(x.shape)} that requires grad was changed in place"
            "; do it under no_grad(), or change a clone()"
        )


def _setitem(self: Any, index: Any, value: Any) -> None:
    """Assign `self[index] = value` in place."""
    origin = origin_of(value) if value.__class__ is SampleTensor else None
    if origin.__class__ is tuple and origin[0] is self and origin[2].get("index", _NO_INDEX) is index:
        return  # `h[i] += v` has changed h already, through its view h[i]
    _check_leaf(self, "setitem", ())
    change(self, assigned(self, index, value), "setitem")


_NO_INDEX = object()


def _fill(x: Any, value: Any) -> Any:
    if isinstance(value, Tensor):
        return _copy(x, value)
    return elementwise.where(_everywhere(x), wrap(np.asarray(value).astype(x.dtype)), x)


def _everywhere(x: Any) -> Any:
    return wrap(np.ones(x.shape, np.bool_))


def _zero(x: Any) -> Any:
    return _fill(x, 0)


def _copy(x: Any, src: Any, non_blocking: bool = False) -> Any:
    return elementwise.where(_everywhere(x), src.to(x.dtype).expand(x.shape), x)


_OPERATIONS: dict[str, Callable[..., Any]] = {**inplace.OPERATIONS, "fill_": _fill, "zero_": _zero, "copy_": _copy}


def _contiguous(self: Any) -> Any:
    """Return the tensor, a copy where one sample's memory may not be in row-major order."""
    rows = self.tensor
    if origin_of(self) is None or (isinstance(rows, Tensor) and rows.array.flags.c_contiguous):
        return self
    copy = self.clone()
    note_view(self, copy, None, None)
    return copy


def _random(name: str) -> Callable[..., NoReturn]:
    def method(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise PerSampleError(f"{name}: not offered inside a per-sample program; use rand, randn or bernoulli")

    method.__name__ = name
    return method


def _bind() -> None:
    """Give SampleTensor its methods that change it in place."""
    methods: dict[str, Any] = {name: _in_place(name, op) for name, op in _OPERATIONS.items()}
    operators = {"add": "add_", "sub": "sub_", "mul": "mul_", "truediv": "div_", "pow": "pow_"}
    methods |= {f"__i{name}__": methods[method] for name, method in operators.items()}
    methods |= {name: _random(name) for name in ("uniform_", "normal_", "bernoulli_", "exponential_", "random_")}
    methods["contiguous"] = _contiguous
    for name, method in methods.items():
        setattr(SampleTensor, name, method)
    SampleTensor.__setitem__ = _setitem  # type: ignore[method-assign]
    SampleTensor._refresh = _refresh  # type: ignore[method-assign]


_bind()


# -- plain Tensors ---------------------------------------------------------------------------------------------------


def refuse_shared(x: Tensor, name: str) -> NoReturn:
    """Refuse to change a plain Tensor in place to one sample's values."""
    must_track_views(_current())
    raise _current().run.fail(
        f"{name}: changes in place a tensor of shape {tuple(x.shape)} that all samples share, with one sample's "
        f"values; make a new one: {remedy(name)}"
    )


def made(x: Tensor) -> Any:
    """Return what stands for a Tensor that a function like `zeros` made.

    In a program that changes tensors in place it is a per-sample one, of equal rows: the samples may change it
    differently, and a replay must find the same object.
    """
    execution = state.execution
    if execution is None or not execution.run.tracks_views or x.dtype.kind == "b":
        return x
    if execution.replaying():
        return execution.recall(MADE)
    sample = execution.constant(x)
    execution.remember(MADE, sample)
    return sample
