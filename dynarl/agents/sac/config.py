"""Hyperparameters of SAC."""

from __future__ import annotations

from typing import Literal

from dynarl.agents.encoders.choose import ENCODERS
from dynarl.agents.sac.critics import FUSED
from dynarl.config import validate
from dynarl.config.migration import configuration

__all__ = ["SACConfig"]


@configuration
class SACConfig:
    """Hyperparameters of SAC; the defaults are those of arXiv:1812.05905 as Stable-Baselines3 has them.

    In the sources, "SAC" is arXiv:1812.05905 with its table 1, "discrete SAC" is arXiv:1910.07207, "gSDE" is
    arXiv:2005.05719.
    """

    num_envs: int = 1
    """Number of environments that are stepped together (N). Source: SAC (one); more as in Stable-Baselines3."""
    buffer_size: int = 1_000_000
    """Capacity of the replay in transitions, summed over the environments. Source: SAC, table 1."""
    batch_size: int = 256
    """Transitions per gradient step (B). Source: SAC, table 1."""
    fragment_steps: int = 32
    """Steps of each environment per fragment that a worker sends (with num_workers). Source: dynarl."""
    learning_starts: int = 100
    """Environment steps with uniformly random actions before the first gradient step. Source: Stable-Baselines3."""
    train_freq: int = 1
    """Steps of every environment between rounds of gradient steps. Source: SAC, Algorithm 1."""
    gradient_steps: int = 1
    """Gradient steps for every train_freq transitions: a round of N environments makes N times as many, so that the
    ratio of updates to data is gradient_steps / train_freq for any N. Source: SAC, table 1."""
    learning_rate: float = 3e-4
    """Step size of Adam for actor, critics and temperature. Source: SAC, table 1."""
    learning_rate_schedule: Literal["constant", "linear"] = "constant"
    """linear: decays to 0 over the run. Source: SAC keeps it constant; some settings of RL Baselines3 Zoo
    decay it."""
    gamma: float = 0.99
    """Discount factor. Source: SAC, table 1."""
    n_step: int = 1
    """Rewards that are summed before the bootstrap; fewer where an episode ends. Source: SAC (1); arXiv:1710.02298,
    multi-step learning (more)."""
    tau: float = 0.005
    """Weight of the online critics in each update of the target critics. Source: SAC, table 1."""
    target_update_interval: int = 1
    """Gradient steps between updates of the target critics. Source: SAC, table 1."""
    alpha: float | None = None
    """Fixed temperature, the weight of the entropy. None: learned to keep the target entropy. Source: SAC, section 5
    (learned); arXiv:1801.01290 (fixed)."""
    alpha_init: float = 1.0
    """Initial value of a learned temperature. Source: Stable-Baselines3."""
    target_entropy: float | None = None
    """Entropy in nats, of actions in [-1, 1], that the temperature keeps. None: -dim(A), or for Discrete
    actions target_entropy_scale log|A|. Source: SAC, table 1."""
    target_entropy_scale: float = 0.98
    """Target entropy of Discrete actions as a fraction of the largest entropy; with action masks, of the mean of
    log(number allowed). Source: discrete SAC, appendix."""
    num_critics: int = 2
    """Q-networks (C); targets and losses use the smallest of their values. Source: SAC, section 6, after
    arXiv:1802.09477 (two); arXiv:2101.05982 (more)."""
    encoder: Literal["auto", "nature", "residual", "none"] = "auto"
    """Network in front of actor and critics for observations with images (or text, which is embedded): the Nature CNN,
    or IMPALA's residual network. auto: Nature from 36 x 36 pixels on. none: pixels are plain numbers. Source: Mnih et
    al., Nature 518, 2015; arXiv:1802.01561, figure 3."""
    share_encoder: bool = False
    """One encoder for actor and critics, trained by the critics' loss alone; off: the actor has its own. Source:
    Stable-Baselines3, share_features_extractor (off); arXiv:1910.01741 (on)."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of actor and critics. Source: SAC, table 1."""
    activation: Literal["relu", "tanh"] = "relu"
    """Activation between layers. Source: SAC, table 1."""
    log_std_min: float = -20.0
    """Lower limit on the log standard deviation. Source: the authors' code and Stable-Baselines3."""
    log_std_max: float = 2.0
    """Upper limit on the log standard deviation. Source: the authors' code and Stable-Baselines3."""
    use_sde: bool = False
    """Explore by noise that depends on the state and stays constant for several steps. Source: gSDE."""
    sde_sample_freq: int = -1
    """Steps of an environment between draws of its gSDE noise. -1: train_freq steps. Source: gSDE, section 4."""
    log_std_init: float = -3.0
    """Initial log standard deviation of the entries of gSDE's noise matrix. Source: Stable-Baselines3."""
    sde_clip_mean: float = 2.0
    """Limit on the mean before tanh under gSDE. Source: Stable-Baselines3."""
    sequence_length: int = 16
    """Steps per training sequence for policies with a state (L); gradients flow through the state along it. A batch
    holds batch_size / sequence_length sequences. Source: R2D2, Kapturowski et al., ICLR 2019, stored states (80)."""
    burn_in: int = 0
    """Steps before each sequence that only recompute the state with the current parameters. Source: R2D2, section 3
    (40, or 0)."""

    def __post_init__(self) -> None:
        """Raise ValueError for impossible values."""
        validate.least_one("num_envs", "batch_size", "train_freq", "gradient_steps", "n_step", config=self)
        validate.least_one("fragment_steps", "sequence_length", config=self)
        validate.least_one("target_update_interval", "num_critics", config=self)
        validate.positive("learning_rate", "alpha", "alpha_init", "tau", "sde_clip_mean", config=self)
        validate.fraction("gamma", "tau", config=self)
        validate.one_of("activation", FUSED, config=self)
        validate.one_of("learning_rate_schedule", ("constant", "linear"), config=self)
        validate.one_of("encoder", ENCODERS, config=self)
        for name in ("learning_starts", "burn_in"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must be at least 0, got {getattr(self, name)}")
        if self.buffer_size < self.batch_size:
            raise ValueError(
                f"buffer_size: a replay of {self.buffer_size} transitions is smaller than batch_size {self.batch_size}"
            )
        if self.buffer_size // self.num_envs < self.n_step:
            raise ValueError(
                f"buffer_size: {self.buffer_size} transitions of num_envs {self.num_envs} are fewer than "
                f"n_step {self.n_step} of each"
            )
        if any(size < 1 for size in self.hidden_sizes):
            raise ValueError(f"hidden_sizes: must be at least 1 each, got {self.hidden_sizes}")
        if not self.log_std_min < self.log_std_max:
            raise ValueError(f"log_std_min: must be below log_std_max {self.log_std_max}, got {self.log_std_min}")
        if self.sde_sample_freq != -1 and (self.sde_sample_freq < 1 or not self.use_sde):
            raise ValueError(
                f"sde_sample_freq: must be at least 1 with use_sde, else -1, got {self.sde_sample_freq} and "
                f"use_sde {self.use_sde}"
            )
