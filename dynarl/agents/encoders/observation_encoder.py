"""Stored observations as the input of networks: normalised, encoded, on the networks' device."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl.agents.encoders.ragged_input import ragged_input
from dynarl.autograd.device import to_device
from dynarl.autograd.tensor import wrap
from dynarl.envs import ObservationNormalizer
from dynarl.envs.observations import observation_layout
from dynarl.envs.ragged_spaces import example_rows
from dynarl.envs.spaces import encode

__all__ = ["ObservationEncoder"]


class ObservationEncoder:
    """Turns stored observations [B, ...] into the networks' input.

    `prepare` does the work that all passes over a fragment share (normalise, encode, copy to the device), `encode`
    makes a network's input of prepared rows; calling the encoder does both. With `flatten` the input is [B, F]
    float32, else it keeps the shape of the space. Observations of varying size stay rows until `encode`, which puts
    the rows of one minibatch together.
    """

    def __init__(
        self,
        space: spaces.Space[Any],
        *,
        device: str = "cpu",
        flatten: bool = True,
        normalizer: ObservationNormalizer | None = None,
    ) -> None:
        self.space, self.layout = space, observation_layout(space)
        self.device, self.flatten, self.normalizer = device, flatten, normalizer
        self.is_ragged = self.layout.dtype == object
        inner = self.layout.space
        self._as_stored = isinstance(inner, spaces.Box) and len(inner.shape) == 1 and inner.dtype == np.float32

    def __call__(self, obs: NDArray[Any]) -> Any:
        """Return the networks' input for stored observations [B, ...]."""
        return self.encode(self.prepare(obs))

    def prepare(self, obs: NDArray[Any]) -> Any:
        """Return stored observations [B, ...] as an array on the device; rows of varying size as they are."""
        if self.is_ragged:
            return obs
        if self.normalizer is not None:
            obs = self.normalizer(obs)
        encoded = obs if self._as_stored else encode(self.layout.space, obs, flatten=self.flatten)
        return encoded if self.device == "cpu" else to_device(encoded, self.device)

    def encode(self, prepared: Any) -> Any:
        """Return the networks' input for prepared rows: a Tensor, or `Ragged` values."""
        return ragged_input(self.layout.space, prepared, self.device) if self.is_ragged else wrap(prepared)

    def update(self, obs: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> None:
        """Add the observations of a fragment [T, N, ...] to the statistics of the normaliser, if there is one."""
        if self.normalizer is not None:
            self.normalizer.update(obs, valid)

    def example(self, rows: int) -> NDArray[Any]:
        """Return valid stored observations [rows, ...]."""
        if self.is_ragged:
            return example_rows(self.layout.space, rows)
        return np.zeros((rows, *self.layout.shape), self.layout.dtype) + getattr(self.layout.space, "start", 0)
