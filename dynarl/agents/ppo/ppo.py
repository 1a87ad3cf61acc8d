"""Proximal Policy Optimisation (arXiv:1707.06347).

for each iteration:
    collect T steps in N environments with policy pi_old      dynarl/agents/ppo/agent.py
    A, R <- GAE(rewards, values)                              arXiv:1506.02438
    for each epoch, for each minibatch:
        ratio = pi(a|s) / pi_old(a|s)
        loss  = -mean(min(ratio A, clip(ratio) A)) + c_v mean((V(s) - R)^2) - c_e H(pi(s))
        Adam step on the loss's gradient, its global norm clipped
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynarl import nn, optim
from dynarl.agents.learning_rate import anneal_learning_rate
from dynarl.agents.ppo.batches import as_fragment
from dynarl.agents.ppo.config import PPOConfig
from dynarl.agents.ppo.kl_target import KLTarget
from dynarl.agents.ppo.lagged import lagged_advantages, once_each
from dynarl.agents.ppo.losses import clipped_surrogate, clipped_value_loss, normalized, value_loss
from dynarl.agents.ppo.returns import explained_variance, gae
from dynarl.agents.ppo.sequences import Sequences
from dynarl.agents.ppo.transitions import TransitionRows
from dynarl.agents.state import load_attributes, save_attributes
from dynarl.agents.update_metrics import means, ratio_metrics
from dynarl.agents.user_policy.auxiliary import Aux
from dynarl.autograd import Tensor, backward, tensor
from dynarl.autograd.device import to_host
from dynarl.envs import RewardNormalizer
from dynarl.rollout import Batch, Fragment
from dynarl.seeding import derive_seed

__all__ = ["PPOLearner"]


class PPOLearner:
    """Improves a policy on fragments [T, N].

    `policy` maps encoded observations to (distribution, value). `rows` turns fragments into minibatches and evaluates
    the policy on them; an `ActorCritic` brings what is needed for its default. `num_envs` is N, for the running
    returns of `normalize_reward`.
    """

    saved = ("policy", "optimizer", "grad_steps", "iteration", "reward_normalizer")

    def __init__(
        self,
        policy: nn.Module,
        config: PPOConfig | None = None,
        *,
        rows: TransitionRows | Sequences | None = None,
        num_envs: int | None = None,
        seed: int = 0,
    ) -> None:
        self.policy, self.seed = policy, seed
        self.config = cfg = config or PPOConfig()
        self.rows = TransitionRows.of(policy) if rows is None else rows
        self.optimizer = optim.Adam(policy.parameters(), lr=cfg.learning_rate, eps=cfg.adam_eps)
        self.reward_normalizer: RewardNormalizer | None = None
        if cfg.normalize_reward:
            self.reward_normalizer = RewardNormalizer(num_envs or cfg.num_envs, gamma=cfg.gamma)
        self.kl = KLTarget(cfg.kl_target, cfg.kl_action)
        self.clip_range = cfg.clip_range
        self.grad_steps = 0
        self.iteration = 0  # calls of `update`, which key the order of the minibatches
        self._parameters = list(policy.parameters())
        weights = {"policy_loss": 1.0, "value_loss": cfg.vf_coef, "extra_loss": 1.0, "entropy": -cfg.ent_coef}
        self._weights = {name: tensor(weight, device=self.rows.device) for name, weight in weights.items()}

    def anneal(self, progress: float) -> None:
        """Set clip range and learning rate by their schedules; `progress` in [0, 1) is the part of the run done."""
        cfg = self.config
        self.clip_range = cfg.clip_range * (1.0 - progress if cfg.clip_range_schedule == "linear" else 1.0)
        anneal_learning_rate(cfg, progress, self.optimizer)

    def update(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Improve policy and value on a fragment, arrays [T, N, ...] by name, and return the metrics.

        It has `obs`, `action`, `reward`, `terminated`, `log_prob`, `value` and `next_value`, and may have `truncated`,
        `valid`, `episode_start` (all [T, N] bool) and `action_mask` [T, N, M]; see `dynarl.rollout.Fragment`.
        """
        cfg, fragment = self.config, as_fragment(batch, self.rows.encoder, self.rows.actions)

        # Advantages: A = GAE(r, V), R = A + V   (arXiv:1506.02438 eq. 16)
        reward, vtrace_metrics = self._scaled_reward(fragment), dict[str, float]()
        if fragment.lag is None:  # else fragments of older policies, corrected by V-trace (arXiv:1802.01561)
            fragment["advantages"], fragment["returns"] = gae(
                reward, fragment.value, fragment.next_value, fragment.terminated, fragment.truncated,
                gamma=cfg.gamma, gae_lambda=cfg.gae_lambda, valid=fragment.valid,
            )  # fmt: skip
        else:
            vtrace_metrics = lagged_advantages(self.rows, fragment, reward, cfg)
        rows = self.rows.batch(fragment)

        # Epochs of minibatches   (Algorithm 1); the metrics are the means over the last epoch
        rng = np.random.Generator(np.random.Philox(key=derive_seed(self.seed, "minibatch", self.iteration, bits=64)))
        found: list[dict[str, float]] = []
        for epoch in range(cfg.num_epochs):
            measured = epoch == cfg.num_epochs - 1
            found = []
            for minibatch in self.rows.minibatches(rows, rng, cfg.batch_size):
                found.append(self.step(minibatch, measured=measured))
                if found[-1].get("stopped"):
                    break
            if found[-1].get("stopped") or self.kl.stops_after_epoch(found[-1].get("train/approx_kl")):
                break
        metrics = means(found)
        self.kl.adapt(self.optimizer.param_groups[0], metrics["train/approx_kl"])
        self.iteration += 1
        metrics["train/explained_variance"] = explained_variance(
            fragment.value[fragment.valid], fragment.returns[fragment.valid]
        )
        metrics |= self.rows.metrics()
        metrics["train/learning_rate"] = self.optimizer.param_groups[0]["lr"]
        metrics["train/clip_range"] = self.clip_range
        return metrics | vtrace_metrics

    def step(self, minibatch: Batch, *, measured: bool = True) -> dict[str, float]:
        """Make one gradient step on a minibatch [B] and return its metrics; none where `kl_target` stops before it."""
        cfg, metrics = self.config, dict[str, float]()
        terms, log_prob, aux = self.loss_terms(minibatch, with_entropy=measured or cfg.ent_coef != 0)
        if measured or cfg.kl_target is not None:
            metrics = ratio_metrics(log_prob.array, minibatch.log_prob, self.clip_range)
            if self.kl.stops_before_minibatch(metrics["train/approx_kl"]):
                return {**metrics, "stopped": True}
        # loss = policy_loss + vf_coef * value_loss - ent_coef * entropy   (eq. 9), as in `loss`. The terms enter the
        # backward pass with their weights: their sum as a Tensor would make a step of 64 rows 12 % slower.
        self.optimizer.zero_grad()
        backward(list(terms.values()), [self._weights[name] for name in terms])
        grad_norm = optim.clip_grad_norm_(self._parameters, cfg.max_grad_norm)
        self.optimizer.step()
        self.grad_steps += 1
        if measured:
            metrics |= {f"train/{name}": value.item() for name, value in terms.items()}
            metrics |= {f"policy/{name}": float(to_host(column.array).mean()) for name, column in aux.items()}
            metrics["train/grad_norm"] = grad_norm.item()
        return metrics

    def loss(self, minibatch: Batch) -> Tensor:
        """Return the complete loss of a minibatch [B], whose gradient `step` follows (eq. 9)."""
        terms, _, _ = self.loss_terms(minibatch)
        policy_loss, value_loss, entropy = terms["policy_loss"], terms["value_loss"], terms["entropy"]
        loss: Tensor = policy_loss + self.config.vf_coef * value_loss - self.config.ent_coef * entropy
        return loss + terms["extra_loss"] if "extra_loss" in terms else loss

    def loss_terms(self, minibatch: Batch, *, with_entropy: bool = True) -> tuple[dict[str, Any], Any, Aux]:
        """Return the terms of the loss of a minibatch [B], its new log-probabilities [B], and the policy's aux."""
        cfg = self.config
        log_prob, value, entropy, aux = self.rows.evaluate(minibatch, with_entropy=with_entropy)
        # Clipped surrogate, advantages scaled per minibatch   (eq. 7)
        advantages = normalized(minibatch.advantages) if cfg.normalize_advantage else minibatch.advantages
        policy_loss = clipped_surrogate(
            log_prob, old_log_prob=minibatch.log_prob, advantages=advantages, clip_range=self.clip_range
        )
        # (V - R)^2; with clip_range_vf the larger one of clipped and unclipped error
        terms = {"policy_loss": policy_loss, "value_loss": self._value_loss(value, minibatch)}
        if "loss" in aux and aux["loss"].requires_grad:  # on the paths that were taken it may be a constant
            terms["extra_loss"] = aux["loss"].mean()
        if with_entropy:
            terms["entropy"] = entropy
        return terms, log_prob, aux

    def _scaled_reward(self, fragment: Fragment) -> NDArray[Any]:
        if self.reward_normalizer is None:
            return fragment.reward
        first = fragment.episode_start[0]
        parts = [slice(None)] if fragment.lag is None else once_each(fragment.env_ids)
        for columns in parts:
            named = {name: fragment[name][:, columns] for name in ("reward", "terminated", "truncated", "valid")}
            envs = None if fragment.lag is None else fragment.env_ids[columns]
            self.reward_normalizer.update(**named, first_start=first[columns], envs=envs)
        return self.reward_normalizer(fragment.reward)

    def _value_loss(self, value: Any, minibatch: Batch) -> Any:
        if self.config.clip_range_vf is None:
            return value_loss(value, returns=minibatch.returns)
        old_value, clip_range = minibatch.value, self.config.clip_range_vf
        return clipped_value_loss(value, returns=minibatch.returns, old_value=old_value, clip_range=clip_range)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that updates change."""
        return save_attributes(self, self.saved)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        load_attributes(self, self.saved, state)
