"""The networks of SAC for a pair of spaces: actor and critics, with encoders in front where observations need them."""

from __future__ import annotations

import copy
import math
from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.encoders.choose import features_for
from dynarl.agents.policies import FeaturesFactory, features_size
from dynarl.agents.sac.config import SACConfig
from dynarl.agents.sac.critics import Critics
from dynarl.agents.sac.squashed import CategoricalActor, SquashedActor
from dynarl.envs.observations import observation_layout
from dynarl.envs.spaces import flat_size

__all__ = ["make_networks"]


def make_networks(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    config: SACConfig,
    features: FeaturesFactory | None = None,
    *,
    more: int = 0,
) -> tuple[CategoricalActor | SquashedActor, Critics]:
    """Return actor and critics for encoded observations and a bounded Box or Discrete space of actions.

    The actor has an encoder of its own, the critics have one together; with `share_encoder` the critics' is the only
    one. The critics take `more` features besides those of the observation. Raises ValueError for `share_encoder`
    where the space needs no encoder.
    """
    of_critics = _encoder(observation_space, config, features)
    if of_critics is None:
        if config.share_encoder:
            raise ValueError(
                f"share_encoder: observations of {observation_space} have no encoder to share; leave it off"
            )
        size = flat_size(observation_space)
    else:
        size = features_size(of_critics, observation_layout(observation_space).space)
    layers: dict[str, Any] = {"hidden_sizes": config.hidden_sizes, "activation": config.activation}
    of_actor = None if config.share_encoder else _encoder(observation_space, config, features)
    ensemble: dict[str, Any] = {**layers, "num_critics": config.num_critics, "features": of_critics}
    if isinstance(action_space, spaces.Discrete):
        num_actions = int(action_space.n)
        return CategoricalActor(size, num_actions, **layers, features=of_actor), Critics(
            size + more, num_actions, **ensemble
        )
    dimensions = math.prod(action_space.shape or ())
    actor = SquashedActor(
        size, dimensions, **layers, features=of_actor, log_std_min=config.log_std_min, log_std_max=config.log_std_max,
        use_sde=config.use_sde, log_std_init=config.log_std_init, clip_mean=config.sde_clip_mean,
    )  # fmt: skip
    return actor, Critics(size + more + dimensions, 1, **ensemble)


def _encoder(space: spaces.Space[Any], cfg: SACConfig, factory: FeaturesFactory | None) -> nn.Module | None:
    """Return a new network for observations, None where they need none."""
    if factory is None:
        return features_for(space, cfg.encoder)
    return copy.deepcopy(factory) if isinstance(factory, nn.Module) else factory(observation_layout(space).space)
