"""In-place methods: they change the tensor's memory and, where gradients are recorded, its history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynarl.autograd import dispatch
from dynarl.autograd.device import xp
from dynarl.autograd.grad_mode import mode
from dynarl.autograd.ops import activation, comparison, elementwise, indexing
from dynarl.autograd.ops.views import check_inplace, follow
from dynarl.autograd.tape import primitive
from dynarl.autograd.tensor import wrap
from dynarl.autograd.versions import mark_modified


def inplace(name: str, op: Callable[..., Any]) -> Callable[..., Any]:
    """Return the in-place form of an operation: x.name(...) writes op(x, ...) into x's memory and returns x."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        recording = mode.recording and (
            self._node is not None or any(getattr(a, "_node", None) is not None for a in args)
        )
        if recording:
            check_inplace(self, name)
            before = wrap(xp(self.array).array(self.array), self._node)  # backward may need the old values
            out = op(before, *args, **kwargs)
        else:
            out = op(self.detach(), *args, **kwargs)
        if out.__class__ is dispatch.sample_type:
            dispatch.batching_rules["refuse_shared"](self, name)
        write(self, out.array, name)
        if recording:
            follow(self, out._node)
        return self

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"Do `{name[:-1]}` in place and return the tensor."
    return method


def write(x: Any, values: Any, name: str) -> None:
    """Copy values into the memory of x."""
    if dispatch.call_module is not None:  # a batched call runs
        dispatch.refuse_memory(x, name)
    np_ = xp(x.array)
    if values.shape != x.array.shape:
        raise RuntimeError(f"{name}: the result has shape {tuple(values.shape)}, the tensor {tuple(x.shape)}")
    if not np_.can_cast(values.dtype, x.array.dtype, casting="same_kind"):
        raise RuntimeError(
            f"{name}: a result of dtype {values.dtype} cannot be stored in a tensor of dtype {x.array.dtype}"
        )
    try:
        np_.copyto(x.array, values, casting="same_kind")
    except ValueError as error:
        raise RuntimeError(
            f"{name}: {error}; elements of an expanded tensor of shape {tuple(x.shape)} share memory, clone() it first"
        ) from error
    mark_modified(x.array)


@primitive(linear=True)
def _overwrite(x: Any, values: Any) -> Any:
    return values, (lambda g: xp(g).zeros_like(g), lambda g: g)


def _copy(x: Any, src: Any, non_blocking: bool = False) -> Any:
    return _overwrite(x, src.to(x.dtype).expand(x.shape).to(device=x.device))


def _fill(x: Any, value: Any) -> Any:
    if hasattr(value, "_node"):
        return _overwrite(x, value.to(x.dtype).expand(x.shape))
    return _overwrite(x, xp(x.array).full_like(x.array, value))


def _add(x: Any, other: Any, *, alpha: float = 1) -> Any:
    return elementwise.add(x, other if alpha == 1 else other * alpha)


def _sub(x: Any, other: Any, *, alpha: float = 1) -> Any:
    return elementwise.sub(x, other if alpha == 1 else other * alpha)


def lerp(input: Any, end: Any, weight: Any) -> Any:
    """Return input + weight (end - input)."""
    return input + (end - input) * weight


def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    """Return input + value * tensor1 * tensor2."""
    return input + tensor1 * tensor2 * value


def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    """Return input + value * tensor1 / tensor2."""
    return input + tensor1 / tensor2 * value


def _zero(x: Any) -> Any:
    return _overwrite(x, xp(x.array).zeros_like(x.array))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add_": _add,
    "sub_": _sub,
    "mul_": elementwise.mul,
    "div_": elementwise.div,
    "pow_": elementwise.pow,
    "neg_": elementwise.neg,
    "exp_": elementwise.exp,
    "log_": elementwise.log,
    "sqrt_": elementwise.sqrt,
    "square_": elementwise.square,
    "rsqrt_": elementwise.rsqrt,
    "reciprocal_": elementwise.reciprocal,
    "logical_not_": comparison.logical_not,
    "abs_": elementwise.abs,
    "tanh_": elementwise.tanh,
    "floor_": elementwise.floor,
    "round_": elementwise.round,
    "clamp_": elementwise.clamp,
    "clip_": elementwise.clamp,
    "clamp_min_": elementwise.clamp_min,
    "clamp_max_": elementwise.clamp_max,
    "relu_": activation.relu,
    "sigmoid_": activation.sigmoid,
    "fill_": _fill,
    "zero_": _zero,
    "copy_": _copy,
    "masked_fill_": indexing.masked_fill,
    "scatter_": indexing.scatter,
    "scatter_add_": indexing.scatter_add,
    "index_add_": indexing.index_add,
    "lerp_": lerp,
    "addcmul_": addcmul,
    "addcdiv_": addcdiv,
    "nan_to_num_": elementwise.nan_to_num,
}
METHODS = {name: inplace(name, op) for name, op in OPERATIONS.items()}
