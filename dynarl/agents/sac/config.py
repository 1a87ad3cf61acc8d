"""Hyperparameters of SAC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dynarl.agents.encoders.images import ENCODERS
from dynarl.agents.sac.critics import FUSED
from dynarl.config import validate

__all__ = ["SACConfig"]


@dataclass(frozen=True, kw_only=True)
class SACConfig:
    """Hyperparameters of SAC; the defaults are those of arXiv:1812.05905 as Stable-Baselines3 has them."""

    num_envs: int = 1
    """Environments stepped together (N)."""
    buffer_size: int = 1_000_000
    """Transitions in the replay, of all environments together."""
    batch_size: int = 256
    """Transitions per gradient step (B)."""
    fragment_steps: int = 32
    """Steps of each environment that workers send at a time (with num_workers)."""
    learning_starts: int = 100
    """Environment steps of uniformly random actions before the first gradient step."""
    train_freq: int = 1
    """Steps in every environment between rounds of gradient steps."""
    gradient_steps: int = 1
    """Gradient steps for every train_freq transitions: with N environments N times as many a round, so that
    the ratio of updates to data is gradient_steps / train_freq for any N."""
    learning_rate: float = 3e-4
    """Step size of Adam for actor, critics and temperature."""
    gamma: float = 0.99
    """Discount factor."""
    n_step: int = 1
    """Rewards summed before the target bootstraps; fewer where an episode ends."""
    tau: float = 0.005
    """Weight of the online critics in each update of the target critics."""
    target_update_interval: int = 1
    """Gradient steps between updates of the target critics."""
    alpha: float | None = None
    """Fixed temperature, the weight of the entropy. None: learned to keep the target entropy."""
    alpha_init: float = 1.0
    """Temperature to begin with, where it is learned."""
    target_entropy: float | None = None
    """Entropy in nats, of actions in [-1, 1], that the temperature keeps. None: -dim(A), or for Discrete
    actions target_entropy_scale log|A|."""
    target_entropy_scale: float = 0.98
    """Share of the largest entropy that Discrete actions keep (arXiv:1910.07207); where actions are masked, of
    the mean of log(number allowed)."""
    num_critics: int = 2
    """Q networks; the smallest of their values counts."""
    encoder: Literal["auto", "nature", "residual", "none"] = "auto"
    """Network before actor and critics where observations hold images (or text, which is embedded): the Nature
    CNN, or IMPALA's residual one. auto: Nature for 36 x 36 pixels and more. none: pixels as numbers."""
    share_encoder: bool = False
    """One such network for actor and critics, trained by the critics' loss alone (arXiv:1910.01741); else the
    actor has its own."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of actor and critics."""
    activation: Literal["relu", "tanh"] = "relu"
    """Activation between layers."""
    log_std_min: float = -20.0
    """Lower limit on the log standard deviation."""
    log_std_max: float = 2.0
    """Upper limit on the log standard deviation."""
    use_sde: bool = False
    """Explore by noise that depends on the state and stays the same for a while (gSDE, arXiv:2005.05719)."""
    sde_sample_freq: int = -1
    """Steps of an environment after which its noise is drawn anew. -1: every train_freq steps."""
    log_std_init: float = -3.0
    """Initial log standard deviation of the entries of gSDE's noise matrix."""
    sde_clip_mean: float = 2.0
    """Limit on the mean before tanh under gSDE."""
    sequence_length: int = 16
    """Steps that are learned from together, for policies with a state: gradients flow through it along them. A batch
    then holds batch_size / sequence_length sequences."""
    burn_in: int = 0
    """Steps before each sequence that only bring the state up to the parameters of now."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense together or alone."""
        validate.least_one("num_envs", "batch_size", "train_freq", "gradient_steps", "n_step", config=self)
        validate.least_one("fragment_steps", "sequence_length", config=self)
        validate.least_one("target_update_interval", "num_critics", config=self)
        validate.positive("learning_rate", "alpha", "alpha_init", "tau", "sde_clip_mean", config=self)
        validate.fraction("gamma", "tau", config=self)
        validate.one_of("activation", FUSED, config=self)
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
                f"buffer_size: {self.buffer_size} transitions of {self.num_envs} environments are fewer than "
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
