"""What agents that learn from a replay share."""

from dynarl.agents.off_policy.agent import OffPolicyAgent

__all__ = ["OffPolicyAgent"]
