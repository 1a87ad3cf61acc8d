"""Agents: each file reads as its paper, and all share the verbs learn, predict, evaluate, save and load."""

from dynarl.agents.agent import Agent, Evaluation
from dynarl.agents.dqn import DQN, DQNConfig
from dynarl.agents.policies import ActorCritic
from dynarl.agents.ppo import PPO, PPOConfig, PPOLearner
from dynarl.agents.sac import SAC, SACConfig

__all__ = [
    "DQN",
    "PPO",
    "SAC",
    "ActorCritic",
    "Agent",
    "DQNConfig",
    "Evaluation",
    "PPOConfig",
    "PPOLearner",
    "SACConfig",
]
