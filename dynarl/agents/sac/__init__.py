"""Soft Actor-Critic."""

from dynarl.agents.sac.config import SACConfig
from dynarl.agents.sac.sac import SAC

__all__ = ["SAC", "SACConfig"]
