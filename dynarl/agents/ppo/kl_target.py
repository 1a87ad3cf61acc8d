"""The target of the KL divergence of an update, and the three actions that keep it."""

from __future__ import annotations

from typing import Any

__all__ = ["KLTarget"]


class KLTarget:
    """Compares the approximate KL divergence of PPO's updates with a target; without one it never acts."""

    def __init__(self, target: float | None, action: str) -> None:
        self.target, self.action = target, action

    def stops_before_minibatch(self, kl: float) -> bool:
        """Return whether to end the epochs before a minibatch with this KL (target_kl of Stable-Baselines3)."""
        return self.target is not None and self.action == "stop_minibatch" and kl > 1.5 * self.target

    def stops_after_epoch(self, kl: float | None) -> bool:
        """Return whether to end the epochs after one whose last minibatch had this KL (target_kl of CleanRL)."""
        return self.target is not None and self.action == "stop_epoch" and kl is not None and kl > self.target

    def adapt(self, group: dict[str, Any], kl: float) -> None:
        """Keep the KL within a factor of 2 of the target: outside, the learning rate of the group changes by 1.5."""
        if self.target is None or self.action != "adapt_lr":
            return
        if kl > 2.0 * self.target:
            group["lr"] = max(group["lr"] / 1.5, 1e-6)
        elif kl < 0.5 * self.target:
            group["lr"] = min(group["lr"] * 1.5, 1e-2)
