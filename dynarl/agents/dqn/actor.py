"""DQN's actor: greedy actions of a Q-network, epsilon-greedy ones, or those of a noisy network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dynarl import nn
from dynarl.agents.dqn.config import DQNConfig
from dynarl.agents.dqn.exploration import StepNoise, epsilon_at, exploration_noise, random_actions, spread
from dynarl.agents.dqn.networks import QNetwork
from dynarl.agents.dqn.q_distribution import MeanQ, make_q_distribution
from dynarl.agents.encoders.choose import features_for
from dynarl.agents.encoders.observation_encoder import ObservationEncoder
from dynarl.agents.encoders.stored_actions import StoredActions
from dynarl.agents.off_policy.actor import OffPolicyActor, check_replay
from dynarl.agents.off_policy.records import RecordLayout
from dynarl.agents.policies import FeaturesFactory
from dynarl.agents.user_policy.policy import PolicyLike, UserPolicy, make_policy
from dynarl.agents.user_policy.runner import PolicyRunner
from dynarl.autograd import no_grad, philox
from dynarl.autograd.device import to_device, to_host
from dynarl.autograd.random import seeded
from dynarl.envs.observations import observation_layout
from dynarl.rollout import ActResult, NoiseStream
from dynarl.seeding import derive_seed

__all__ = ["DQNActor", "EpsilonGreedy", "make_actor"]

Mask = NDArray[np.bool_] | None


class EpsilonGreedy:
    """Takes random actions where the noise says so, else argmax_a Q(s, a)."""

    def __init__(self, q_distribution: MeanQ, num_actions: int, device: str) -> None:
        self.q_distribution, self.num_actions, self.device = q_distribution, num_actions, device

    def check(self, policy: UserPolicy, outputs: tuple[Any, ...]) -> tuple[str, int]:
        """Raise unless the output of 2 rows is q [2, A]; return the noise of epsilon-greedy actions."""
        (q,) = outputs
        shape = tuple(getattr(q, "shape", ()))
        if shape != (2, self.num_actions):
            raise policy.wrong(f"shape {shape[1:]} where there are {self.num_actions} actions")
        return "uniform", 2

    def decide(
        self, outputs: tuple[Any, ...], noise: NDArray[np.float32] | None, action_mask: Mask = None
    ) -> tuple[NDArray[np.int64], None, None]:
        """Return actions [N] of a policy's outputs; greedy without noise."""
        return self.actions(lambda: outputs[0], noise, action_mask), None, None

    def actions(
        self, output: Callable[[], Any], noise: NDArray[np.float32] | None, action_mask: Mask
    ) -> NDArray[np.int64]:
        """Return actions [N] for noise [N, 2] (see `exploration_noise`), among those that masks [N, A] allow.

        `output` evaluates the Q-network; it is not called if all actions are random.
        """
        explores = np.zeros(0, np.bool_) if noise is None else noise[:, 0] > 0
        count = np.count_nonzero(explores)
        if noise is None or count == 0:
            return self._greedy(output(), action_mask)
        random = random_actions(noise[:, 1], self.num_actions, action_mask)
        return random if count == len(explores) else np.where(explores, random, self._greedy(output(), action_mask))

    def _greedy(self, output: Any, action_mask: Mask) -> NDArray[np.int64]:
        mask = None if action_mask is None else to_device(action_mask, self.device)
        return to_host(self.q_distribution.greedy(output.array, mask))


class DQNActor(OffPolicyActor):
    """Acts with `q_network`, which maps encoded observations to the output of a Q-distribution.

    The noise of `act` is that of epsilon-greedy actions [N, 2], or with noisy networks [1, K], the same for all rows.
    """

    def __init__(
        self,
        q_network: nn.Module,
        encoder: ObservationEncoder,
        actions: StoredActions,
        epsilon_greedy: EpsilonGreedy,
        config: DQNConfig,
        *,
        seed: int,
        runner: PolicyRunner | None = None,
    ) -> None:
        self.q_network = q_network
        self._noisy = q_network if isinstance(q_network, QNetwork) and config.noisy else None
        noise = ("uniform", 2) if self._noisy is None else ("normal", self._noisy.noise_size)
        super().__init__(encoder, actions, {"policy": q_network}, seed=seed, noise=noise, runner=runner)
        self.config, self.epsilon_greedy = config, epsilon_greedy
        self._learner_epsilon: float | None = None  # in a worker
        self._learner_envs: int | None = None  # number of environments of the learner, in a worker

    def act(
        self, obs: NDArray[Any], noise: NDArray[np.float32] | None, *, explore: bool, action_mask: Mask = None
    ) -> ActResult:
        """Return actions [N] for stored observations [N, ...]; without `explore` greedy ones, of the mean weights."""
        noise = noise if explore else None
        if self._noisy is not None:
            self._noisy.set_noise(None if noise is None else noise[0], self.device)
            noise = None  # noisy networks act greedily
        return ActResult(self.epsilon_greedy.actions(lambda: self._output(obs), noise, action_mask))

    def _output(self, obs: NDArray[Any]) -> Any:
        with no_grad():
            return self.q_network(self.encoder(obs))

    # -- exploration ----------------------------------------------------------------------------------------------

    @property
    def epsilon(self) -> float:
        """The probability of a random action now: 1 before learning starts, then 0 for noisy networks."""
        return epsilon_at(self.config, self.env_steps)

    @property
    def training_epsilon(self) -> float:
        """Epsilon of exploration in training: in a worker, that of the learner when it sent its weights."""
        return self.epsilon if self._learner_epsilon is None else self._learner_epsilon

    def epsilons(self, env_ids: NDArray[np.int64]) -> float | NDArray[np.float64]:
        """Return epsilon of each environment [N], or one number for all."""
        alpha = self.config.epsilon_alpha
        if not alpha:
            return self.training_epsilon
        return spread(self.training_epsilon, alpha, env_ids, self._learner_envs or len(env_ids))

    def exploration(self, env_ids: NDArray[np.int64]) -> QExploration:
        """Return how to explore in the environments [N] with these ids."""
        return QExploration(self, env_ids)

    def prediction_noise(self, rows: int) -> NDArray[np.float32]:
        """Return the noise of the next prediction: exploration as in training, with one epsilon for all rows."""
        self.predictions += 1
        if self.config.noisy:
            return philox.normal(self.seed, "predict", [0], self.predictions, 1, self.noise_size)[0]
        uniform = philox.uniform(self.seed, "predict", np.arange(rows), self.predictions, 1, 2)[0]
        return exploration_noise(uniform, self.epsilon)

    # -- workers --------------------------------------------------------------------------------------------------

    def acting_state(self) -> dict[str, NDArray[Any]]:
        """Return the Q-network, the environment steps so far, epsilon, and the number of environments."""
        numbers = np.array([self.env_steps, self.epsilon, self.config.num_envs], np.float64)
        return super().acting_state() | {"numbers": numbers}

    def load_acting_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Copy in the `acting_state` of a learner's actor, whose epsilon stays until the next call."""
        super().load_acting_state(arrays)
        env_steps, epsilon, num_envs = arrays["numbers"].tolist()
        self.env_steps, self._learner_epsilon, self._learner_envs = int(env_steps), epsilon, int(num_envs)


class QExploration:
    """Random, epsilon-greedy or noisy actions in some environments (see `dynarl.agents.off_policy.actor`)."""

    def __init__(self, actor: DQNActor, env_ids: NDArray[np.int64]) -> None:
        self._actor, self._env_ids = actor, env_ids
        self._uniform = StepNoise(actor.seed, env_ids)
        size = max(1, actor.noise_size)
        self._weight_noise = NoiseStream(actor.seed, "noisy", env_ids[:1], kind="normal", size=size)

    def random_actions(self, step: int, mask: Mask) -> NDArray[np.int64] | None:
        """Return random actions [N] where every environment explores with epsilon 1, else None."""
        if self._actor.training_epsilon < 1.0:  # then that of every environment is
            return None
        return random_actions(self._uniform.at(step)[:, 1], self._actor.epsilon_greedy.num_actions, mask)

    def noise(self, step: int) -> NDArray[np.float32]:
        """Return the noise of a step."""
        if self._actor.config.noisy:
            return self._weight_noise.at(step)
        return exploration_noise(self._uniform.at(step), self._actor.epsilons(self._env_ids))


def make_actor(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    config: DQNConfig,
    *,
    seed: int,
    device: str = "cpu",
    features: FeaturesFactory | None = None,
    policy: PolicyLike | None = None,
) -> DQNActor:
    """Make the Q-network, with parameters drawn by `seed`, and the actor around it."""
    if not isinstance(action_space, spaces.Discrete):
        raise ValueError(
            f"DQN: supports Discrete actions, got {action_space}; SAC and PPO take Box actions, PPO also "
            "MultiDiscrete and MultiBinary"
        )
    num_actions, init = int(action_space.n), derive_seed(seed, "init", bits=63)
    q_distribution = make_q_distribution(config, device)
    epsilon_greedy, actions = EpsilonGreedy(q_distribution, num_actions, device), StoredActions(action_space)
    if policy is None:
        with seeded(init):
            features = features_for(observation_space, config.encoder) if features is None else features
            network = make_q_network(observation_space, num_actions, config, features).to(device)
        encoder = ObservationEncoder(observation_space, device=device, flatten=features is None)
        return DQNActor(network, encoder, actions, epsilon_greedy, config, seed=seed)
    _refuse_options(config, features)
    module = make_policy(policy, (observation_layout(observation_space).space, action_space), init, {}).to(device)
    encoder = ObservationEncoder(observation_space, device=device, flatten=False)
    user = UserPolicy(module, returns="q", agent_masks=True)
    runner = PolicyRunner(user, encoder, actions, epsilon_greedy, seed=seed, sequence_length=config.sequence_length)
    check_replay(runner, batch_size=config.batch_size, n_step=config.n_step, prioritized=config.prioritized)
    actor = DQNActor(module, encoder, actions, epsilon_greedy, config, seed=seed, runner=runner)
    actor.policy_name, actor.records = user.name, RecordLayout(runner)
    return actor


def make_q_network(
    observation_space: spaces.Space[Any],
    num_actions: int,
    config: DQNConfig,
    features: FeaturesFactory | None = None,
) -> QNetwork:
    """Return the Q-network that the fields `hidden_sizes`, `dueling`, ... of the config describe."""
    return QNetwork(
        observation_layout(observation_space).space,
        num_actions,
        hidden_sizes=config.hidden_sizes,
        activation=config.activation,
        dueling=config.dueling,
        noisy=config.noisy,
        num_atoms=make_q_distribution(config).num_atoms,
        features=features,
    )


def _refuse_options(config: DQNConfig, features: FeaturesFactory | None) -> None:
    """Refuse options that only the ready-made network has."""
    given = [name for name in ("noisy", "dueling") if getattr(config, name)]
    given += ["distributional"] if config.distributional != "none" else []
    given += [] if features is None else ["features"]
    if given:
        raise ValueError(f"policy: {', '.join(given)} belong to the ready-made Q-network; leave them off with a policy")
