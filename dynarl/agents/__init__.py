"""Agents: each file reads as its paper, and all share the verbs learn, predict, evaluate, save and load."""

from dynarl.agents.agent import Agent, Evaluation
from dynarl.agents.dqn import DQN, DQNConfig, DQNLearner
from dynarl.agents.policies import ActorCritic
from dynarl.agents.ppo import PPO, PPOConfig, PPOLearner
from dynarl.agents.sac import SAC, SACConfig, SACLearner

__all__ = [
    "DQN",
    "PPO",
    "SAC",
    "ActorCritic",
    "Agent",
    "DQNConfig",
    "DQNLearner",
    "Evaluation",
    "PPOConfig",
    "PPOLearner",
    "SACConfig",
    "SACLearner",
]
