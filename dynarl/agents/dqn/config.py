"""Hyperparameters of DQN and of the parts of Rainbow."""

from __future__ import annotations

from typing import Any, Literal

from dynarl.agents.encoders.choose import ENCODERS
from dynarl.agents.policies import ACTIVATIONS
from dynarl.config.migration import configuration
from dynarl.config.validate import fraction, least_one, one_of, positive

__all__ = ["DQNConfig"]


@configuration
class DQNConfig:
    """Hyperparameters of DQN. Intervals and schedules count environment steps, summed over all environments.

    In the sources, "Nature" is Mnih et al., Nature 518, 2015 with its Extended Data Table 1, "Rainbow" is
    arXiv:1710.02298 with its table 1.
    """

    num_envs: int = 1
    """Number of environments that are stepped together (N). Source: Nature (one); more as in Stable-Baselines3."""
    learning_rate: float = 1e-4
    """Step size of Adam. Source: Stable-Baselines3 (Nature: RMSProp with 2.5e-4; Rainbow: 6.25e-5)."""
    learning_rate_schedule: Literal["constant", "linear"] = "constant"
    """linear: decays to 0 over the run. Source: Nature and Rainbow keep it constant; some settings of RL Baselines3 Zoo
    decay it."""
    adam_eps: float = 1e-8
    """Epsilon of Adam. Source: arXiv:1412.6980 (Rainbow: 1.5e-4)."""
    batch_size: int = 32
    """Transitions per gradient step (B). Source: Nature and Rainbow."""
    buffer_size: int = 100_000
    """Capacity of the replay in transitions. Source: Nature and Rainbow use 1,000,000 for Atari; smaller problems need
    less."""
    fragment_steps: int = 32
    """Steps of each environment per fragment that a worker sends (with num_workers). Source: Ape-X, arXiv:1803.00933,
    section 4.1 (50)."""
    learning_starts: int = 1000
    """Steps with random actions before the first update. Source: Nature uses 50,000 and Rainbow 20,000 for Atari;
    smaller problems need less."""
    train_freq: int = 4
    """Steps between rounds of gradient steps, summed over the environments. Source: Nature and Rainbow."""
    gradient_steps: int = 1
    """Gradient steps per round; gradient_steps / train_freq is the update-to-data ratio for any num_envs. Source:
    Nature, Algorithm 1."""
    target_update_interval: int = 10_000
    """Steps between updates of the target network. Source: Nature counts 10,000 updates; Stable-Baselines3 counts
    steps."""
    tau: float = 1.0
    """Weight of the online network in an update of the target network: 1 copies it, a smaller value averages (Polyak).
    Source: Nature, Algorithm 1 (copy); arXiv:1509.02971, section 3 (average)."""
    gamma: float = 0.99
    """Discount factor. Source: Nature and Rainbow."""
    n_step: int = 1
    """Rewards that are summed before the bootstrap; fewer where an episode or the stored data ends. Source: Nature
    (1); Rainbow, multi-step learning (3)."""
    epsilon_initial: float = 1.0
    """Probability of a random action at step 0. Source: Nature."""
    epsilon_final: float = 0.05
    """Probability of a random action from step epsilon_steps on. Source: Stable-Baselines3 (Nature: 0.1)."""
    epsilon_steps: int = 10_000
    """Steps over which epsilon decreases linearly. Source: Nature uses 1,000,000 frames for Atari; smaller problems
    need fewer."""
    epsilon_alpha: float = 0.0
    """Spread of epsilon over the environments: environment i of N explores with
    epsilon ** (1 + epsilon_alpha i / (N - 1)). 0 gives all the same epsilon. Source: Ape-X, arXiv:1803.00933, section
    4.1 (7, with a constant epsilon of 0.4); Nature (0)."""
    max_grad_norm: float = 10.0
    """Limit on the global norm of the gradient; inf disables clipping. Source: Stable-Baselines3 and arXiv:1511.06581,
    section 4.2."""
    encoder: Literal["auto", "nature", "residual", "none"] = "auto"
    """Network in front of the Q-network for observations with images (or text, which is embedded): the Nature CNN, or
    IMPALA's residual network. auto: Nature from 36 x 36 pixels on. none: pixels are plain numbers. Source: Nature;
    arXiv:1802.01561, figure 3."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers. Source: Stable-Baselines3 (Nature: one layer of 512 after the convolutions)."""
    activation: Literal["tanh", "relu", "silu", "elu"] = "relu"
    """Activation between layers. Source: Nature."""
    double: bool = False
    """Double Q-learning: the online network selects the next action, the target network evaluates it. Source:
    arXiv:1509.06461, eq. 4."""
    dueling: bool = False
    """Separate streams for the state value and the advantages. Source: arXiv:1511.06581, eq. 9."""
    prioritized: bool = False
    """Sample transitions in proportion to their TD error. Source: arXiv:1511.05952, section 3.3, proportional
    variant."""
    per_alpha: float = 0.6
    """Exponent of the priorities; 0 samples uniformly. Source: arXiv:1511.05952, table 3 (Rainbow: 0.5)."""
    per_beta: float = 0.4
    """Exponent of the importance weights at step 0; it increases to 1. Source: arXiv:1511.05952, table 3; Rainbow."""
    per_beta_steps: int = 100_000
    """Steps over which that exponent increases linearly. Source: arXiv:1511.05952, section 3.4 (over the whole
    training)."""
    noisy: bool = False
    """Explore by parameter noise instead of epsilon. Source: arXiv:1706.10295, eq. 9 to 11, factorised noise."""
    distributional: Literal["none", "c51", "qr"] = "none"
    """Learn the distribution of returns: c51 on a fixed support, qr by its quantiles. Source: arXiv:1707.06887,
    Algorithm 1 (c51); arXiv:1710.10044, Algorithm 1 (qr)."""
    num_atoms: int = 51
    """Atoms of C51. Source: arXiv:1707.06887, section 5; Rainbow."""
    v_min: float = -10.0
    """Smallest return in the support of C51. Source: arXiv:1707.06887, section 5, and Rainbow, for the clipped rewards
    of Atari."""
    v_max: float = 10.0
    """Largest return in the support of C51. Source: arXiv:1707.06887, section 5, and Rainbow, for the clipped rewards
    of Atari."""
    num_quantiles: int = 50
    """Quantiles of qr. Source: arXiv:1710.10044, section 5 uses 200; fewer are faster."""
    sequence_length: int = 16
    """Steps per training sequence for policies with a state (L); gradients flow through the state along it. A batch
    holds batch_size / sequence_length sequences. Source: R2D2, Kapturowski et al., ICLR 2019, stored states (80)."""
    burn_in: int = 0
    """Steps before each sequence that only recompute the state with the current parameters. Source: R2D2, section 3
    (40, or 0)."""

    @classmethod
    def migrate(cls, fields: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return fields under their current names, and one line for each that was renamed."""
        if "duelling" not in fields:
            return fields, []
        renamed = {"dueling" if name == "duelling" else name: value for name, value in fields.items()}
        return renamed, ["duelling is now called dueling"]

    def __post_init__(self) -> None:
        """Raise ValueError for impossible values."""
        least_one("num_envs", "batch_size", "train_freq", "gradient_steps", "target_update_interval", config=self)
        least_one("n_step", "num_quantiles", "sequence_length", "fragment_steps", config=self)
        positive("learning_rate", "adam_eps", "max_grad_norm", "tau", config=self)
        fraction("tau", "gamma", "epsilon_initial", "epsilon_final", "per_alpha", "per_beta", config=self)
        one_of("activation", ACTIVATIONS, config=self)
        one_of("learning_rate_schedule", ("constant", "linear"), config=self)
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
            raise ValueError(f"buffer_size: {self.buffer_size} is smaller than a batch of batch_size {self.batch_size}")
        if self.buffer_size < self.num_envs * self.n_step:
            raise ValueError(
                f"buffer_size: {self.buffer_size} is too small for windows of n_step {self.n_step} steps in each of "
                f"num_envs {self.num_envs} environments"
            )
        if not self.v_min < self.v_max:
            raise ValueError(f"v_min: must be below v_max, got {self.v_min} and {self.v_max}")
        if any(width < 1 for width in self.hidden_sizes):
            raise ValueError(f"hidden_sizes: must be at least 1 each, got {self.hidden_sizes}")
