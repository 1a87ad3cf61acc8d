"""Soft Actor-Critic for continuous (arXiv:1812.05905) and discrete actions (arXiv:1910.07207).

for each environment step:                                                                   sac/agent.py
    a ~ pi(.|s); store (s, a, r, s') in the replay
for each gradient step, on a batch from the replay:
    y = r + gamma (1 - terminated) (min_i Q'_i(s', a') - alpha log pi(a'|s')),  a' ~ pi      eq. 2, 3
    Q_i       <- Adam step on 1/2 mean((Q_i(s, a) - y)^2)                                    eq. 5
    pi        <- Adam step on mean(alpha log pi(a~|s) - min_i Q_i(s, a~)),  a~ ~ pi          eq. 7, 9
    log alpha <- Adam step on -log alpha (log pi(a~|s) + target entropy)                     eq. 18
    Q'_i      <- tau Q_i + (1 - tau) Q'_i
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from gymnasium import spaces

from dynarl import nn, optim
from dynarl.agents.learning_rate import anneal_learning_rate
from dynarl.agents.off_policy.batch_check import BatchCheck
from dynarl.agents.sac.config import SACConfig
from dynarl.agents.sac.critics import Critics
from dynarl.agents.sac.losses import critic_loss, soft_td_target
from dynarl.agents.sac.objectives import make_objective
from dynarl.agents.sac.policy_evaluator import NetworkPolicy, PolicyEvaluator
from dynarl.agents.state import load_attributes, save_attributes
from dynarl.autograd import Parameter, Tensor, flatten, no_grad, tensor
from dynarl.rollout import Batch

__all__ = ["SACLearner"]


class SACLearner:
    """Learns critics, actor and temperature from batches of transitions.

    >>> actor, critics = make_networks(observation_space, action_space, config)
    >>> learner = SACLearner(actor, critics, config, action_space)
    >>> metrics = learner.update(batch)

    `policy` evaluates the actor on a batch; by default as a network of vectors of float32.
    """

    saved = (
        "actor", "critics", "target_critics", "actor_optimizer", "critic_optimizer", "alpha_optimizer?", "log_alpha",
        "grad_steps",
    )  # fmt: skip

    def __init__(
        self,
        actor: nn.Module,
        critics: Critics,
        config: SACConfig,
        action_space: spaces.Space[Any],
        *,
        device: str = "cpu",
        policy: PolicyEvaluator | None = None,
    ) -> None:
        self.config, self.grad_steps = config, 0
        self.actor, self.critics = actor.to(device), critics.to(device)
        self.target_critics = copy.deepcopy(self.critics)
        self.policy = NetworkPolicy(actor) if policy is None else policy
        self.objective = make_objective(action_space, config)
        self.check = _batch_check(action_space, self.critics, self.policy)

        self.actor_optimizer = optim.Adam(actor.parameters(), lr=config.learning_rate)
        self.critic_optimizer = optim.Adam(critics.parameters(), lr=config.learning_rate)
        initial_alpha = config.alpha_init if config.alpha is None else config.alpha
        self.log_alpha = Parameter(tensor(math.log(initial_alpha), device=device))
        learned = config.alpha is None
        self.alpha_optimizer = optim.Adam([self.log_alpha], lr=config.learning_rate) if learned else None
        self._critic_parameters = list(self.critics.parameters())
        self._target_parameters = list(self.target_critics.parameters())
        flatten(self._target_parameters)  # one vector, so that Polyak averaging is one operation

    @property
    def alpha(self) -> float:
        """The temperature: weight of the entropy relative to the reward."""
        return math.exp(self.log_alpha.item()) if self.config.alpha is None else self.config.alpha

    def anneal(self, progress: float) -> None:
        """Set the learning rates by their schedule; `progress` in [0, 1) is the part of the run that is done."""
        anneal_learning_rate(self.config, progress, self.actor_optimizer, self.critic_optimizer, self.alpha_optimizer)

    def update(self, batch: Batch) -> dict[str, float]:
        """Make one gradient step on critics, actor and temperature (Algorithm 1) and return its metrics.

        `batch` [B] has obs, action, reward, next_obs, discount (gamma^k, 0 where the episode terminated); for Box
        actions noise and next_noise [B, A], standard normal, which sample the actions at obs and next_obs; with masked
        actions action_mask and next_action_mask [B, K].
        """
        self.check(batch)
        cfg, alpha, objective = self.config, self.alpha, self.objective
        inputs = self.policy.inputs(batch, self.grad_steps)
        obs, next_obs, batch = inputs.obs, inputs.next_obs, inputs.batch
        self.grad_steps += 1
        if not len(batch.action):  # every sequence that was drawn ended during its burn-in
            return {}

        # Critics: y = r + gamma (1 - terminated) (min_i Q'_i(s', a') - alpha log pi(a'|s'))   (eq. 2, 3, 5)
        with no_grad():
            next_sample = objective.sample(self.policy.at_next_obs(inputs), batch.get("next_noise"))
            next_value = objective.soft_value(self.target_critics, next_obs, next_sample, alpha)
        td_target = soft_td_target(batch.reward, batch.discount, next_value)
        q = objective.q(self.critics, obs, batch.action)
        loss_of_critics = critic_loss(q, td_target=td_target)
        step(self.critic_optimizer, loss_of_critics)

        # Actor: mean(alpha log pi(a|s) - min_i Q_i(s, a)), no gradient to the critics   (eq. 7, 9)
        sample = objective.sample(self.policy.at_obs(inputs), batch.get("noise"))
        loss_of_actor = objective.policy_loss(self.critics, obs, sample, alpha)
        step(self.actor_optimizer, loss_of_actor)

        # Temperature: -log alpha (log pi(a|s) + target entropy)   (eq. 18, by log alpha as in the authors' code)
        entropy = objective.entropy(sample)
        if self.alpha_optimizer is not None:
            step(self.alpha_optimizer, self.log_alpha * (entropy - objective.target_entropy(batch)))

        # Target critics: Q' <- tau Q + (1 - tau) Q'
        if self.grad_steps % cfg.target_update_interval == 0:
            optim.polyak_update(self._critic_parameters, self._target_parameters, cfg.tau)
        return {
            "train/critic_loss": loss_of_critics.item(),
            "train/actor_loss": loss_of_actor.item(),
            "train/alpha": alpha,
            "train/entropy": entropy,
            "train/q": float(q.array.mean()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that updates change."""
        return save_attributes(self, self.saved)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        load_attributes(self, self.saved, state)


def step(optimizer: optim.Optimizer, loss: Tensor) -> None:
    """Make one step down the gradient of a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _batch_check(action_space: spaces.Space[Any], critics: Critics, policy: PolicyEvaluator) -> BatchCheck:
    discrete = isinstance(action_space, spaces.Discrete)
    size = int(action_space.n) if isinstance(action_space, spaces.Discrete) else math.prod(action_space.shape or ())
    obs = getattr(policy, "obs_shape", None)
    if obs is None and isinstance(policy, NetworkPolicy) and critics.features is None:
        obs = (critics.num_inputs if discrete else critics.num_inputs - size,)
    noise = {"noise": None, "next_noise": None} if discrete else {"noise": (size,), "next_noise": (size,)}
    masks = {"action_mask": (size,), "next_action_mask": (size,)}
    return BatchCheck(
        "SACLearner",
        needed=() if discrete else ("noise", "next_noise"),
        optional=("weight", *masks, *noise) if discrete else ("weight", *masks),
        shapes={"obs": obs, "next_obs": obs, "action": () if discrete else (size,), **noise, **masks},
        actions=size if discrete else "box",
    )
