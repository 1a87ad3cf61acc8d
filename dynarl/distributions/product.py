"""A product of distributions over the columns of one array, for actions that mix kinds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dynarl.autograd import Tensor, rand
from dynarl.autograd.device import xp
from dynarl.autograd.ops.shape import cat
from dynarl.distributions.distribution import Distribution, raw

_TINY = 1e-38


class Product(Distribution):
    """Independent parts: a sample [..., D] holds the parts' numbers in order, in one floating dtype.

    Parts are distributions with one batch shape and an event shape of () or (k,): Categorical, MultiCategorical,
    Independent(Normal), Independent(Bernoulli). Integers among them are kept as floating-point numbers.
    log_prob and entropy sum over the parts.
    """

    noise_kind = "uniform"

    def __init__(self, parts: Sequence[Any], validate_args: bool | None = None) -> None:
        if not parts:
            raise ValueError("Product: needs at least one part, got 0")
        shapes = {tuple(part.batch_shape) for part in parts}
        if len(shapes) > 1 or any(len(part.event_shape) > 1 for part in parts):
            events = [tuple(part.event_shape) for part in parts]
            raise ValueError(
                f"Product: parts must have one batch shape and events of at most one dimension, got batch shapes "
                f"{sorted(shapes)} and events {events}"
            )
        self.parts = tuple(parts)
        self.widths = [math.prod(part.event_shape) for part in parts]
        self.batch_shape = tuple(parts[0].batch_shape)
        self.event_shape = (sum(self.widths),)
        if validate_args is not None:
            self._validate_args = validate_args

    def _like(self) -> Any:
        return self.parts[0]._like()

    @property
    def noise(self) -> tuple[str, int]:
        """Return ("uniform", k): one number per discrete component, two per Gaussian one (Box and Muller)."""
        rows = math.prod(self.batch_shape[1:])
        return "uniform", rows * sum(self._numbers())

    def _numbers(self) -> list[int]:
        return [width * (2 if part.noise_kind == "normal" else 1) for part, width in zip(self.parts, self.widths)]

    def _noise(self, sample_shape: Sequence[int]) -> Any:
        like = self._like()
        shape = (*sample_shape, *self.batch_shape, sum(self._numbers()))
        return rand(shape, dtype=like.dtype, device=like.device).array

    def sample_from(self, noise: Any) -> Tensor:
        """Return the sample that uniform `noise` [rows, k] determines."""
        array = raw(noise)
        shape = (*self.batch_shape, sum(self._numbers()))
        if array.size != math.prod(shape):
            raise ValueError(
                f"sample_from: Product takes {self.noise[1]} uniform numbers per row, got noise of shape "
                f"{tuple(array.shape)}"
            )
        return self._draw(array.reshape(shape))

    def _draw(self, noise: Any) -> Tensor:
        drawn, start = [], 0
        for part, width, count in zip(self.parts, self.widths, self._numbers()):
            numbers = noise[..., start : start + count]
            start += count
            if part.noise_kind == "normal":
                numbers = _box_muller(numbers[..., :width], numbers[..., width:])
            drawn.append(part._draw(numbers if part.event_shape else numbers[..., 0]))
        return self._joined(drawn)

    def _joined(self, values: Sequence[Any]) -> Tensor:
        dtype = self._like().dtype
        columns = [
            (value if part.event_shape else value.unsqueeze(-1)).to(dtype) for part, value in zip(self.parts, values)
        ]
        joined: Tensor = cat(columns, -1)
        return joined

    def _split(self, value: Any) -> list[Any]:
        pieces, start = [], 0
        for part, width in zip(self.parts, self.widths):
            piece = value[..., start : start + width]
            pieces.append(piece if part.event_shape else piece.squeeze(-1))
            start += width
        return pieces

    def log_prob(self, value: Any) -> Tensor:
        """Return the sum of the parts' log-densities at value [..., D]."""
        first, *rest = [part.log_prob(piece) for part, piece in zip(self.parts, self._split(value))]
        total: Tensor = sum(rest, first)
        return total

    def entropy(self) -> Tensor:
        """Return the sum of the parts' entropies in nats, of densities and of probabilities."""
        first, *rest = [part.entropy() for part in self.parts]
        total: Tensor = sum(rest, first)
        return total

    @property
    def mode(self) -> Tensor:
        """Return the mode of each part."""
        return self._joined([part.mode for part in self.parts])


def _box_muller(u: Any, v: Any) -> Any:
    """Return standard normal numbers of two arrays of uniform ones."""
    np_ = xp(u)
    return np_.sqrt(-2.0 * np_.log(np_.maximum(u, _TINY))) * np_.cos((2.0 * math.pi) * v)


__all__ = ["Product"]
