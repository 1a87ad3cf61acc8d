"""Planning with a learned model (TreeQN, ATreeC, arXiv:1710.11417), as deep as it takes to tell two actions apart."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.conditional.layout import layout
from dynarl.autograd import Tensor, no_grad, zeros
from dynarl.distributions import Categorical
from dynarl.rollout import Feedback

__all__ = ["TreePlanner"]


class TreePlanner(nn.Module):
    """Look ahead in a learned model, one action further as long as the best two actions are worth about the same.

    A latent state z = E s and the state z_a = T_a z that follows it are linear, the reward r = R(z_a) of getting there
    a small network. The worth of an action is that of the best sequence of actions that begins with it: the discounted
    rewards along it. Planning stops where the best two actions differ by at least `clear`, in multiples of the reward
    `unit`, and at `max_depth`. Actions are drawn by their worth (ATreeC).

    ``loss`` grounds the model in what came of the last action: its reward, as in the paper, and the state, except where
    the environment says in the info field `anew` that this has nothing to do with the one before. Other than in the
    paper that is all the model learns from, and nothing stands for what lies beyond the plan: with a policy gradient
    through the plan, or a value at its end, the network stops after a step or two and is right less often. ``steps`` is
    the depth.

    `depth` makes the same network static: always that deep.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        *,
        latent_size: int = 64,
        hidden_size: int = 64,
        max_depth: int = 5,
        clear: float = 0.2,
        gamma: float = 0.9,
        unit: float = 1.0,
        anew: str | None = None,
        depth: int | None = None,
    ) -> None:
        super().__init__()
        self.size, self.actions = layout(self, observation_space, action_space)
        if self.actions < 2:
            raise ValueError(f"TreePlanner: there must be at least 2 actions to tell apart, got {self.actions}")
        self.latent_size, self.gamma, self.unit, self.anew = latent_size, gamma, unit, anew
        self.info_fields = () if anew is None else (anew,)
        self.max_depth, self.clear, self.depth = max_depth if depth is None else depth, clear, depth
        self.encode = nn.Linear(self.size, latent_size)
        self.move = nn.Linear(latent_size, self.actions * latent_size)
        self.reward = nn.Sequential(nn.Linear(latent_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))
        self.sharpness = nn.Parameter(zeros(()) + 1.0)
        self.value = nn.Linear(self.actions, 1)

    def initial_state(self) -> Tensor:
        """The observation before, [size]."""
        return zeros(self.size)

    def forward(self, obs: Tensor, state: Tensor, feedback: Feedback) -> tuple[Any, Tensor, Any, dict[str, Any]]:
        """Return distribution, value, next state and extra for one observation."""
        z, loss = self.encode(obs), zeros(())
        if not feedback.episode_start:
            loss = self.surprise(state, feedback, z.detach())
        with no_grad():
            worth, depth = self.plan(z)
        value = self.value(worth.sort(-1)[0])[0]
        return Categorical(logits=worth * self.sharpness.exp()), value, obs, {"loss": loss, "steps": depth}

    def plan(self, z: Tensor) -> tuple[Tensor, int]:
        """Return the worth of each action [A] in state z, and how deep it was looked for."""
        states, earned, worth, depth, gap = z.unsqueeze(0), zeros(1, 1), zeros(self.actions), 0, -1.0
        while depth < self.max_depth and gap < self.clear:
            states = self.move(states).reshape(-1, self.latent_size)  # [A^depth, Z]: those of one first action together
            earned = earned.expand(-1, self.actions).reshape(-1, 1) + self.gamma**depth * self.reward(states)
            depth = depth + 1
            worth = earned.reshape(self.actions, -1).max(-1)[0]
            best = worth.sort(-1)[0]
            gap = -1.0 if self.depth is not None else best[-1] - best[-2]
        return worth, depth

    def surprise(self, before: Tensor, feedback: Feedback, z: Tensor) -> Tensor:
        """Return how far the model was wrong about what the last action did."""
        moved = feedback.action @ self.move(self.encode(before)).reshape(self.actions, self.latent_size)
        loss = (self.reward(moved)[0] - feedback.reward / self.unit) ** 2
        if self.anew is None or feedback.info[self.anew] == 0:
            loss = loss + ((moved - z) ** 2).sum()
        return loss
