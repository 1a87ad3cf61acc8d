"""Settings of PPO."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from dynarl.agents.encoders.images import ENCODERS
from dynarl.agents.policies import ACTIVATIONS
from dynarl.config.validate import fraction, least_one, one_of, positive

__all__ = ["PPOConfig"]


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Hyperparameters of PPO."""

    num_envs: int = 8
    """Environments stepped together (N)."""
    num_steps: int = 128
    """Steps of each environment per iteration (T); an iteration trains on N x T transitions."""
    batch_size: int = 256
    """Transitions per minibatch. A remainder is spread evenly over the minibatches."""
    num_epochs: int = 10
    """Passes over the transitions of an iteration."""
    learning_rate: float = 3e-4
    """Step size of Adam."""
    learning_rate_schedule: Literal["constant", "linear"] = "constant"
    """linear: decays to 0 over the run."""
    gamma: float = 0.99
    """Discount factor."""
    gae_lambda: float = 0.95
    """Bias-variance trade-off of the advantage estimate: 0 is one-step TD, 1 Monte Carlo."""
    rho_bar: float = 1.0
    """Limit on the importance weights of V-trace, which learns from what older policies did (asynchronous runs);
    inf for none."""
    c_bar: float = 1.0
    """Limit on how much V-trace's errors pass on to the steps before them; inf for none."""
    clip_range: float = 0.2
    """How far the probability ratio may move from 1 (epsilon)."""
    clip_range_schedule: Literal["constant", "linear"] = "constant"
    """linear: decays to 0 over the run."""
    clip_range_vf: float | None = None
    """Limit on the change of the value prediction per iteration; depends on the reward scale. None: no limit."""
    normalize_advantage: bool = True
    """Shift and scale the advantages of each minibatch to mean 0 and standard deviation 1."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss, a plain mean square (CleanRL's vf_coef counts half of it)."""
    max_grad_norm: float = 0.5
    """Limit on the global norm of the gradient; inf for none."""
    kl_stop_minibatch: float | None = None
    """Stop the iteration's epochs before a minibatch whose approximate KL exceeds 1.5 times this, as
    Stable-Baselines3's target_kl does. None: never."""
    kl_stop_epoch: float | None = None
    """Stop the epochs after one whose last minibatch's approximate KL exceeds this, as CleanRL's target_kl
    does. None: never."""
    kl_adaptive_lr: float | None = None
    """Steer the learning rate to keep the KL of an iteration near this: divided by 1.5 above twice it,
    multiplied by 1.5 below half of it. None: the schedule alone."""
    normalize_obs: bool = False
    """Scale observations by their running mean and standard deviation, clipped to +-10."""
    normalize_reward: bool = False
    """Scale rewards by the running standard deviation of the discounted return, clipped to +-10."""
    encoder: Literal["auto", "nature", "residual", "none"] = "auto"
    """Network shared by actor and critic where observations hold images (or text, which is embedded): the
    Nature CNN, or IMPALA's residual one. auto: Nature for 36 x 36 pixels and more. none: pixels as numbers."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of actor and critic."""
    activation: Literal["tanh", "relu", "silu", "elu"] = "tanh"
    """Activation between layers."""
    orthogonal_init: bool = True
    """Orthogonal weights (gain sqrt 2, 0.01 for the policy's output, 1 for the value's), zero biases."""
    log_std_init: float = 0.0
    """Initial log standard deviation of continuous actions; with use_sde of the noise matrix's entries (about -2)."""
    recurrent: Literal["none", "lstm", "gru"] = "none"
    """Memory in front of actor and critic. Minibatches then consist of sequences (see sequence_length)."""
    recurrent_hidden_size: int = 64
    """Width of the recurrent layers; hidden_sizes are the layers behind them."""
    policy: str | None = None
    """Name of a registered policy (dynarl.agents.policies) in place of the networks that hidden_sizes, encoder and
    recurrent describe."""
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the policy, as YAML or JSON: '{size: 32}'."""
    sequence_length: int | None = None
    """Steps that gradients flow through the state of a policy; divides num_steps. Each sequence starts from the
    state that acting had there. None: num_steps. 1: not at all, and all rows are computed at once."""
    record_paths: bool = True
    """Keep what policies written for one environment decided while acting, and let them decide the same again in
    learning, whatever the parameters have become."""
    use_sde: bool = False
    """Explore Box actions by noise that depends on the state and stays the same for a while (gSDE,
    arXiv:2005.05719)."""
    sde_sample_freq: int = -1
    """Steps of an environment after which its noise is drawn anew. -1: once an iteration."""
    adam_eps: float = 1e-5
    """Epsilon of Adam (1e-5 as in the reference implementation, not 1e-8)."""

    def __post_init__(self) -> None:
        """Refuse impossible values, naming the numbers."""
        least_one("num_envs", "num_steps", "batch_size", "num_epochs", config=self)
        positive("learning_rate", "clip_range", "max_grad_norm", "adam_eps", "rho_bar", "c_bar", config=self)
        positive("clip_range_vf", "kl_stop_minibatch", "kl_stop_epoch", "kl_adaptive_lr", config=self)
        least_one("recurrent_hidden_size", config=self)
        one_of("recurrent", ("none", "lstm", "gru"), config=self)
        if self.recurrent != "none" and self.use_sde:
            raise ValueError(f"recurrent: {self.recurrent!r} policies have no state-dependent exploration (use_sde)")
        if self.policy is not None and self.recurrent != "none":
            raise ValueError(f"recurrent: {self.recurrent!r} is for the ready-made policy, got policy {self.policy!r}")
        if self.sequence_length is not None and (self.sequence_length < 1 or self.num_steps % self.sequence_length):
            raise ValueError(f"sequence_length: must divide num_steps {self.num_steps}, got {self.sequence_length}")
        fraction("gamma", "gae_lambda", config=self)
        one_of("activation", ACTIVATIONS, config=self)
        one_of("encoder", ENCODERS, config=self)
        one_of("learning_rate_schedule", ("constant", "linear"), config=self)
        one_of("clip_range_schedule", ("constant", "linear"), config=self)
        if any(size < 1 for size in self.hidden_sizes):
            raise ValueError(f"hidden_sizes: must be at least 1 each, got {self.hidden_sizes}")
        if self.sde_sample_freq != -1 and (self.sde_sample_freq < 1 or not self.use_sde):
            raise ValueError(
                f"sde_sample_freq: must be at least 1 with use_sde, else -1, got {self.sde_sample_freq} and "
                f"use_sde {self.use_sde}"
            )
        if self.kl_adaptive_lr is not None and self.learning_rate_schedule != "constant":
            raise ValueError(
                f"kl_adaptive_lr: {self.kl_adaptive_lr} steers the learning rate itself, so "
                f"learning_rate_schedule must be 'constant', got {self.learning_rate_schedule!r}"
            )
