"""Planning with a learned model (TreeQN, ATreeC, arXiv:1710.11417), as deep as it takes to tell two actions apart."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dynarl import nn
from dynarl.agents.conditional.layout import layout
from dynarl.agents.policies.renamed_arguments import renames_arguments
from dynarl.autograd import Tensor, no_grad, zeros
from dynarl.distributions import Categorical
from dynarl.rollout import Feedback

__all__ = ["TreePlanner"]


@renames_arguments("tree_planner")
class TreePlanner(nn.Module):
    """Plan in a learned model, one action deeper while the best two actions have about the same worth.

    A latent state z = E s and its successor z_a = T_a z are linear; the reward r = R(z_a) is a small network. The
    worth of an action is the discounted reward of the best sequence that begins with it. Planning stops where the
    best two actions differ by at least `clear`, in multiples of the reward `unit`, and at `max_depth`. Actions are
    drawn by their worth (ATreeC).

    ``loss`` trains the model on the result of the last action: its reward, as in the paper, and the next state,
    except where the info field `reset_field` is not 0, which means that the state is unrelated to the one before.
    Unlike in the paper the model learns from this loss alone, and the leaves of the plan have no value: with a policy
    gradient through the plan, or with a value at its leaves, planning stopped after one or two steps and was right
    less often.
    ``steps`` is the depth.

    `depth` makes the same network static: that depth at every step.
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
        reset_field: str | None = None,
        depth: int | None = None,
    ) -> None:
        super().__init__()
        self.size, self.actions = layout(self, observation_space, action_space)
        if self.actions < 2:
            raise ValueError(f"TreePlanner: there must be at least 2 actions to tell apart, got {self.actions}")
        self.latent_size, self.gamma, self.unit, self.reset_field = latent_size, gamma, unit, reset_field
        self.info_fields = () if reset_field is None else (reset_field,)
        self.max_depth, self.clear, self.depth = max_depth if depth is None else depth, clear, depth
        self.encode = nn.Linear(self.size, latent_size)
        self.move = nn.Linear(latent_size, self.actions * latent_size)
        self.reward = nn.Sequential(nn.Linear(latent_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))
        self.sharpness = nn.Parameter(zeros(()) + 1.0)
        self.value = nn.Linear(self.actions, 1)

    def initial_state(self) -> Tensor:
        """Return the observation of the last step, [size]."""
        return zeros(self.size)

    def forward(self, obs: Tensor, state: Tensor, feedback: Feedback) -> tuple[Any, Tensor, Any, dict[str, Any]]:
        """Return distribution, value, next state and aux for one observation."""
        z, loss = self.encode(obs), zeros(())
        if not feedback.episode_start:
            loss = self.surprise(state, feedback, z.detach())
        with no_grad():
            worth, depth = self.plan(z)
        value = self.value(worth.sort(-1)[0])[0]
        return Categorical(logits=worth * self.sharpness.exp()), value, obs, {"loss": loss, "steps": depth}

    def plan(self, z: Tensor) -> tuple[Tensor, int]:
        """Return the worth of each action [A] in state z, and the depth of the plan."""
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
        """Return the error of the model about the result of the last action."""
        moved = feedback.action @ self.move(self.encode(before)).reshape(self.actions, self.latent_size)
        loss = (self.reward(moved)[0] - feedback.reward / self.unit) ** 2
        if self.reset_field is None or feedback.info[self.reset_field] == 0:
            loss = loss + ((moved - z) ** 2).sum()
        return loss
