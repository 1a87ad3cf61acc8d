"""Deep Q-learning (Mnih et al., Nature 518, 2015) and the parts of Rainbow (arXiv:1710.02298), each a flag.

for each environment step:                                                  dqn/agent.py
    with probability epsilon take a random action, else a = argmax_a Q(s, a)
    store (s, a, r, s') in the replay D
    every train_freq steps, gradient_steps times:
        draw a minibatch from D
        y = r + gamma^k Q'(s', argmax_a Q'(s', a)), without the second term where s' is terminal
        Adam step on the mean Huber loss of Q(s, a) - y
    every target_update_interval steps: Q' <- tau Q + (1 - tau) Q'
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dynarl import nn, optim
from dynarl.agents.dqn.config import DQNConfig
from dynarl.agents.dqn.networks import QNetwork
from dynarl.agents.dqn.q_distribution import make_q_distribution
from dynarl.agents.dqn.q_values import Evaluator, TransitionEvaluator
from dynarl.agents.learning_rate import anneal_learning_rate
from dynarl.agents.off_policy.batch_check import BatchCheck
from dynarl.agents.state import load_attributes, save_attributes
from dynarl.autograd.flat import flatten
from dynarl.rollout import Batch

__all__ = ["DQNLearner"]


class DQNLearner:
    """Learns Q from batches of transitions.

    >>> learner = DQNLearner(QNetwork(observation_space, num_actions), DQNConfig())
    >>> metrics = learner.update(batch)

    `q_network` returns Q [B, A], or [B, A, atoms] with `distributional`. `evaluator` makes the evaluation of network
    and target network on a batch. `rng` is the source of the noise of noisy networks.
    """

    saved = ("q_network", "target", "optimizer", "rng", "grad_steps")
    measures = True
    """Whether `update` returns metrics; they take a tenth of the time of a small update."""

    def __init__(
        self,
        q_network: nn.Module,
        config: DQNConfig,
        *,
        device: str = "cpu",
        rng: np.random.Generator | None = None,
        evaluator: Callable[..., Evaluator] = TransitionEvaluator,
    ) -> None:
        self.config, self.device, self.grad_steps = config, device, 0
        self.rng = np.random.default_rng(0) if rng is None else rng
        self.q_distribution = make_q_distribution(config, device)
        self.q_network = q_network.to(device)
        self.target = copy.deepcopy(self.q_network)
        networks = (self.q_network, self.target) if config.noisy else ()
        self._noisy = [network for network in networks if isinstance(network, QNetwork)]
        self.evaluate = evaluator(self.q_network, self.target, double=config.double)
        self.check = _batch_check(self.q_network, self.evaluate)
        self._parameters, self._target_parameters = list(q_network.parameters()), list(self.target.parameters())
        flatten(self._target_parameters)
        self.optimizer = optim.Adam(self._parameters, lr=config.learning_rate, eps=config.adam_eps)

    def anneal(self, progress: float) -> None:
        """Set the learning rate by its schedule; `progress` in [0, 1) is the part of the run that is done."""
        anneal_learning_rate(self.config, progress, self.optimizer)

    def update(self, batch: Batch) -> dict[str, float]:
        """Make a gradient step on each minibatch of a batch [B] and return the metrics of the last.

        `batch` has obs, action, reward (the sum of k rewards), next_obs, discount (gamma^k, 0 where the episode
        terminated), weight and, with masked actions, next_action_mask [B, A]. It receives td_error [B] for
        prioritised replay.
        """
        self.check(batch)
        cfg, metrics = self.config, dict[str, float]()
        # New noise for both networks in each update   (arXiv:1706.10295, section 3.1)
        for network in self._noisy:
            network.set_noise(self.rng.standard_normal(network.noise_size, np.float32), self.device)

        # y = r + gamma^k Q'(s', argmax_a Q'(s', a))   (Algorithm 1; with `double` Q chooses the action). The target
        # network does not change between its updates, so one pass of it serves all minibatches of the batch.
        values = self.evaluate(batch, self.grad_steps)
        self.check.actions_below(batch, values.next_q.shape[1])
        mask = batch.get("next_action_mask")
        td_target = self.q_distribution.target(batch.reward, batch.discount, values.next_q, values.chooser, mask)

        minibatches = list(values.minibatches(cfg.batch_size))
        if len(minibatches) > 1 and (cfg.double or cfg.noisy or cfg.prioritized):
            raise ValueError(
                "DQNLearner.update: double, noisy and prioritized need the network of each step, so a batch must have "
                f"at most batch_size {cfg.batch_size} rows, got {len(batch.action)}"
            )
        for rows in minibatches:
            # Loss: mean(w h(Q(s, a) - y)), h the Huber function, w the weights of prioritised replay
            q, action = values.q(rows), batch.action[rows]
            y, weight = td_target[rows], batch.weight[rows]
            loss = self.q_distribution.loss(q, action=action, td_target=y, weight=weight)
            self.optimizer.zero_grad()
            loss.backward()
            grad_norm = optim.clip_grad_norm_(self._parameters, cfg.max_grad_norm)
            self.optimizer.step()
            self.grad_steps += 1

        if cfg.prioritized:
            batch["td_error"] = self.q_distribution.td_error(q.array, action, y)
        if self.measures:
            greedy_q = self.q_distribution.expected(q.array).max(axis=1)
            metrics["train/loss"], metrics["train/q_mean"] = loss.item(), float(greedy_q.mean())
            metrics["train/grad_norm"] = grad_norm.item()
        return metrics

    def update_target(self, times: int = 1) -> None:
        """Move the target network towards the online one, `times` times with weight tau."""
        polyak = 1.0 - (1.0 - self.config.tau) ** times
        optim.polyak_update(self._parameters, self._target_parameters, polyak)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that updates change."""
        return save_attributes(self, self.saved)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        load_attributes(self, self.saved, state)


def _batch_check(q_network: nn.Module, evaluate: Evaluator) -> BatchCheck:
    obs, num_actions = getattr(evaluate, "obs_shape", None), getattr(q_network, "num_actions", None)
    mask = None if num_actions is None else (num_actions,)
    return BatchCheck(
        "DQNLearner",
        needed=("weight",),
        optional=("action_mask", "next_action_mask"),
        shapes={"obs": obs, "next_obs": obs, "action_mask": mask, "next_action_mask": mask},
        actions=num_actions,
    )
