"""Networks from images, text, and mixtures of them with numbers to a feature vector.

They stand before the actor and critic (or the Q-network); `dynarl.agents.encoders.choose` picks one for a space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from dynarl import nn
from dynarl.autograd import Tensor, no_grad, zeros
from dynarl.autograd.ops.conv import conv2d_relu
from dynarl.autograd.ops.shape import cat
from dynarl.envs.spaces import flat_size, leaves_of

__all__ = ["NATURE_LEAST", "MixedEncoder", "NatureCNN", "ResidualCNN", "TextEncoder", "is_image", "pixels"]

NATURE_LEAST = 36
"""Smallest height and width, in pixels, that the three kernels of the Nature network fit into."""


def is_image(space: Any) -> bool:
    """Return whether a space is an image: a uint8 Box with 3 dimensions."""
    return isinstance(space, spaces.Box) and len(space.shape) == 3 and space.dtype == np.uint8


def channels_first(shape: tuple[int, ...]) -> bool:
    """Return whether an image of this shape is [C, H, W]: its first dimension is smaller than its last."""
    return shape[0] < shape[2]


def pixels(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return height and width of an image of this shape."""
    return (shape[1], shape[2]) if channels_first(shape) else (shape[0], shape[1])


class _Image(nn.Module):
    """Brings images to [B, C, H, W] in [0, 1]."""

    head: nn.Module

    def __init__(self, space: Any) -> None:
        super().__init__()
        if not isinstance(space, spaces.Box) or len(space.shape) != 3:
            raise ValueError(f"{type(self).__name__}: needs a Box with 3 dimensions, got {space}")
        self.shape = tuple(space.shape)
        self.channels_first = channels_first(self.shape)
        self.channels = self.shape[0] if self.channels_first else self.shape[2]
        self.scale = 1.0 / 255.0 if space.dtype == np.uint8 else 1.0

    def image(self, obs: Tensor) -> Tensor:
        """Return observations [B, ...] as [B, C, H, W]."""
        image: Any = obs if obs.ndim == 4 else obs.reshape(-1, *self.shape)
        if self.scale != 1.0:
            image = image * self.scale
        scaled: Tensor = image if self.channels_first else image.permute(0, 3, 1, 2)
        return scaled

    def flat_size(self) -> int:
        """Return how many numbers the convolutions make of one image."""
        with no_grad():
            return int(self.convolve(zeros(1, self.channels, *pixels(self.shape))).shape[1])

    def convolve(self, image: Tensor) -> Tensor:
        """Return images [B, C, H, W] after the convolutions, [B, F]."""
        raise TypeError(f"{type(self).__name__}: convolve must be defined")

    def forward(self, obs: Tensor) -> Tensor:
        """Return features [B, F] of images [B, ...]."""
        features: Tensor = self.head(self.convolve(self.image(obs)))
        return features


def _orthogonal(layer: Any, gain: float = math.sqrt(2.0)) -> Any:
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class NatureCNN(_Image):
    """The network of Mnih et al., Nature 518, 2015: three convolutions and a layer of 512, ReLU after each.

    Images are [B, C, H, W] or [B, H, W, C] as in the space, at least 36 x 36. Orthogonal weights of gain sqrt 2.
    """

    def __init__(self, space: Any, features: int = 512) -> None:
        super().__init__(space)
        if min(pixels(self.shape)) < NATURE_LEAST:
            raise ValueError(
                f"NatureCNN: images must be at least {NATURE_LEAST} x {NATURE_LEAST}, got {self.shape}; "
                "use the residual encoder"
            )
        self.convs = nn.ModuleList(
            [
                _orthogonal(nn.Conv2d(self.channels, 32, 8, stride=4)),
                _orthogonal(nn.Conv2d(32, 64, 4, stride=2)),
                _orthogonal(nn.Conv2d(64, 64, 3)),
            ]
        )
        self.head = nn.Sequential(_orthogonal(nn.Linear(self.flat_size(), features)), nn.ReLU())

    def convolve(self, image: Tensor) -> Tensor:
        """Return images [B, C, H, W] after the convolutions, [B, F]."""
        conv: Any
        for conv in self.convs:
            image = conv2d_relu(image, conv.weight, conv.bias, conv.windows)
        flat: Tensor = image.flatten(1)
        return flat


class _Residual(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Any) -> Any:
        inner = conv2d_relu(nn.functional.relu(x), self.first.weight, self.first.bias, self.first.windows)
        return x + self.second(inner)


class ResidualCNN(_Image):
    """The residual network of IMPALA (arXiv:1802.01561, figure 3) for images of any size.

    Each of `channels` is a block: convolution, maximum over 3 x 3 with stride 2, two residual layers. A layer of
    `features` with ReLU follows.
    """

    def __init__(self, space: Any, features: int = 256, channels: tuple[int, ...] = (16, 32, 32)) -> None:
        super().__init__(space)
        layers: list[nn.Module] = []
        for inputs, outputs in zip((self.channels, *channels), channels):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(3, 2, 1)]
            layers += [_Residual(outputs), _Residual(outputs)]
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Sequential(_orthogonal(nn.Linear(self.flat_size(), features)), nn.ReLU())

    def convolve(self, image: Tensor) -> Tensor:
        """Return images [B, C, H, W] after the blocks, [B, F]."""
        flat: Tensor = nn.functional.relu(self.blocks(image)).flatten(1)
        return flat


class TextEncoder(nn.Module):
    """Character ids [B, L] (0: none) to their embeddings, concatenated: [B, L * size]."""

    def __init__(self, space: spaces.Text, size: int = 16) -> None:
        super().__init__()
        self.length = flat_size(space)
        self.embedding = nn.Embedding(len(space.character_list) + 1, size, padding_idx=0)

    def forward(self, obs: Tensor) -> Tensor:
        """Return features [B, L * size] of ids [B, L], given as numbers of any dtype."""
        features: Tensor = self.embedding(obs.long()).flatten(1)
        return features


class MixedEncoder(nn.Module):
    """Map stored observations [B, D] of a Dict or Tuple to features [B, F], each part by its own network.

    `networks` has one entry for each leaf of the space, in order; None passes the encoded numbers (one-hot for
    Discrete) through. The features of the parts are concatenated.
    """

    def __init__(self, space: spaces.Space[Any], networks: Sequence[nn.Module | None]) -> None:
        super().__init__()
        self.sizes = [flat_size(leaf) for leaf in leaves_of(space)]
        if len(networks) != len(self.sizes):
            raise ValueError(
                f"MixedEncoder: networks must have one entry for each of {len(self.sizes)} parts, got {len(networks)}"
            )
        self.parts = nn.ModuleList([nn.Identity() if network is None else network for network in networks])

    def forward(self, obs: Tensor) -> Tensor:
        """Return features [B, F] of stored observations [B, D]."""
        outputs, start = [], 0
        for part, size in zip(self.parts, self.sizes):
            outputs.append(part(obs[:, start : start + size]))
            start += size
        features: Tensor = cat(outputs, 1)
        return features
