"""Bind the operations to Tensor as methods and operators, under PyTorch's names.

Reductions take NumPy's `axis` and `keepdims` as well as `dim` and `keepdim`.
"""

from __future__ import annotations

from typing import Any

from dynarl.autograd import creation, lifted
from dynarl.autograd.backward import backward
from dynarl.autograd.ops import (
    activation,
    comparison,
    conversion,
    elementwise,
    indexing,
    inplace,
    linalg,
    reduction,
    shape,
    sorting,
    trigonometry,
)
from dynarl.autograd.tensor import Tensor


def _reflected(op: Any) -> Any:
    def method(self: Any, other: Any) -> Any:
        return op(other, self)

    return method


def _with_axis(op: Any) -> Any:
    """Return a reduction as a method that takes dim and keepdim, or axis and keepdims."""

    def method(
        self: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False, **kw: Any
    ) -> Any:
        return op(self, dim if axis is None else axis, keepdim=keepdim or keepdims, **kw)

    method.__name__, method.__doc__ = op.__name__, op.__doc__
    return method


def _variance(op: Any) -> Any:
    def method(
        input: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None,
        axis: Any = None, keepdims: bool = False,
    ) -> Any:  # fmt: skip
        return op(input, dim if axis is None else axis, unbiased, keepdim or keepdims, correction=correction)

    method.__name__, method.__doc__ = op.__name__, op.__doc__
    return method


_OPERATORS = {
    "add": elementwise.add, "sub": elementwise.sub, "mul": elementwise.mul, "truediv": elementwise.div,
    "floordiv": elementwise.floor_divide, "mod": elementwise.remainder, "pow": elementwise.pow,
    "matmul": linalg.matmul, "and": comparison.bitwise_and, "or": comparison.bitwise_or,
    "xor": comparison.bitwise_xor,
}  # fmt: skip
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_INPLACE_OPERATORS = {"add": "add_", "sub": "sub_", "mul": "mul_", "truediv": "div_", "pow": "pow_"}
_REDUCTIONS = {
    reduction: ("sum", "mean", "amax", "amin", "max", "min", "argmax", "argmin", "all", "any", "prod"),
    sorting: ("median",),
    activation: ("logsumexp",),
}
_NAMES = {
    elementwise: (
        "mul", "div", "pow", "neg", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "square",
        "reciprocal", "abs", "sign", "tanh", "floor", "ceil", "trunc", "round", "frac", "maximum", "minimum", "fmod",
        "remainder", "floor_divide", "clamp", "clamp_min", "clamp_max", "logaddexp", "positive", "nan_to_num", "clone",
    ),
    trigonometry: (
        "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "atanh", "asinh", "acosh",
    ),
    comparison: (
        *_COMPARISONS, "logical_and", "logical_or", "logical_xor", "logical_not", "bitwise_and", "bitwise_or",
        "bitwise_xor", "bitwise_not", "isnan", "isinf", "isfinite", "isclose", "allclose", "equal",
    ),
    activation: ("relu", "sigmoid", "softmax", "log_softmax", "erf"),
    reduction: ("cumsum", "cumprod", "norm", "count_nonzero"),
    sorting: ("argsort", "sort", "topk", "unique"),
    linalg: ("matmul", "mm", "bmm", "mv", "dot", "outer", "addmm", "baddbmm"),
    shape: (
        "reshape", "view", "flatten", "unflatten", "unsqueeze", "squeeze", "permute", "transpose", "t", "movedim",
        "expand", "expand_as", "broadcast_to", "repeat", "tile", "repeat_interleave", "flip", "roll", "split", "chunk",
        "narrow", "select", "unbind", "tril", "triu", "diagonal", "diag",
    ),
    indexing: (
        "gather", "scatter", "scatter_add", "index_select", "index_add", "take", "take_along_dim", "masked_fill",
        "masked_select", "nonzero",
    ),
}  # fmt: skip


def _add(self: Any, other: Any, *, alpha: float = 1) -> Any:
    return elementwise.add(self, other if alpha == 1 else other * alpha)


def _sub(self: Any, other: Any, *, alpha: float = 1) -> Any:
    return elementwise.sub(self, other if alpha == 1 else other * alpha)


def _backward(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Accumulate the gradient of this tensor into `.grad` of every leaf it was computed from."""
    backward(self, gradient, retain_graph, create_graph, inputs)


def _view_as(self: Any, other: Any) -> Any:
    return self.reshape(other.shape)


def _ravel(self: Any) -> Any:
    return self.reshape(-1)


def _swapaxes(self: Any, a: int, b: int) -> Any:
    return self.transpose(a, b)


def _new_like(name: str) -> Any:
    def method(self: Any, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
        make = getattr(creation, name)
        return make(*size, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)

    method.__name__ = f"new_{name}"
    method.__doc__ = f"Return {name}(...) with this tensor's dtype and device by default."
    return method


def _new_full(self: Any, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return creation.full(size, fill_value, dtype=dtype or self.dtype, device=device or self.device)


def _new_tensor(self: Any, data: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return creation.tensor(data, dtype=dtype or self.dtype, device=device or self.device)


def _where_method(self: Any, condition: Any, other: Any) -> Any:
    return elementwise.where(condition, self, other)


def _reversed_dims(self: Any) -> Any:
    return self.permute(*range(self.ndim - 1, -1, -1))


def _operators() -> dict[str, Any]:
    """Return the special methods by name: `x + y`, `1 - x`, `x < y`, `x += y`, `-x`, `x[i]`."""
    found = {f"__{name}__": op for name, op in _OPERATORS.items()}
    found |= {f"__r{name}__": _reflected(op) for name, op in _OPERATORS.items()}
    found |= {f"__{name}__": getattr(comparison, name) for name in _COMPARISONS}
    found |= {f"__i{name}__": inplace.METHODS[method] for name, method in _INPLACE_OPERATORS.items()}
    return found | {
        "__getitem__": indexing.getitem, "__setitem__": indexing.setitem, "__neg__": elementwise.neg,
        "__abs__": elementwise.abs, "__pos__": elementwise.positive, "__invert__": comparison.bitwise_not,
    }  # fmt: skip


def bind() -> None:
    """Attach everything to Tensor; run once, when this module is imported."""
    for module, names in _NAMES.items():
        for name in names:
            setattr(Tensor, name, getattr(module, name))
    for module, names in _REDUCTIONS.items():
        for name in names:
            setattr(Tensor, name, _with_axis(getattr(module, name)))
    for name in ("var", "std"):
        setattr(Tensor, name, _variance(getattr(reduction, name)))
    extra: dict[str, Any] = {
        "backward": _backward,
        "add": _add, "sub": _sub, "view_as": _view_as,
        "reshape_as": _view_as, "swapaxes": _swapaxes, "ravel": _ravel,
        "clip": elementwise.clamp, "absolute": elementwise.abs,
        "where": _where_method, "lerp": inplace.lerp, "addcmul": inplace.addcmul, "addcdiv": inplace.addcdiv,
        "new_zeros": _new_like("zeros"), "new_ones": _new_like("ones"), "new_empty": _new_like("empty"),
        "T": property(_reversed_dims), "mT": property(lambda self: self.transpose(-1, -2)),
        "true_divide": elementwise.div, "multiply": elementwise.mul, "subtract": _sub, "divide": elementwise.div,
        "greater": comparison.gt, "less": comparison.lt, "new_full": _new_full, "new_tensor": _new_tensor,
    }  # fmt: skip
    for name, value in (_operators() | conversion.METHODS | inplace.METHODS | extra).items():
        setattr(Tensor, name, value)


bind()
__all__ = ["lifted"]
