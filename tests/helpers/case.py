"""One row of the op table: a function of (library, tensors), makers for its inputs, and what to check."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Maker = Callable[[np.random.Generator], np.ndarray]


class Library:
    """A torch-like library seen as one namespace: its own names first, then those of nn.functional."""

    def __init__(self, *modules: Any):
        self.modules = modules

    def __getattr__(self, name: str) -> Any:
        for module in self.modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"{self.modules[0].__name__} offers no {name}")


@dataclass(frozen=True, kw_only=True)
class Case:
    """`run(library, *tensors)` on dynarl must agree with torch, with `ref(*arrays)`, and with differences.

    `orders` is how often it may be differentiated numerically: 2 by default, 0 at kinks (where only
    torch's choice of subgradient is compared), None where nothing is differentiable.
    """

    name: str
    run: Callable[..., Any]
    inputs: tuple[Maker, ...]
    ref: Callable[..., Any] | None = None
    orders: int | None = 2
    rtol: float = 2e-5  # in float32; float64 is compared to 1e-9

    def arrays(self, dtype: Any = np.float64) -> list[np.ndarray]:
        """The same numbers for the same name, floats in `dtype`, integers and booleans as they are."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        made = [np.asarray(make(rng)) for make in self.inputs]
        return [a.astype(dtype) if a.dtype == np.float64 else a for a in made]

    def tensors(self, library: Any, dtype: Any = np.float64, device: Any = None) -> list[Any]:
        """Leaves of `library`; the floating ones require grad unless nothing is differentiable."""
        made = [library.tensor(a, device=device) for a in self.arrays(dtype)]
        if self.orders is not None:
            for t in made:
                t.requires_grad_(t.is_floating_point())
        return made


def outputs(result: Any) -> list[Any]:
    """The results of a case as a flat list (tensors, or Python values where an op returns those)."""
    if isinstance(result, list | tuple):
        return [out for part in result for out in outputs(part)]
    return [result]


def case(name: str, run: Callable[..., Any], *inputs: Any, **options: Any) -> Case:
    """A row; inputs are makers or literal arrays and lists."""
    return Case(name=name, run=run, inputs=tuple(i if callable(i) else fixed(i) for i in inputs), **options)


def on_copy(change: Callable[..., Any]) -> Callable[..., Any]:
    """Run an in-place change on a copy of the first tensor and return the copy."""

    def run(t: Any, x: Any, *others: Any) -> Any:
        y = x.clone()
        change(t, y, *others)
        return y

    return run


def normal(*shape: int) -> Maker:
    return lambda rng: rng.standard_normal(shape)


def positive(*shape: int) -> Maker:
    """Between 0.5 and 2: safe for log, sqrt, division and powers."""
    return lambda rng: rng.uniform(0.5, 2.0, shape)


def inside(*shape: int) -> Maker:
    """Between -0.9 and 0.9: safe for asin, atanh, erfinv."""
    return lambda rng: rng.uniform(-0.9, 0.9, shape)


def nonzero(*shape: int) -> Maker:
    """Both signs, at least 0.3 from zero and 0.2 from integers and halves: no kink of abs, relu, floor, round."""
    return lambda rng: rng.choice([-1.0, 1.0], shape) * (rng.integers(0, 3, shape) + rng.uniform(0.7, 0.8, shape))


def distinct(*shape: int) -> Maker:
    """Values at least 0.2 apart, in random order: no ties for max, sort, topk."""

    def make(rng: np.random.Generator) -> np.ndarray:
        n = int(np.prod(shape))
        return (rng.permutation(n) * 0.3 - 0.15 * n + rng.uniform(0, 0.1, n)).reshape(shape)

    return make


def integers(*shape: int, low: int = 0, high: int = 5) -> Maker:
    return lambda rng: rng.integers(low, high, shape)


def booleans(*shape: int) -> Maker:
    """Both values present whenever there is room for both."""

    def make(rng: np.random.Generator) -> np.ndarray:
        n = int(np.prod(shape))
        return rng.permutation(np.arange(n) % 2 == 0).reshape(shape)

    return make


def fixed(values: Any) -> Maker:
    return lambda rng: np.asarray(values)
