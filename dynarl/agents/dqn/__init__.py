"""Deep Q-learning."""

from dynarl.agents.dqn.agent import DQN
from dynarl.agents.dqn.config import DQNConfig
from dynarl.agents.dqn.dqn import DQNLearner

__all__ = ["DQN", "DQNConfig", "DQNLearner"]
