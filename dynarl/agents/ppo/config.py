"""Settings of PPO."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

from dynarl.agents.encoders.choose import ENCODERS
from dynarl.agents.policies import ACTIVATIONS
from dynarl.agents.policies.renamed_arguments import migrated_arguments
from dynarl.config.migration import configuration
from dynarl.config.validate import fraction, least_one, one_of, positive

__all__ = ["PPOConfig"]

# Fields of earlier versions, and the action that each stands for.
_KL_ACTIONS = {"kl_stop_minibatch": "stop_minibatch", "kl_stop_epoch": "stop_epoch", "kl_adaptive_lr": "adapt_lr"}


@configuration
class PPOConfig:
    """Hyperparameters of PPO.

    In the sources, "37 details" is Huang et al., The 37 implementation details of proximal policy optimization, ICLR
    blog track 2022; "baselines" is OpenAI's ppo2.
    """

    num_envs: int = 8
    """Environments stepped together (N). Source: 37 details, core 1 (vectorised architecture)."""
    num_steps: int = 128
    """Steps of each environment per iteration (T); an iteration trains on N x T transitions. Source: arXiv:1707.06347,
    Algorithm 1 (T)."""
    batch_size: int = 256
    """Transitions per minibatch. A remainder is spread evenly over the minibatches. The default becomes N x T where
    that is less. Source: arXiv:1707.06347, Algorithm 1 (M); 37 details, core 6."""
    num_epochs: int = 10
    """Passes over the transitions of an iteration. Source: arXiv:1707.06347, Algorithm 1 (K), table 3: 10."""
    learning_rate: float = 3e-4
    """Step size of Adam. Source: arXiv:1707.06347, table 3: 3e-4."""
    learning_rate_schedule: Literal["constant", "linear"] = "constant"
    """linear: decays to 0 over the run. Source: 37 details, core 4; arXiv:1707.06347, table 5 decays it, table 3 does
    not."""
    gamma: float = 0.99
    """Discount factor. Source: arXiv:1707.06347, table 3: 0.99."""
    gae_lambda: float = 0.95
    """Bias-variance trade-off of the advantage estimate: 0 is one-step TD, 1 Monte Carlo. Source: arXiv:1506.02438, eq.
    16; arXiv:1707.06347, table 3: 0.95."""
    rho_bar: float = 1.0
    """Limit on the importance weights of V-trace, which learns from what older policies did (asynchronous runs); inf
    for none. Source: arXiv:1802.01561, eq. 1; 1 is best in its table 2."""
    c_bar: float = 1.0
    """Limit on how much V-trace's errors pass on to the steps before them; inf for none. Source: arXiv:1802.01561, eq.
    1; 1 is best in its table 2."""
    clip_range: float = 0.2
    """How far the probability ratio may move from 1 (epsilon). Source: arXiv:1707.06347, eq. 7, section 6.1: 0.2."""
    clip_range_schedule: Literal["constant", "linear"] = "constant"
    """linear: decays to 0 over the run. Source: arXiv:1707.06347, table 5 decays it for Atari."""
    clip_range_vf: float | None = None
    """Limit on the change of the value prediction per iteration; depends on the reward scale. None: no limit. Source:
    37 details, core 9: the larger of clipped and unclipped loss, as in baselines and CleanRL (Stable-Baselines3 takes
    the clipped one); None as in Stable-Baselines3."""
    normalize_advantage: bool = True
    """Shift and scale the advantages of each minibatch to mean 0 and standard deviation 1. Source: 37 details, core 7:
    per minibatch, as in baselines, CleanRL and Stable-Baselines3."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus. Source: arXiv:1707.06347, eq. 9 (c2)."""
    vf_coef: float = 0.5
    """Weight of the value loss, a plain mean square (CleanRL's vf_coef counts half of it). Source: arXiv:1707.06347,
    eq. 9 (c1); factor as in Stable-Baselines3."""
    max_grad_norm: float = 0.5
    """Limit on the global norm of the gradient; inf for none. Source: 37 details, core 11: the global norm, 0.5 as in
    baselines."""
    kl_target: float | None = None
    """Target of the approximate KL divergence between the policy before and after an update; kl_action says what it
    does. None: no target. Source: arXiv:1707.06347, section 4 (d_targ)."""
    kl_action: Literal["stop_minibatch", "stop_epoch", "adapt_lr"] = "stop_minibatch"
    """stop_minibatch: end the epochs before a minibatch whose KL exceeds 1.5 kl_target. stop_epoch: end them after an
    epoch whose last minibatch exceeds kl_target. adapt_lr: divide the learning rate by 1.5 after an iteration above
    2 kl_target, multiply it by 1.5 below kl_target / 2. Source: target_kl of Stable-Baselines3; target_kl of CleanRL;
    the adaptive schedule of rl_games and RSL-RL."""
    normalize_obs: bool = False
    """Scale observations by their running mean and standard deviation, clipped to +-10. Source: 37 details, continuous
    6 and 7."""
    normalize_reward: bool = False
    """Scale rewards by the running standard deviation of the discounted return, clipped to +-10. Source: 37 details,
    continuous 8 and 9."""
    encoder: Literal["auto", "nature", "residual", "none"] = "auto"
    """Network shared by actor and critic where observations hold images (or text, which is embedded): the Nature CNN,
    or IMPALA's residual one. auto: Nature for 36 x 36 pixels and more. none: pixels as numbers. Source: Mnih et al.,
    Nature 518, 2015; arXiv:1802.01561, figure 3; 37 details, Atari 8 and 9."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of actor and critic. Source: arXiv:1707.06347, section 6.1: two layers of 64."""
    activation: Literal["tanh", "relu", "silu", "elu"] = "tanh"
    """Activation between layers. Source: arXiv:1707.06347, section 6.1: tanh."""
    orthogonal_init: bool = True
    """Orthogonal weights (gain sqrt 2, 0.01 for the policy's output, 1 for the value's), zero biases. Source: 37
    details, core 2; arXiv:2005.12729."""
    log_std_init: float = 0.0
    """Initial log standard deviation of continuous actions; with use_sde of the noise matrix's entries (about -2).
    Source: 37 details, continuous 2: 0."""
    recurrent: Literal["none", "lstm", "gru"] = "none"
    """Memory in front of actor and critic. Minibatches then consist of sequences (see sequence_length). Source: 37
    details, LSTM 1 to 5; actor and critic apart, as sb3-contrib does by default."""
    recurrent_hidden_size: int = 64
    """Width of the recurrent layers; hidden_sizes are the layers behind them. Source: dynarl's own choice."""
    policy: str | None = None
    """Name of a registered policy (dynarl.agents.policies) in place of the networks that hidden_sizes, encoder and
    recurrent describe. Source: dynarl's own."""
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the policy, as YAML or JSON: '{size: 32}'. Source: dynarl's own."""
    sequence_length: int | None = None
    """Steps that gradients flow through the state of a policy; divides num_steps. Each sequence starts from the state
    that acting had there. None: num_steps. 1: not at all, and all rows are computed at once. Source: stored states as
    in R2D2, Kapturowski et al., ICLR 2019; None as in 37 details, LSTM 5."""
    record_paths: bool = True
    """Keep what policies written for one environment decided while acting, and let them decide the same again in
    learning, whatever the parameters have become. Source: dynarl's own: a branch is part of what was done, as the
    action is."""
    use_sde: bool = False
    """Explore Box actions by noise that depends on the state and stays the same for a while (gSDE, arXiv:2005.05719).
    Source: arXiv:2005.05719."""
    sde_sample_freq: int = -1
    """Steps of an environment after which its noise is drawn again. -1: once an iteration. Source: arXiv:2005.05719,
    section 4: the noise is drawn again every n steps."""
    adam_eps: float = 1e-5
    """Epsilon of Adam (1e-5 as in the reference implementation, not 1e-8). Source: 37 details, core 3: 1e-5 as in
    baselines."""

    def __post_init__(self) -> None:
        """Refuse impossible values, naming the numbers."""
        least_one("num_envs", "num_steps", "batch_size", "num_epochs", config=self)
        positive("learning_rate", "clip_range", "max_grad_norm", "adam_eps", "rho_bar", "c_bar", config=self)
        positive("clip_range_vf", "kl_target", config=self)
        one_of("kl_action", tuple(_KL_ACTIONS.values()), config=self)
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
        if self.kl_target is not None and self.kl_action == "adapt_lr" and self.learning_rate_schedule != "constant":
            raise ValueError(
                "kl_action: 'adapt_lr' sets the learning rate itself, so learning_rate_schedule must be 'constant', "
                f"got {self.learning_rate_schedule!r}"
            )

    @classmethod
    def migrate(cls, fields: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return fields under their current names, and one line for each that was renamed."""
        old = [name for name in _KL_ACTIONS if fields.get(name) is not None]
        if len(old) > 1:
            raise ValueError(
                f"{' and '.join(old)}: are kl_target and kl_action today, which hold one of them; "
                "keep one and remove the others"
            )
        kept = {name: value for name, value in fields.items() if name not in _KL_ACTIONS}
        named = old or [name for name in _KL_ACTIONS if list(fields) == [name]]  # one name alone asks for its new one
        kept |= {"kl_target": fields[old[0]], "kl_action": _KL_ACTIONS[old[0]]} if old else {}
        changes = [f"{name} is now called kl_target, with kl_action {_KL_ACTIONS[name]!r}" for name in named]
        if isinstance(kept.get("policy_kwargs"), dict):
            kept["policy_kwargs"], renamed = migrated_arguments(kept.get("policy"), kept["policy_kwargs"])
            changes += renamed
        return kept, changes
