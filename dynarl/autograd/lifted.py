"""NumPy's function names for Tensors: the namespace that `xp(x)` returns for a Tensor, on which bodies run again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from dynarl.autograd.device import _namespace
from dynarl.autograd.ops import activation, comparison, elementwise, indexing, linalg, reduction, shape, trigonometry
from dynarl.autograd.tensor import Parameter, Tensor, wrap


def _asarray(x: Any, dtype: Any = None) -> Any:
    return x if isinstance(x, Tensor) else wrap(x)


lifted = SimpleNamespace(
    add=elementwise.add, subtract=elementwise.sub, multiply=elementwise.mul, divide=elementwise.div,
    true_divide=elementwise.div, power=elementwise.pow, negative=elementwise.neg, matmul=linalg.matmul,
    floor_divide=elementwise.floor_divide, float_power=elementwise.pow,
    equal=comparison.eq, not_equal=comparison.ne, less=comparison.lt, less_equal=comparison.le,
    greater=comparison.gt, greater_equal=comparison.ge, logical_and=comparison.logical_and,
    logical_or=comparison.logical_or, logical_not=comparison.logical_not,
    exp=elementwise.exp, exp2=elementwise.exp2, expm1=elementwise.expm1, log=elementwise.log, log2=elementwise.log2,
    log10=elementwise.log10, log1p=elementwise.log1p, sqrt=elementwise.sqrt, square=elementwise.square,
    sin=trigonometry.sin, cos=trigonometry.cos, tan=trigonometry.tan, arcsin=trigonometry.asin,
    arccos=trigonometry.acos, arctan=trigonometry.atan, arctan2=trigonometry.atan2, sinh=trigonometry.sinh,
    cosh=trigonometry.cosh,
    tanh=elementwise.tanh, arctanh=trigonometry.atanh, arcsinh=trigonometry.asinh, arccosh=trigonometry.acosh,
    abs=elementwise.abs, absolute=elementwise.abs, sign=elementwise.sign, floor=elementwise.floor,
    ceil=elementwise.ceil, trunc=elementwise.trunc, rint=elementwise._rint, reciprocal=elementwise.reciprocal,
    logaddexp=elementwise.logaddexp, maximum=elementwise.maximum,
    minimum=elementwise.minimum, fmod=elementwise.fmod, remainder=elementwise.remainder,
    where=elementwise.where, clip=elementwise.clamp, isnan=comparison.isnan, isfinite=comparison.isfinite,
    isinf=comparison.isinf, nan_to_num=elementwise.nan_to_num,
    sum=reduction.sum, mean=reduction.mean, cumsum=reduction.cumsum, cumprod=reduction.cumprod,
    broadcast_to=shape.broadcast_to, expand_dims=lambda x, axis: _expand_dims(x, axis), flip=shape.flip,
    transpose=shape.permute, roll=shape.roll, concatenate=shape.cat, stack=shape.stack,
    tril=shape.tril, triu=shape.triu, einsum=linalg.einsum, softmax=activation.softmax, asarray=_asarray,
    take_along_axis=lambda x, index, axis: indexing._take_along(x, index=index, axis=axis),
    ones_like=lambda x: wrap(_np(x).ones_like(x.array)), zeros_like=lambda x: wrap(_np(x).zeros_like(x.array)),
)  # fmt: skip


def _np(x: Any) -> Any:
    return _namespace[x.array.__class__]


def _expand_dims(x: Any, axis: Any) -> Any:
    axes = (axis,) if isinstance(axis, int) else axis
    ndim = x.ndim + len(axes)
    places = {a % ndim for a in axes}
    sizes = iter(x.shape)
    return x.reshape(tuple(1 if i in places else next(sizes) for i in range(ndim)))


_namespace[Tensor] = _namespace[Parameter] = lifted
