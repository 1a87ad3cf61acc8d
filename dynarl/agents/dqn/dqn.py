"""Deep Q-learning (Mnih et al., Nature 518, 2015) and the parts of Rainbow (arXiv:1710.02298), each a flag.

for each environment step:
    with probability epsilon act at random, else a = argmax_a Q(s, a)
    store (s, a, r, s') in the replay D
    every train_freq steps, gradient_steps times:
        draw a minibatch of D
        y = r + gamma^k Q'(s', argmax_a Q'(s', a)), without the second term where s' terminated
        Adam step on the mean Huber loss of Q(s, a) - y
    every target_update_interval steps: Q' <- tau Q + (1 - tau) Q'
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl import nn, optim
from dynarl.agents import schedules
from dynarl.agents.dqn import details
from dynarl.agents.dqn.config import DQNConfig
from dynarl.agents.dqn.exploration import Exploration
from dynarl.agents.dqn.heads import head_for
from dynarl.agents.dqn.networks import QNetwork
from dynarl.agents.dqn.programs import UserQNetwork, check_q
from dynarl.agents.encoders.images import features_for
from dynarl.agents.off_policy.agent import OffPolicyAgent
from dynarl.agents.off_policy.old_runner import OldRunner
from dynarl.agents.off_policy.records import ReplayWriter
from dynarl.agents.off_policy.replay_feed import ReplayFeed
from dynarl.agents.off_policy.sequences import SequenceRunner
from dynarl.agents.policies import FeaturesFactory
from dynarl.agents.state import from_plain, to_plain
from dynarl.agents.user_policy.policy import PolicyLike, UserPolicy, make_policy
from dynarl.autograd import no_grad, philox
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.flat import flatten
from dynarl.autograd.random import seeded
from dynarl.envs import Environments, make
from dynarl.envs.protocol import Step
from dynarl.envs.spaces import action_layout
from dynarl.rollout import Batch, PrioritizedReplay, ReplayBuffer
from dynarl.seeding import derive_seed

__all__ = ["DQN", "DQNConfig"]

# An iteration makes at least so many environment steps.
_ITERATION_STEPS = 64
# So many transitions at most are drawn, and go through the target network, at a time.
_TOGETHER = 1024
Mask = NDArray[np.bool_] | None


class DQN(OffPolicyAgent):
    """Value-based agent for Discrete actions. See `DQNConfig` for its settings.

    `features` puts a network of the user's before the Q-network, as in `ActorCritic`. `policy` is a Q-function in place
    of it: a Module, or a class or function that makes one, as dynarl/rollout/feedback.py says, that returns q [A].
    """

    algorithm = "dqn"
    config_class = DQNConfig
    acting_networks = ("policy",)
    sources = details.SOURCES
    facts = details.FACTS

    def __init__(
        self,
        env: Any,
        *,
        seed: int = 0,
        device: str = "cpu",
        config: DQNConfig | None = None,
        features: FeaturesFactory | None = None,
        policy: PolicyLike | None = None,
        **overrides: Any,
    ) -> None:
        super().__init__(env, seed=seed, device=device, config=config, overrides=overrides)
        self.given = {"features": features, "policy": policy}
        cfg: DQNConfig = self.config
        if not isinstance(self.action_space, spaces.Discrete):
            self.envs.close()
            raise ValueError(
                f"DQN: supports Discrete actions, got {self.action_space}; SAC and PPO take Box actions, PPO also "
                "MultiDiscrete and MultiBinary"
            )
        self.num_actions = int(self.action_space.n)
        self.action_shape, self.action_dtype = action_layout(self.action_space)
        self.head = head_for(cfg, device)
        self.flatten_obs = False
        self.policy: Any = self._own_policy(features) if policy is None else self._given_policy(policy, features)
        self.policy.to(device)
        self.target: Any = copy.deepcopy(self.policy)
        self._parameters, self._target_parameters = list(self.policy.parameters()), list(self.target.parameters())
        flatten(self._target_parameters)
        self.optimizer = optim.Adam(self._parameters, lr=cfg.learning_rate, eps=cfg.adam_eps)
        self.programs = None if policy is None else self._programs()
        self.replay = self._make_replay()
        self.rng = np.random.Generator(np.random.Philox(key=derive_seed(seed, "replay", bits=64)))
        self.exploration = Exploration(self)
        self._explores_by: Any = None  # epsilon [N] or one for all, while a program acts
        self._make_collectors()

    def _own_policy(self, features: FeaturesFactory | None) -> nn.Module:
        cfg = self.config
        with seeded(derive_seed(self.seed, "init", bits=63)):
            if features is None:
                features = features_for(self.observation_space, cfg.encoder)
            self.flatten_obs = features is None
            return QNetwork(
                self.layout.space,
                self.num_actions,
                hidden_sizes=cfg.hidden_sizes,
                activation=cfg.activation,
                dueling=cfg.dueling,
                noisy=cfg.noisy,
                num_atoms={"none": 0, "c51": cfg.num_atoms, "qr": cfg.num_quantiles}[cfg.distributional],
                features=features,
            )

    def _given_policy(self, policy: PolicyLike, features: FeaturesFactory | None) -> nn.Module:
        """Return the user's Q-function, refusing what only the ready-made network can do."""
        cfg = self.config
        ours = {name: getattr(cfg, name) for name in ("noisy", "dueling") if getattr(cfg, name)}
        ours |= {"distributional": cfg.distributional} if cfg.distributional != "none" else {}
        ours |= {} if features is None else {"features": features}
        if ours:
            raise ValueError(
                f"policy: {', '.join(ours)} belong to the ready-made Q-network; leave them off with a policy"
            )
        return make_policy(policy, (self.layout.space, self.action_space), derive_seed(self.seed, "init", bits=63), {})

    def _programs(self) -> UserQNetwork:
        """Return what evaluates the user's Q-function, and carries its state."""
        cfg = self.config
        program = UserPolicy(self.policy, returns="q", agent_masks=True)
        self.policy_name = program.name
        self.stateful = OldRunner(self, program, sequence_length=cfg.sequence_length)
        self.stateful.check_replay(cfg)
        self.experience = ReplayWriter(self.stateful, self.envs)
        return UserQNetwork(SequenceRunner(self.stateful, self.experience, burn_in=cfg.burn_in), self.target)

    def check_outputs(self, program: UserPolicy, outputs: tuple[Any, ...]) -> tuple[str, int]:
        """Refuse what is no q [A]; return the noise of epsilon-greedy actions."""
        return check_q(program, outputs, self.num_actions)

    def decide(
        self, outputs: tuple[Any, ...], noise: NDArray[np.float32] | None, action_mask: Mask = None
    ) -> tuple[NDArray[np.int64], None, None]:
        """Return the actions [N] of what a policy returned: greedy ones, or with `noise` epsilon-greedy ones."""
        mask = None if action_mask is None else to_device(action_mask, self.device)
        greedy = to_host(self.head.greedy(outputs[0].array, mask))
        if noise is None:
            return greedy, None, None
        epsilon = self.epsilon if self._explores_by is None else self._explores_by
        random = self.exploration.random_actions(noise, action_mask)
        return np.where(noise[:, 0] < epsilon, random, greedy), None, None

    def make_envs(self) -> Environments:
        """Make the environments; one alone is four times as fast as itself than as a vector of one."""
        if isinstance(self.source, str) and self.config.num_envs == 1:
            return make(self.made_of, 1, seed=self.seed, vectorization="sync")
        return super().make_envs()

    # -- learning -------------------------------------------------------------------------------------------------

    def update(self, batch: Batch, *, measured: bool = True) -> dict[str, float]:
        """Make one gradient step on a batch [B] of the replay, with its td_target if known, and return its metrics."""
        if self.config.noisy:
            self._draw_noise()
        action, weight = to_device(batch.action, self.device), to_device(batch.weight, self.device)
        if self.programs is None:
            td_target = batch.td_target if "td_target" in batch else self.td_target(batch)
            output = self.policy(self.network_input(batch.obs))
        else:
            output, next_q, chooser = self.programs.values(batch, self.grad_steps)
            td_target = self._bootstrapped(batch, next_q, chooser if self.config.double else next_q)
        loss = self.head.loss(output, action=action, td_target=td_target, weight=weight)
        self.optimizer.zero_grad()
        loss.backward()
        grad_norm = optim.clip_grad_norm_(self._parameters, self.config.max_grad_norm)
        self.optimizer.step()
        self.grad_steps += 1
        if isinstance(self.replay, PrioritizedReplay):
            td_error = self.head.td_error(output.array, action, td_target)
            self.replay.update_priorities(batch.index, to_host(td_error))
        if not measured:
            return {}
        value = self.head.expected(output.array)
        return {
            "train/loss": loss.item(),
            "train/q_mean": float(value.max(axis=1).mean()),
            "train/grad_norm": grad_norm.item(),
        }

    def td_target(self, batch: Batch) -> Any:
        """Return y [B], the support's projected distribution [B, atoms], or quantiles [B, N] to learn."""
        inputs = self.network_input(batch.next_obs)
        with no_grad():
            next_q = self.target(inputs).array
            # Double Q-learning (arXiv:1509.06461 eq. 4): the online network chooses, the target network values
            chooser = self.policy(inputs).array if self.config.double else next_q
        return self._bootstrapped(batch, next_q, chooser)

    def _bootstrapped(self, batch: Batch, next_q: Any, chooser: Any) -> Any:
        reward, discount = to_device(batch.reward, self.device), to_device(batch.discount, self.device)
        mask = to_device(batch.next_action_mask, self.device) if "next_action_mask" in batch else None
        return self.head.target(reward, discount, next_q, chooser, mask)

    def update_target(self, times: int = 1) -> None:
        """Move the target network towards the online one, `times` times with weight tau."""
        polyak = 1.0 - (1.0 - self.config.tau) ** times
        optim.polyak_update(self._parameters, self._target_parameters, polyak)

    def _update_target_since(self, before: int) -> None:
        """Update the target for each multiple of `target_update_interval` since the environment step `before`."""
        interval = self.config.target_update_interval
        times = self.env_steps // interval - before // interval
        if times and self.grad_steps:
            self.update_target(times)

    def collect_and_update(self, progress: float) -> dict[str, Any]:
        """Step the environments and learn from the replay in the ratio of gradient_steps to train_freq."""
        if self.feed is not None:
            return self._learn_from_workers(self.feed)
        cfg = self.config
        every = cfg.train_freq * -(-_ITERATION_STEPS // cfg.train_freq)
        stop = (self.env_steps // every + 1) * every
        metrics: dict[str, Any] = {}
        ended: list[Mapping[str, Any]] = []
        while self.env_steps < stop:
            before = self.env_steps
            info = self.step_environments()
            if info:
                ended.append(info)
            self._update_target_since(before)
            if self.env_steps > cfg.learning_starts:
                updates = (self.env_steps // cfg.train_freq - before // cfg.train_freq) * cfg.gradient_steps
                metrics = self.updates(updates, measured=self.env_steps >= stop)
        self.iteration += 1
        metrics |= self.acting_metrics()
        metrics["train/epsilon"], metrics["train/learning_rate"] = self.epsilon, cfg.learning_rate
        metrics["episode/return"] = [r for info in ended for r in info["episode_return"]]
        metrics["episode/length"] = [n for info in ended for n in info["episode_length"]]
        return metrics

    def _learn_from_workers(self, feed: ReplayFeed) -> dict[str, Any]:
        """Store a fragment that a worker collected and make the gradient steps that it pays for."""
        before = self.env_steps
        fragment, due = feed.take()
        self._update_target_since(before)
        metrics: dict[str, Any] = self.updates(due) if due else {}
        self.iteration += 1
        self.vector_steps = self.collector.step
        metrics["train/epsilon"], metrics["train/learning_rate"] = self.epsilon, self.config.learning_rate
        return metrics | feed.metrics(fragment)

    def updates(self, number: int, *, measured: bool = True) -> dict[str, float]:
        """Make gradient steps on as many batches and return the metrics of the last.

        Where neither priorities, noise nor the online network have a part in it, what is drawn and its targets do not
        depend on the steps in between (the target network stands still), so many batches go through it in one pass.
        """
        cfg, metrics = self.config, dict[str, float]()
        alone = cfg.prioritized or cfg.noisy or cfg.double or self.programs is not None
        together = 1 if alone else max(1, _TOGETHER // cfg.batch_size)
        for first in range(0, number, together):
            count = min(together, number - first)
            drawn = self.sample(count)
            if count > 1:
                drawn["td_target"] = self.td_target(drawn)
            for i in range(count):
                rows = slice(i * cfg.batch_size, (i + 1) * cfg.batch_size)
                batch = drawn if count == 1 else Batch({name: array[rows] for name, array in drawn.items()})
                metrics = self.update(batch, measured=measured and first + i == number - 1)
        return metrics

    def sample(self, batches: int = 1) -> Batch:
        """Draw one batch of the replay, or several as one."""
        cfg, size = self.config, batches * self.config.batch_size
        if self.programs is not None and self.programs.along.length > 1:
            batch = self.programs.along.draw(self.replay, cfg.batch_size, self.rng)
            batch["weight"] = self.programs.weights(batch)
            return batch
        if isinstance(self.replay, PrioritizedReplay):
            beta = schedules.linear(cfg.per_beta, 1.0, cfg.per_beta_steps, self.env_steps)
            return self.replay.sample(size, self.rng, beta)
        return self.replay.sample(size, self.rng)

    # -- acting ---------------------------------------------------------------------------------------------------

    @property
    def epsilon(self) -> float:
        """The share of random actions now: all before learning starts, none with noisy networks after."""
        return self.exploration.epsilon

    def explore(self, obs: NDArray[Any], action_mask: Mask = None) -> NDArray[np.int64]:
        """Return exploring actions [N]; their randomness is keyed by environment and step."""
        exploration = self.exploration
        if self.config.noisy:
            self.policy.set_noise(exploration.noise(self.vector_steps), self.device)
        return self.epsilon_greedy(obs, exploration.uniform(self.vector_steps), exploration.epsilons, action_mask)

    def explore_program(self) -> Step:
        """Act once with the user's Q-function in every environment and store what happened."""
        self._explores_by = self.exploration.epsilons
        step = self.experience.step(self.replay, self.exploration.uniform(self.vector_steps), self.vector_steps)
        self._explores_by = None
        return step

    def epsilon_greedy(
        self, obs: NDArray[Any], uniform: NDArray[np.float32], epsilon: Any, action_mask: Mask = None
    ) -> NDArray[np.int64]:
        """Return actions [N] for observations [N, ...] and uniform numbers [N, 2]; `epsilon` is a number or [N]."""
        explores = uniform[:, 0] < epsilon
        count = np.count_nonzero(explores)
        if count == 0:
            return self.greedy(obs, action_mask)
        random = self.exploration.random_actions(uniform, action_mask)
        return random if count == len(explores) else np.where(explores, random, self.greedy(obs, action_mask))

    def greedy(self, obs: NDArray[Any], action_mask: Mask = None) -> NDArray[np.int64]:
        """Return argmax_a Q [N] of stored observations [N, ...], over the actions that masks [N, A] allow."""
        with no_grad():
            output = self.policy(self.network_input(obs)).array
        mask = None if action_mask is None else to_device(action_mask, self.device)
        return to_host(self.head.greedy(output, mask))

    def choose(self, obs: NDArray[Any], noise: NDArray[np.float32] | None, action_mask: Mask = None) -> NDArray[Any]:
        """Return greedy actions, of the mean weights if noisy; with `noise`, exploring ones as in training."""
        if noise is None or self.config.noisy:
            self.policy.set_noise(None if noise is None else noise[0], self.device)
            return self.greedy(obs, action_mask)
        return self.epsilon_greedy(obs, noise, self.epsilon, action_mask)

    def _draw_noise(self) -> None:
        """New noise for both networks before an update (arXiv:1706.10295 section 3.1)."""
        for network in (self.policy, self.target):
            network.set_noise(self.rng.standard_normal(network.noise_size, np.float32), self.device)

    def _predict_noise(self, rows: int) -> NDArray[np.float32]:
        self.predictions += 1
        if self.config.noisy:
            size = self.policy.noise_size
            return philox.normal(self.seed, "predict", [0], self.predictions, 1, size)[0]
        return philox.uniform(self.seed, "predict", np.arange(rows), self.predictions, 1, 2)[0]

    # -- acting for another agent ---------------------------------------------------------------------------------

    def acting_state(self) -> dict[str, NDArray[Any]]:
        """Return the Q-network, how many steps were made in all, epsilon, and how many environments there are."""
        numbers = np.array([self.env_steps, self.epsilon, self.envs.num_envs], np.float64)
        return super().acting_state() | {"numbers": numbers}

    def load_acting_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Copy in what `acting_state` of another agent returned."""
        super().load_acting_state(arrays)
        env_steps, epsilon, num_envs = arrays["numbers"].tolist()
        self.env_steps, self.exploration.told = int(env_steps), (epsilon, int(num_envs))

    # -- state ----------------------------------------------------------------------------------------------------

    def _make_replay(self) -> ReplayBuffer:
        cfg, num_envs = self.config, self.envs.num_envs
        if cfg.prioritized:
            return PrioritizedReplay(cfg.buffer_size, num_envs, **self.replay_arguments(), alpha=cfg.per_alpha)
        return ReplayBuffer(cfg.buffer_size, num_envs, **self.replay_arguments())

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes: networks, optimiser, replay, counters, environments, streams."""
        return {
            "policy": to_plain(self.policy.state_dict()),
            "target": to_plain(self.target.state_dict()),
            "optimizer": to_plain(self.optimizer.state_dict()),
            "rng": self.rng.bit_generator.state,
            **self.experience_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.policy.load_state_dict(state["policy"])
        self.target.load_state_dict(state["target"])
        self.optimizer.load_state_dict(from_plain(state["optimizer"]))
        self.rng.bit_generator.state = state["rng"]
        self.load_experience_state(state)
