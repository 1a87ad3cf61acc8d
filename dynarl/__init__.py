"""dynarl: reinforcement learning on its own define-by-run autograd engine, with PyTorch's names.

`import dynarl as torch` serves single-file research code; agents live in `dynarl.agents`.
"""

from __future__ import annotations

import importlib
import math
import sys
from typing import Any

from numpy import finfo as finfo
from numpy import iinfo as iinfo

from dynarl import autograd as autograd
from dynarl.autograd import *  # noqa: F403
from dynarl.autograd.dtypes import bool_ as bool  # noqa: F401
from dynarl.autograd.dtypes import result_type as result_type
from dynarl.autograd.ops import (
    activation,
    comparison,
    elementwise,
    indexing,
    inplace,
    linalg,
    reduction,
    segment,
    shape,
    sorting,
    trigonometry,
)
from dynarl.autograd.tensor import Tensor as Tensor
from dynarl.moved import MOVED, MovedFinder

__version__ = "0.1.0"

inf, nan, pi = math.inf, math.nan, math.pi

_FUNCTIONS = {
    elementwise: (
        "mul div pow neg exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square reciprocal abs sign tanh floor ceil "
        "trunc round frac maximum minimum fmod remainder floor_divide clamp clamp_min clamp_max logaddexp positive "
        "where nan_to_num clone"
    ),
    trigonometry: "sin cos tan asin acos atan atan2 sinh cosh atanh asinh acosh",
    comparison: (
        "eq ne lt le gt ge logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor "
        "bitwise_not isnan isinf isfinite isclose allclose equal"
    ),
    activation: "relu sigmoid softmax log_softmax logsumexp erf selu",
    reduction: ("sum mean var std amax amin max min argmax argmin all any cumsum cumprod prod norm count_nonzero"),
    sorting: "argsort sort topk median unique",
    linalg: "matmul mm bmm mv dot outer addmm baddbmm einsum",
    shape: (
        "reshape flatten unflatten unsqueeze squeeze permute transpose t movedim broadcast_to broadcast_tensors tile "
        "repeat_interleave flip roll cat stack hstack vstack split chunk narrow select unbind tril triu diagonal diag "
        "meshgrid"
    ),
    indexing: (
        "gather scatter scatter_add index_select index_add take take_along_dim masked_fill masked_select nonzero"
    ),
    segment: "segment_sum segment_mean segment_max segment_softmax segment_expand Segments",
    inplace: "lerp addcmul addcdiv",
}
for _module, _names in _FUNCTIONS.items():  # reductions as methods, which also take axis=
    for _name in _names.split():
        globals()[_name] = getattr(
            Tensor if _module in (reduction, sorting) else _module, _name
        )  # methods also take axis=

_bound: Any = Tensor
add, sub = _bound.add, _bound.sub
subtract, multiply, divide, true_divide = sub, elementwise.mul, elementwise.div, elementwise.div
clip, concat, concatenate = elementwise.clamp, shape.cat, shape.cat
swapaxes, ravel, logsumexp = _bound.swapaxes, _bound.ravel, _bound.logsumexp
del _bound, _module, _names, _name

_BATCHING = ("batched", "per_sample", "Ragged", "RaggedGraph", "ObjectBatch", "categorical", "PerSampleError")
_LAZY = (
    *("batching", "nn", "optim", "distributions", "envs", "rollout", "agents"),
    *("train", "checkpoint", "config", "callbacks"),
)
sys.meta_path.append(MovedFinder)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"dynarl.{name}")
    if name in _BATCHING:
        return getattr(importlib.import_module("dynarl.batching"), name)
    if f"dynarl.{name}" in MOVED:
        raise AttributeError(f"dynarl.{name} is now called {MOVED[f'dynarl.{name}']}")
    raise AttributeError(f"module 'dynarl' has no attribute {name!r}: this torch name is not offered")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, *_BATCHING])
