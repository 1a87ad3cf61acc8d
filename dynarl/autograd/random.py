"""Random tensors. Every draw comes from a Generator; `manual_seed` sets the default one for torch-like code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from dynarl.autograd import dispatch
from dynarl.autograd.call_site import line_of, user_line
from dynarl.autograd.creation import _finish, _shape
from dynarl.autograd.device import to_host
from dynarl.autograd.dispatch import overridable_random
from dynarl.autograd.dtypes import get_default_dtype
from dynarl.autograd.ops.views import check_inplace
from dynarl.autograd.tensor import Tensor, wrap
from dynarl.autograd.versions import mark_modified

__all__ = ["Generator", "default_generator", "manual_seed"]


class Generator:
    """A stream of random numbers (counter-based Philox), with a state that can be saved and restored."""

    def __init__(self, device: Any = "cpu") -> None:
        self.device = device
        self.manual_seed(np.random.SeedSequence().entropy & ((1 << 63) - 1))  # type: ignore[operator]

    def manual_seed(self, seed: int) -> Generator:
        """Restart the stream from a seed."""
        self._seed = int(seed)
        self.numpy = np.random.Generator(np.random.Philox(np.random.SeedSequence(abs(self._seed))))
        return self

    def seed(self) -> int:
        """Restart the stream from fresh entropy and return the seed."""
        self.__init__(self.device)  # type: ignore[misc]
        return self._seed

    def initial_seed(self) -> int:
        """Return the seed the stream started from."""
        return self._seed

    def get_state(self) -> dict[str, Any]:
        """Return the position of the stream as plain data."""
        return dict(self.numpy.bit_generator.state)

    def set_state(self, state: dict[str, Any]) -> Generator:
        """Continue the stream from a saved position."""
        self.numpy.bit_generator.state = state
        return self


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, which every draw without `generator=` uses."""
    return default_generator.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the default generator in a `with` block and restore its state afterwards."""
    before = default_generator.numpy, default_generator._seed
    default_generator.manual_seed(seed)
    try:
        yield
    finally:
        default_generator.numpy, default_generator._seed = before


def initial_seed() -> int:
    """Return the seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> dict[str, Any]:
    """Return the position of the default generator."""
    return default_generator.get_state()


def set_rng_state(state: dict[str, Any]) -> None:
    """Continue the default generator from a saved position."""
    default_generator.set_state(state)


def stream(generator: Generator | np.random.Generator | None) -> np.random.Generator:
    """Return the NumPy generator behind `generator`, the default one for None."""
    if dispatch.in_batched_call():
        raise RuntimeError(
            f"random numbers: inside a per-sample program a generator (used at {line_of(user_line())}) would give all "
            "samples the same numbers; call rand, randn, normal, bernoulli or categorical without generator=, which "
            "draw separately for each sample"
        )
    if generator is None:
        return default_generator.numpy
    return generator if isinstance(generator, np.random.Generator) else generator.numpy


def _uniform(shape: tuple[int, ...], dtype: Any, generator: Any) -> np.ndarray[Any, Any]:
    dtype = np.dtype(dtype or get_default_dtype())
    return np.asarray(stream(generator).random(shape, dtype=dtype if dtype.itemsize >= 4 else np.float32)).astype(dtype)


def _gaussian(shape: tuple[int, ...], dtype: Any, generator: Any) -> np.ndarray[Any, Any]:
    dtype = np.dtype(dtype or get_default_dtype())
    kind = dtype if dtype.itemsize >= 4 else np.dtype(np.float32)
    return np.asarray(stream(generator).standard_normal(shape, dtype=kind)).astype(dtype)


@overridable_random
def rand(
    *size: Any, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Draw uniformly from [0, 1)."""
    return _finish(_uniform(_shape(size), dtype, generator), device, requires_grad)


@overridable_random
def randn(
    *size: Any, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Draw from the standard normal distribution."""
    return _finish(_gaussian(_shape(size), dtype, generator), device, requires_grad)


def _floating(dtype: Any, name: str) -> Any:
    if np.dtype(dtype).kind != "f":
        raise TypeError(f"{name}: the dtype must be floating, got {np.dtype(dtype)}; pass dtype=")
    return dtype


@overridable_random
def rand_like(input: Tensor, *, dtype: Any = None, generator: Any = None) -> Tensor:
    """Draw uniformly from [0, 1) with the shape, dtype and device of another tensor."""
    return rand(
        tuple(input.shape), dtype=_floating(dtype or input.dtype, "rand_like"), device=input.device, generator=generator
    )


@overridable_random
def randn_like(input: Tensor, *, dtype: Any = None, generator: Any = None) -> Tensor:
    """Draw from the standard normal with the shape, dtype and device of another tensor."""
    return randn(
        tuple(input.shape),
        dtype=_floating(dtype or input.dtype, "randn_like"),
        device=input.device,
        generator=generator,
    )


@overridable_random
def randint(*bounds: Any, size: Any = None, generator: Any = None, dtype: Any = None, device: Any = None) -> Tensor:
    """Draw integers from [low, high): randint(high, size) or randint(low, high, size)."""
    if size is None:
        *bounds, size = bounds  # type: ignore[assignment]
    low, high = (0, bounds[0]) if len(bounds) == 1 else bounds
    if low >= high:
        raise ValueError(f"randint: low must be below high, got low={low}, high={high}")
    return _finish(stream(generator).integers(low, high, tuple(size)).astype(dtype or np.int64), device, False)


@overridable_random
def randperm(n: int, *, generator: Any = None, dtype: Any = None, device: Any = None) -> Tensor:
    """Return a random order of 0 ... n - 1."""
    return _finish(stream(generator).permutation(n).astype(dtype or np.int64), device, False)


@overridable_random
def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Any = None, device: Any = None) -> Tensor:
    """Draw from normal distributions with the given means and standard deviations."""
    if isinstance(std, (int, float)) and std < 0:
        raise RuntimeError(f"normal: std must not be negative, got {std}")
    if size is None:
        size = np.broadcast_shapes(getattr(mean, "shape", ()), getattr(std, "shape", ()))
    device = getattr(mean, "device", getattr(std, "device", device))
    return randn(tuple(size), generator=generator, device=device) * std + mean


@overridable_random
def bernoulli(input: Tensor, p: float | None = None, *, generator: Any = None) -> Tensor:
    """Draw 0 or 1 with the probabilities of the tensor (or p everywhere)."""
    probabilities = to_host(input.array) if p is None else np.asarray(p)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise RuntimeError("bernoulli: probabilities must be in [0, 1]")
    draw = stream(generator).random(input.shape) < probabilities
    return _finish(np.asarray(draw).astype(input.dtype), input.device, False)


@overridable_random
def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None) -> Tensor:
    """Draw class indices from rows of unnormalised weights: [rows, num_samples], or [num_samples] for one row."""
    weights = np.atleast_2d(to_host(input.array)).astype(np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and (weights.sum(-1) > 0).all()):
        raise RuntimeError("multinomial: weights must be finite, not negative, and not all zero in a row")
    if not replacement and num_samples > int((weights > 0).sum(-1).min()):
        raise RuntimeError(
            f"multinomial: cannot draw {num_samples} different classes without replacement, "
            f"a row has {int((weights > 0).sum(-1).min())}"
        )
    random = stream(generator)
    if replacement:
        cumulative = np.cumsum(weights, -1)
        u = random.random((len(weights), num_samples)) * cumulative[:, -1:]
        draw = (cumulative[:, None, :] <= u[:, :, None]).sum(-1)
    else:  # the order of exponential races with rates = weights is a draw without replacement
        with np.errstate(divide="ignore"):
            draw = np.argsort(random.standard_exponential(weights.shape) / weights, -1)[:, :num_samples]
    return _finish(draw[0] if input.ndim == 1 else draw, input.device, False)


def _refill(name: str, draw: Any) -> Any:
    def method(self: Tensor, *args: Any, generator: Any = None, **kwargs: Any) -> Tensor:
        check_inplace(self, name)
        values = wrap(draw(self.shape, self.dtype, generator, *args, **kwargs)).to(device=self.device)
        self.array[...] = values.array
        mark_modified(self.array)
        self._node = None if self.is_leaf is False else self._node
        return self

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"Fill the tensor with random numbers in place ({name[:-1]})."
    return method


def _uniform_between(shape: Any, dtype: Any, generator: Any, from_: float = 0.0, to: float = 1.0, **kw: Any) -> Any:
    low = kw.get("from", from_)
    return (_uniform(shape, dtype, generator) * (to - low) + low).astype(dtype)


def _normal_with(shape: Any, dtype: Any, generator: Any, mean: float = 0.0, std: float = 1.0) -> Any:
    return (_gaussian(shape, dtype, generator) * std + mean).astype(dtype)


def _bernoulli_with(shape: Any, dtype: Any, generator: Any, p: float = 0.5) -> Any:
    return np.asarray(stream(generator).random(shape) < p).astype(dtype)


def _exponential_with(shape: Any, dtype: Any, generator: Any, lambd: float = 1.0) -> Any:
    return (stream(generator).standard_exponential(shape) / lambd).astype(dtype)


def _integers_between(shape: Any, dtype: Any, generator: Any, low: int, high: int | None = None) -> Any:
    low, high = (0, low) if high is None else (low, high)
    return stream(generator).integers(low, high, shape).astype(dtype)


for _name, _draw in (
    ("uniform_", _uniform_between),
    ("normal_", _normal_with),
    ("bernoulli_", _bernoulli_with),
    ("exponential_", _exponential_with),
    ("random_", _integers_between),
):
    setattr(Tensor, _name, _refill(_name, _draw))
setattr(Tensor, "multinomial", multinomial)  # noqa: B010 - mypy does not know attributes bound here
setattr(Tensor, "bernoulli", bernoulli)  # noqa: B010
