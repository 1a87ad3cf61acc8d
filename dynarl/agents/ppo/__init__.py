"""Proximal Policy Optimisation."""

from dynarl.agents.ppo.agent import PPO
from dynarl.agents.ppo.config import PPOConfig
from dynarl.agents.ppo.ppo import PPOLearner

__all__ = ["PPO", "PPOConfig", "PPOLearner"]
