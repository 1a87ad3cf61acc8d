"""The encoder of an observation space: the only file that knows all of them."""

from __future__ import annotations

from functools import partial
from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.encoders.images import (
    NATURE_LEAST,
    MixedEncoder,
    NatureCNN,
    ResidualCNN,
    TextEncoder,
    is_image,
    pixels,
)
from dynarl.agents.encoders.sets import GraphEncoder, PartsEncoder, SetEncoder
from dynarl.envs.spaces import is_ragged, leaves_of, parts_of

__all__ = ["ENCODERS", "features_for"]

ENCODERS = ("auto", "nature", "residual", "none")


def features_for(space: spaces.Space[Any], encoder: str = "auto") -> nn.Module | None:
    """Return the network for observations of a space, None where they are read as numbers.

    `encoder` names the network of images: "nature", "residual", "auto" (nature for images that are large enough, else
    residual) or "none" (pixels as numbers). Sequences and Graphs always get a network. Raises ValueError for an
    unknown name.
    """
    if encoder not in ENCODERS:
        raise ValueError(f"encoder: must be one of {', '.join(ENCODERS)}, got {encoder!r}")
    if is_ragged(space):
        return _ragged_encoder(space, encoder)
    if encoder == "none":
        return None
    if is_image(space):
        return _image_encoder(space, encoder)
    if isinstance(space, spaces.Text):
        return TextEncoder(space)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        leaves = leaves_of(space)
        if any(is_image(leaf) or isinstance(leaf, spaces.Text) for leaf in leaves):
            return MixedEncoder(space, [features_for(leaf, encoder) for leaf in leaves])
    return None


def _ragged_encoder(space: spaces.Space[Any], encoder: str) -> nn.Module:
    # The encoders call `embed` themselves, so that parameters are drawn in the order of the layers.
    embed = partial(features_for, encoder=encoder)
    if isinstance(space, spaces.Sequence):
        return SetEncoder(space, embed=embed)
    if isinstance(space, spaces.Graph):
        return GraphEncoder(space, embed=embed)
    return _parts_encoder(space, encoder)


def _parts_encoder(space: Any, encoder: str) -> PartsEncoder:
    networks: dict[Any, nn.Module | None] = {}
    for key, part in parts_of(space):
        nested = isinstance(part, spaces.Dict | spaces.Tuple)
        networks[key] = _parts_encoder(part, encoder) if nested else features_for(part, encoder)
    return PartsEncoder(networks)


def _image_encoder(space: spaces.Space[Any], encoder: str) -> nn.Module:
    large = min(pixels(space.shape or ())) >= NATURE_LEAST
    return NatureCNN(space) if encoder == "nature" or (encoder == "auto" and large) else ResidualCNN(space)
