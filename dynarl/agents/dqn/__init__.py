"""Deep Q-learning."""

from dynarl.agents.dqn.config import DQNConfig
from dynarl.agents.dqn.dqn import DQN

__all__ = ["DQN", "DQNConfig"]
