"""Proximal Policy Optimisation."""

from dynarl.agents.ppo.config import PPOConfig
from dynarl.agents.ppo.ppo import PPO

__all__ = ["PPO", "PPOConfig"]
