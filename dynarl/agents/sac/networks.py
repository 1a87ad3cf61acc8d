"""The networks of SAC for a pair of spaces: actor and critics, with encoders in front where observations need them."""

from __future__ import annotations

import copy
from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.encoders.images import features_for
from dynarl.agents.policies import FeaturesFactory, features_size
from dynarl.agents.sac.config import SACConfig
from dynarl.agents.sac.critics import Critics
from dynarl.agents.sac.squashed import CategoricalActor, SquashedActor
from dynarl.envs.observations import observation_layout
from dynarl.envs.spaces import flat_size

__all__ = ["make_networks"]


def make_networks(
    space: spaces.Space[Any],
    actions: int,
    cfg: SACConfig,
    factory: FeaturesFactory | None,
    *,
    discrete: bool,
    more: int = 0,
) -> tuple[CategoricalActor | SquashedActor, Critics]:
    """Return actor and critics for encoded observations of a space and so many actions (or their dimensions).

    Each has an encoder of its own, all critics together one, unless `share_encoder` gives it to the critics alone.
    The critics see `more` features beside. Raises ValueError where sharing is asked for and the space needs no encoder.
    """
    of_critics = _encoder(space, cfg, factory)
    size = flat_size(space) if of_critics is None else features_size(of_critics, observation_layout(space).space)
    if cfg.share_encoder and of_critics is None:
        raise ValueError(f"share_encoder: observations of {space} have no encoder to share; leave it off")
    own: dict[str, Any] = {"hidden_sizes": cfg.hidden_sizes, "activation": cfg.activation}
    of_actor = None if cfg.share_encoder else _encoder(space, cfg, factory)
    actor: CategoricalActor | SquashedActor
    if discrete:
        actor = CategoricalActor(size, actions, **own, features=of_actor)
    else:
        actor = SquashedActor(
            size, actions, **own, features=of_actor, log_std_min=cfg.log_std_min, log_std_max=cfg.log_std_max,
            use_sde=cfg.use_sde, log_std_init=cfg.log_std_init, clip_mean=cfg.sde_clip_mean,
        )  # fmt: skip
    size += more
    inputs, outputs = (size, actions) if discrete else (size + actions, 1)
    return actor, Critics(inputs, outputs, **own, num_critics=cfg.num_critics, features=of_critics)


def _encoder(space: spaces.Space[Any], cfg: SACConfig, factory: FeaturesFactory | None) -> nn.Module | None:
    """Return a new network for observations, None where they need none."""
    if factory is None:
        return features_for(space, cfg.encoder)
    return copy.deepcopy(factory) if isinstance(factory, nn.Module) else factory(observation_layout(space).space)
