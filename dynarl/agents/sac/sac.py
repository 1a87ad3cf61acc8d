"""Soft Actor-Critic (arXiv:1812.05905), continuous, and discrete (arXiv:1910.07207).

for each environment step:
    a ~ pi(.|s); store (s, a, r, s')
for each gradient step, on a batch of the replay:
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

import numpy as np
from numpy.typing import NDArray

from dynarl import nn, optim
from dynarl.agents.off_policy.agent import OffPolicyAgent
from dynarl.agents.off_policy.old_runner import OldRunner
from dynarl.agents.off_policy.records import ReplayWriter
from dynarl.agents.off_policy.replay_feed import ReplayFeed
from dynarl.agents.policies import FeaturesFactory
from dynarl.agents.sac import details
from dynarl.agents.sac.actions import Actions
from dynarl.agents.sac.config import SACConfig
from dynarl.agents.sac.losses import critic_loss, discrete_policy_loss, policy_loss, soft_td_target
from dynarl.agents.sac.networks import make_networks
from dynarl.agents.sac.programs import CriticInputs, UserActor, check_actor, feedback_size, state_size
from dynarl.agents.sac.squashed import CategoricalActor, SquashedActor, drawn
from dynarl.agents.state import from_plain, to_plain
from dynarl.agents.update_metrics import means
from dynarl.agents.user_policy.policy import PolicyLike, UserPolicy, make_policy
from dynarl.autograd import Parameter, Tensor, flatten, no_grad, philox, tensor
from dynarl.autograd.device import to_device, to_host, xp
from dynarl.autograd.ops.elementwise import tanh
from dynarl.autograd.ops.indexing import gather
from dynarl.autograd.random import seeded
from dynarl.autograd.tape import wrap
from dynarl.envs.protocol import Step
from dynarl.rollout import Batch, NoiseStream, ReplayBuffer
from dynarl.seeding import derive_seed

__all__ = ["SAC", "SACConfig"]


class SAC(OffPolicyAgent):
    """SAC for bounded Box and for Discrete actions.

    >>> agent = SAC("Pendulum-v1", seed=0, learning_rate=1e-3).learn(20_000)

    The policy's actions live in [-1, 1]; they are scaled to the environment's bounds outside the density, so
    that the target entropy -dim(A) means the same everywhere. Every field of `SACConfig` is an argument.

    `features` puts a network of yours before actor and critics, as in `ActorCritic`: a function that makes one
    from the observation space, or a Module, of which each takes a copy. Images and text get one of themselves.
    Actor and critics have one each (all critics together one) unless `share_encoder`.

    `policy` is an actor in place of the ready-made one: a Module, or a class or function that makes one, as
    dynarl/rollout/feedback.py says, that returns a Normal (before squashing) or a Categorical.
    """

    algorithm = "sac"
    config_class = SACConfig
    config: SACConfig
    acting_networks: tuple[str, ...] = ("actor",)
    sources = details.SOURCES
    facts = details.FACTS

    def __init__(
        self,
        env: Any,
        *,
        seed: int = 0,
        device: str = "cpu",
        config: SACConfig | None = None,
        features: FeaturesFactory | None = None,
        policy: PolicyLike | None = None,
        **overrides: Any,
    ) -> None:
        super().__init__(env, seed=seed, device=device, config=config, overrides=overrides)
        self.given = {"features": features, "policy": policy}
        cfg, envs = self.config, self.envs
        self.acting_networks = ("actor", "critics") if cfg.share_encoder else ("actor",)
        self.actions = Actions(self.action_space, cfg)
        self.discrete = self.actions.discrete
        self.action_shape, self.action_dtype = self.actions.shape, self.actions.dtype
        self._make_networks(features, policy)

        self.actor_optimizer = optim.Adam(self.actor.parameters(), lr=cfg.learning_rate)
        self.critic_optimizer = optim.Adam(self.critics.parameters(), lr=cfg.learning_rate)
        self.log_alpha = Parameter(tensor(math.log(cfg.alpha_init if cfg.alpha is None else cfg.alpha), device=device))
        self.alpha_optimizer = optim.Adam([self.log_alpha], lr=cfg.learning_rate) if cfg.alpha is None else None
        self.target_entropy = self.actions.target_entropy

        self.replay = ReplayBuffer(cfg.buffer_size, envs.num_envs, **self.replay_arguments())
        kind = "uniform" if self.discrete else "normal"
        period = 1
        if cfg.use_sde:
            period = cfg.sde_sample_freq if cfg.sde_sample_freq > 0 else cfg.train_freq
        self._noise = NoiseStream(seed, "action", envs.env_ids, kind=kind, size=self.actor.noise_size, period=period)
        self._warmup = NoiseStream(
            seed, "warmup", envs.env_ids, kind="uniform", size=1 if self.discrete else self.actions.count
        )
        self._update_key = derive_seed(seed, "update", bits=64)
        self._owed = 0  # gradient steps, times train_freq
        self._make_collectors()
        if not self.discrete and not self.has_workers:
            self.begin()  # a mask in the info of their reset is refused now, not when learning begins

    # -- acting ---------------------------------------------------------------------------------------------------

    def act(
        self, obs: NDArray[Any], noise: NDArray[np.float32] | None, action_mask: NDArray[np.bool_] | None = None
    ) -> NDArray[Any]:
        """Return the policy's own actions, [N, A] in [-1, 1] or [N] from 0 on: the mode without noise.

        Masks [N, K] are for Discrete actions.
        """
        masks = () if action_mask is None else (to_device(action_mask, self.device),)
        actor: Any = self.actor  # programs act by `decide`
        with no_grad():
            inputs = self.actor_input(self.network_input(obs))
            if noise is None:
                action = actor.mode(inputs, *masks)
            else:
                noise = noise if self.device == "cpu" else to_device(noise, self.device)
                action = actor.explore(inputs, noise, *masks)
        return to_host(action.array if isinstance(action, Tensor) else action)

    def actor_input(self, inputs: Tensor) -> Tensor:
        """Return what the actor is called with: a shared encoder's features, which it does not train."""
        return self.critics.encoded(inputs, frozen=True) if self.config.share_encoder else inputs

    def choose(
        self, obs: NDArray[Any], noise: NDArray[np.float32] | None, action_mask: NDArray[np.bool_] | None = None
    ) -> NDArray[Any]:
        """Return actions for stored observations as the environments take them."""
        return self.env_action(self.act(obs, noise, action_mask))

    def env_action(self, action: NDArray[Any]) -> NDArray[Any]:
        """Scale the policy's actions from [-1, 1] to the environment's bounds."""
        return self.actions.scaled(action)

    def decide(
        self, outputs: tuple[Any, ...], noise: NDArray[np.float32] | None, action_mask: Any = None
    ) -> tuple[NDArray[Any], None, None]:
        """Return the actions of what a program returned: the mode without noise."""
        assert isinstance(self.actor, UserActor)
        mask = None if action_mask is None else to_device(action_mask, self.device)
        noise = None if noise is None else to_device(noise, self.device)
        with no_grad():
            found = self.actor.parameters_of(outputs[0], mask)
            if self.discrete:
                action = found.array.argmax(axis=-1) if noise is None else drawn(found, noise)
            else:
                action = (tanh(found.mean) if noise is None else found.sample(noise)[0]).array
        return to_host(action), None, None

    def check_outputs(self, program: UserPolicy, outputs: tuple[Any, ...]) -> tuple[str, int]:
        """Refuse what is no distribution over the actions; return its noise."""
        return check_actor(program, outputs, self.actions.count, discrete=self.discrete)

    def explore(self, obs: NDArray[Any], action_mask: NDArray[np.bool_] | None) -> NDArray[Any]:
        """Return actions to learn from: uniform over the action space at first, then the policy's."""
        if self.env_steps >= self.config.learning_starts:
            return self.act(obs, self._noise.at(self.vector_steps), action_mask)
        return self._uniform_actions(action_mask)

    def explore_program(self) -> Step:
        """Act once with the user's actor in every environment and store what happened."""
        starting = self.env_steps < self.config.learning_starts
        instead = self._uniform_actions(self.envs.action_mask) if starting else None
        noise = self._noise.at(self.vector_steps)
        return self.experience.step(self.replay, noise, self.vector_steps, instead=instead, env_action=self.env_action)

    def _uniform_actions(self, action_mask: NDArray[np.bool_] | None) -> NDArray[Any]:
        return self.actions.drawn(self._warmup.at(self.vector_steps), action_mask)

    # -- learning -------------------------------------------------------------------------------------------------

    def collect_and_update(self, progress: float) -> dict[str, Any]:
        """Make train_freq steps in every environment, then the gradient steps that these transitions pay for.

        Each transition owes gradient_steps / train_freq updates from `learning_starts` on, however many environments
        it came from.
        """
        if self.feed is not None:
            return self._learn_from_workers(self.feed)
        cfg = self.config
        returns, lengths = [np.empty(0)], [np.empty(0, np.int64)]
        for _ in range(cfg.train_freq):
            before, info = self.env_steps, self.step_environments()
            if self.env_steps > cfg.learning_starts:
                self._owed += (self.env_steps - before) * cfg.gradient_steps
            if info:
                returns.append(info["episode_return"])
                lengths.append(info["episode_length"])
        found = []
        if self.env_steps > cfg.learning_starts:
            while self._owed >= cfg.train_freq:
                self._owed -= cfg.train_freq
                found.append(self.update(self.sample()))
        self.iteration += 1
        metrics = means(found)
        metrics |= self.acting_metrics()
        metrics["episode/return"], metrics["episode/length"] = np.concatenate(returns), np.concatenate(lengths)
        return metrics

    def _learn_from_workers(self, feed: ReplayFeed) -> dict[str, Any]:
        """Store a fragment that a worker collected and make the gradient steps that it pays for."""
        fragment, due = feed.take()
        metrics = means([self.update(self.sample()) for _ in range(due)])
        self.iteration += 1
        self.vector_steps = self.collector.step
        return metrics | feed.metrics(fragment)

    def sample(self) -> Batch:
        """Draw a batch of the replay and the noise of its update, keyed by the gradient step."""
        cfg = self.config
        rng = np.random.Generator(np.random.Philox(key=self._update_key, counter=[0, 0, 0, self.grad_steps]))
        along = self.actor.along if isinstance(self.actor, UserActor) else None
        if along is None:
            batch = self.replay.sample(cfg.batch_size, rng)
        else:
            batch = along.draw(self.replay, cfg.batch_size, rng)
        if not self.discrete:
            batch["noise"] = rng.standard_normal((2, len(batch.action), self.actions.count), np.float32)
        if self.device != "cpu":
            for name in {"action", "reward", "discount", "noise", "action_mask", "next_action_mask"} & batch.keys():
                batch[name] = to_device(batch[name], self.device)
        return batch

    def update(self, batch: Batch) -> dict[str, float]:
        """Make one gradient step on critics, actor and temperature (Algorithm 1) and return its metrics.

        `batch` [B] has obs, action, reward, next_obs, discount (0 where the episode terminated), and noise
        [2, B, A], standard normal, for the actions in next_obs and in obs (not for Discrete actions). Where the
        environment masks actions it has action_mask and next_action_mask [B, K].
        """
        cfg, alpha = self.config, self.alpha
        seen = self.see(batch)
        obs, next_obs, batch = seen[:3]
        if not len(batch.action):  # all drawn sequences ended while they were burnt in
            self.grad_steps += 1
            return {}

        # Critics: y = r + gamma (1 - terminated) (min_i Q'_i(s', a') - alpha log pi(a'|s'))   (eq. 2, 3, 5)
        with no_grad():
            next_action, next_log_prob = self.policy(seen, 0)
            next_value = self.soft_value(next_obs, next_action, next_log_prob, alpha)
        q = self.q_of(obs, batch.action)
        loss_of_critics = critic_loss(q, td_target=soft_td_target(batch.reward, batch.discount, next_value))
        step(self.critic_optimizer, loss_of_critics)

        # Actor: alpha log pi(a|s) - min_i Q_i(s, a), no gradient into the critics   (eq. 7, 9)
        action, log_prob = self.policy(seen, 1)
        if action is None:
            loss_of_actor = discrete_policy_loss(log_prob, self.critics(obs, frozen=True), alpha=alpha)
        else:
            q_of_policy = self.critics(obs, action, frozen=True).squeeze(-1)
            loss_of_actor = policy_loss(q_of_policy, log_prob, alpha=alpha)
        step(self.actor_optimizer, loss_of_actor)

        # Temperature: -log alpha (log pi(a|s) + target entropy)   (eq. 18)
        entropy = self.entropy(log_prob)
        if self.alpha_optimizer is not None:
            step(self.alpha_optimizer, self.log_alpha * (entropy - self.target_entropy_of(batch)))

        # Target critics: Q' <- tau Q + (1 - tau) Q'
        self.grad_steps += 1
        if self.grad_steps % cfg.target_update_interval == 0:
            optim.polyak_update(self._critic_parameters, self._target_parameters, cfg.tau)
        return {
            "train/critic_loss": loss_of_critics.item(),
            "train/actor_loss": loss_of_actor.item(),
            "train/alpha": alpha,
            "train/entropy": entropy,
            "train/q": float(q.array.mean()),
        }

    @property
    def alpha(self) -> float:
        """The temperature, the weight of the entropy beside the reward."""
        return math.exp(self.log_alpha.item()) if self.config.alpha is None else self.config.alpha

    def see(self, batch: Batch) -> CriticInputs:
        """Return what an update on a batch looks at."""
        if isinstance(self.actor, UserActor):
            return self.actor.see(batch, self.grad_steps)
        return CriticInputs(self.network_input(batch.obs), self.network_input(batch.next_obs), batch)

    def policy(self, seen: CriticInputs, which: int) -> tuple[Tensor | None, Tensor]:
        """Return (action [B, A], log_prob [B]) sampled with noise[which], or for Discrete (None, log_prob [B, K]).

        `which` is 0 for the batch's next_obs, 1 for its obs.
        """
        if seen.policies is not None:
            said = seen.policies[which]
        else:
            key = {"key": (("next", "update")[which], self.grad_steps)} if self.stateful is not None else {}
            masks = (seen.batch.get(("next_action_mask", "action_mask")[which]),) if self.discrete else ()
            said = self.actor(self.actor_input(seen.obs if which else seen.next_obs), *masks, **key)
        if self.discrete:
            return None, said
        sampled: tuple[Tensor, Tensor] = said.sample(seen.batch.noise[which])
        return sampled

    def soft_value(self, obs: Tensor, action: Tensor | None, log_prob: Tensor, alpha: float) -> NDArray[Any]:
        """Return V(s) = E[min_i Q'_i(s, a) - alpha log pi(a|s)] [B] by the target critics (eq. 3).

        One sample of the action stands for the expectation; over Discrete actions it is summed.
        """
        if action is None:
            logs = log_prob.array
            smallest = self.target_critics(obs).array.min(axis=0)
            return (np.exp(logs) * (smallest - alpha * logs)).sum(axis=-1)
        smallest = self.target_critics(obs, action).array[..., 0].min(axis=0)
        return smallest - alpha * log_prob.array

    def q_of(self, obs: Tensor, action: Any) -> Tensor:
        """Return Q_i(s, a) [C, B] of stored actions."""
        if self.discrete:
            index = np.broadcast_to(action[None, :, None], (self.config.num_critics, len(action), 1))
            return gather(self.critics(obs), -1, wrap(index)).squeeze(-1)
        return self.critics(obs, action).squeeze(-1)

    def entropy(self, log_prob: Tensor) -> float:
        """Return the policy's entropy in nats, estimated on a batch of log-probabilities [B] (or all, [B, K])."""
        logs = log_prob.array
        if self.discrete:
            return -float((np.exp(logs) * logs).sum(axis=-1).mean())
        return -float(logs.mean())

    # -- construction ---------------------------------------------------------------------------------------------

    def target_entropy_of(self, batch: Batch) -> float:
        """Return the entropy that the temperature keeps; under masks a share of that of the allowed actions."""
        if "action_mask" not in batch or self.config.target_entropy is not None:
            return self.target_entropy
        allowed = batch.action_mask.sum(axis=-1)
        return self.config.target_entropy_scale * float(xp(allowed).log(allowed).mean())

    def _make_networks(self, features: FeaturesFactory | None, policy: PolicyLike | None) -> None:
        self.actor: CategoricalActor | SquashedActor | UserActor
        init = derive_seed(self.seed, "init", bits=63)
        program = None if policy is None else self._program(policy, init)
        with seeded(init):
            self.actor, self.critics = make_networks(
                self.observation_space, self.actions.count, self.config, features, discrete=self.discrete,
                more=0 if program is None else feedback_size(program, self.action_space) + state_size(program),
            )  # fmt: skip
        if program is not None:
            if program.has_state and self.critics.features is not None:
                raise ValueError(
                    f"policy: beside feedback, observations must need no encoder, got {self.observation_space}; a "
                    "policy that takes the observation alone may see them"
                )
            self.stateful = OldRunner(self, program, sequence_length=self.config.sequence_length)
            self.stateful.check_replay(self.config)
            self.experience = ReplayWriter(self.stateful, self.envs)
            self.actor = UserActor(
                self.stateful, self.experience, self.actions.count, discrete=self.discrete, burn_in=self.config.burn_in
            )
        self.flatten_obs = self.critics.features is None
        self.target_critics = copy.deepcopy(self.critics)
        networks: tuple[nn.Module, ...] = (self.actor, self.critics, self.target_critics)
        for network in networks:
            network.to(self.device)
        self._critic_parameters = list(self.critics.parameters())
        self._target_parameters = list(self.target_critics.parameters())
        flatten(self._target_parameters)

    def _program(self, policy: PolicyLike, init: int) -> UserPolicy:
        """Return the user's actor, refusing what only the ready-made one can do."""
        for name in ("use_sde", "share_encoder"):
            if getattr(self.config, name):
                raise ValueError(f"policy: {name} belongs to the ready-made actor; leave it off")
        module = make_policy(policy, (self.layout.space, self.action_space), init, {})
        module.to(self.device)
        program = UserPolicy(module, returns="distribution", agent_masks=True)
        self.policy_name = program.name
        return program

    def _predict_noise(self, rows: int) -> NDArray[np.float32]:
        keys = (self.seed, "predict", np.arange(rows), self.predictions, 1, self.actor.noise_size)
        self.predictions += 1
        return (philox.uniform(*keys, open=True) if self.discrete else philox.normal(*keys))[0]

    # -- acting for another agent ---------------------------------------------------------------------------------

    def acting_state(self) -> dict[str, NDArray[Any]]:
        """Return the actor and how many steps were made in all."""
        return super().acting_state() | {"env_steps": np.array([self.env_steps])}

    def load_acting_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Copy in what `acting_state` of another agent returned."""
        super().load_acting_state(arrays)
        self.env_steps = int(arrays["env_steps"][0])

    def stored_layout(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Return (shape, dtype) of what fragments hold: actions are those of the policy, in [-1, 1]."""
        return {**super().stored_layout(), "action": (self.action_shape, self.action_dtype)}

    # -- state ----------------------------------------------------------------------------------------------------

    _networks = ("actor", "critics", "target_critics")
    _optimizers = ("actor_optimizer", "critic_optimizer", "alpha_optimizer")

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes: networks, optimisers, temperature, replay, counters, environments."""
        return {
            **{name: to_plain(getattr(self, name).state_dict()) for name in self._networks},
            **{name: to_plain(o.state_dict()) for name in self._optimizers if (o := getattr(self, name)) is not None},
            "log_alpha": np.array(to_host(self.log_alpha.array)),
            "owed": self._owed,
            **self.experience_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; environments that cannot be restored begin new episodes."""
        for name in self._networks:
            getattr(self, name).load_state_dict(state[name])
        for name in self._optimizers:
            if getattr(self, name) is not None and name in state:
                getattr(self, name).load_state_dict(from_plain(state[name]))
        if self.config.alpha is None:
            self.log_alpha.array[...] = to_device(np.asarray(state["log_alpha"]), self.device)
        self._owed = int(state["owed"])
        self.load_experience_state(state)


def step(optimizer: optim.Optimizer, loss: Tensor) -> None:
    """Make one step down the gradient of a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
