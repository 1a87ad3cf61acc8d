"""Soft Actor-Critic."""

from dynarl.agents.sac.agent import SAC
from dynarl.agents.sac.config import SACConfig
from dynarl.agents.sac.sac import SACLearner

__all__ = ["SAC", "SACConfig", "SACLearner"]
