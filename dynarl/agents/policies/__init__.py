"""Policies: the ready-made actor-critic, and a registry of policies by name."""

from dynarl.agents.encoders.features import FeaturesFactory, features_size, made_features
from dynarl.agents.policies.actor_critic import (
    ACTIVATIONS,
    FORBIDDEN,
    ActorCritic,
    head_size,
    mlp,
)
from dynarl.agents.policies.registry import POLICIES, named_policy, register_policy

__all__ = [
    "ACTIVATIONS",
    "FORBIDDEN",
    "POLICIES",
    "ActorCritic",
    "FeaturesFactory",
    "features_size",
    "head_size",
    "made_features",
    "mlp",
    "named_policy",
    "register_policy",
]
