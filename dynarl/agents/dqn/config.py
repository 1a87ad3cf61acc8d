"""Hyperparameters of DQN and of the parts of Rainbow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dynarl.agents.encoders.images import ENCODERS
from dynarl.agents.policies import ACTIVATIONS
from dynarl.config.validate import fraction, least_one, one_of, positive

__all__ = ["DQNConfig"]


@dataclass(frozen=True, kw_only=True)
class DQNConfig:
    """Hyperparameters of DQN. Every interval and schedule is in environment steps, over all environments."""

    num_envs: int = 1
    """Environments stepped together (N)."""
    learning_rate: float = 1e-4
    """Step size of Adam."""
    adam_eps: float = 1e-8
    """Epsilon of Adam (Rainbow: 1.5e-4)."""
    batch_size: int = 32
    """Transitions per gradient step."""
    buffer_size: int = 100_000
    """Transitions that the replay holds."""
    fragment_steps: int = 32
    """Steps of each environment that workers send at a time (with num_workers)."""
    learning_starts: int = 1000
    """Steps made with random actions before the first update."""
    train_freq: int = 4
    """Steps between trainings. With several environments it still counts steps of all together."""
    gradient_steps: int = 1
    """Gradient steps of a training: gradient_steps / train_freq is the update-to-data ratio for any num_envs."""
    target_update_interval: int = 10_000
    """Steps between updates of the target network."""
    tau: float = 1.0
    """Weight of the online network in an update of the target network: 1 copies it, less averages (Polyak)."""
    gamma: float = 0.99
    """Discount factor."""
    n_step: int = 1
    """Rewards summed before bootstrapping; fewer where an episode or the newest data ends."""
    epsilon_initial: float = 1.0
    """Share of random actions at step 0."""
    epsilon_final: float = 0.05
    """Share of random actions from step epsilon_steps on."""
    epsilon_steps: int = 10_000
    """Steps over which epsilon falls, in a straight line."""
    epsilon_alpha: float = 0.0
    """Spread of epsilon over the environments: number i of N explores with epsilon ** (1 + epsilon_alpha i / (N - 1)).
    0: all alike."""
    max_grad_norm: float = 10.0
    """Limit on the global norm of the gradient; inf for none."""
    encoder: Literal["auto", "nature", "residual", "none"] = "auto"
    """Network before the Q-network where observations hold images (or text, which is embedded): the Nature CNN,
    or IMPALA's residual one. auto: Nature for 36 x 36 pixels and more. none: pixels as numbers."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""
    activation: Literal["tanh", "relu", "silu", "elu"] = "relu"
    """Activation between layers."""
    double: bool = False
    """The online network chooses the next action, the target network values it (arXiv:1509.06461)."""
    dueling: bool = False
    """Separate streams for the state's value and the actions' advantages (arXiv:1511.06581)."""
    prioritized: bool = False
    """Draw transitions in proportion to their TD error (arXiv:1511.05952)."""
    per_alpha: float = 0.6
    """How much priorities matter: 0 is uniform."""
    per_beta: float = 0.4
    """Exponent of the importance weights at step 0; it rises to 1."""
    per_beta_steps: int = 100_000
    """Steps over which the exponent rises."""
    noisy: bool = False
    """Explore by noise on the weights instead of epsilon (arXiv:1706.10295)."""
    distributional: Literal["none", "c51", "qr"] = "none"
    """Learn the distribution of returns: c51 on a fixed support (arXiv:1707.06887), qr its quantiles
    (arXiv:1710.10044)."""
    num_atoms: int = 51
    """Atoms of C51."""
    v_min: float = -10.0
    """Least return that C51 can represent."""
    v_max: float = 10.0
    """Largest return that C51 can represent."""
    num_quantiles: int = 50
    """Quantiles of qr."""
    sequence_length: int = 16
    """Steps that are learned from together, for policies with a state: gradients flow through it along them. A batch
    then holds batch_size / sequence_length sequences."""
    burn_in: int = 0
    """Steps before each sequence that only bring the state up to the parameters of now."""

    def __post_init__(self) -> None:
        """Refuse impossible values, naming the numbers."""
        least_one("num_envs", "batch_size", "train_freq", "gradient_steps", "target_update_interval", config=self)
        least_one("n_step", "num_quantiles", "sequence_length", "fragment_steps", config=self)
        positive("learning_rate", "adam_eps", "max_grad_norm", "tau", config=self)
        fraction("tau", "gamma", "epsilon_initial", "epsilon_final", "per_alpha", "per_beta", config=self)
        one_of("activation", ACTIVATIONS, config=self)
        one_of("encoder", ENCODERS, config=self)
        one_of("distributional", ("none", "c51", "qr"), config=self)
        for name, least in (
            ("learning_starts", 0),
            ("epsilon_steps", 0),
            ("epsilon_alpha", 0),
            ("per_beta_steps", 0),
            ("num_atoms", 2),
            ("burn_in", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: must be at least {least}, got {getattr(self, name)}")
        if self.buffer_size < self.batch_size:
            raise ValueError(f"buffer_size: {self.buffer_size} is smaller than a batch of {self.batch_size}")
        if self.buffer_size < self.num_envs * self.n_step:
            raise ValueError(
                f"buffer_size: {self.buffer_size} is too small for windows of {self.n_step} steps in each of "
                f"{self.num_envs} environments"
            )
        if not self.v_min < self.v_max:
            raise ValueError(f"v_min: must be below v_max, got {self.v_min} and {self.v_max}")
        if any(width < 1 for width in self.hidden_sizes):
            raise ValueError(f"hidden_sizes: must be at least 1 each, got {self.hidden_sizes}")
