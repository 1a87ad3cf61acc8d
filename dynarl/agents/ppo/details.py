"""Where PPO's details come from.

"37 details" is Huang et al., The 37 implementation details of proximal policy optimization, ICLR blog
track 2022; "baselines" is OpenAI's ppo2.
"""

from __future__ import annotations

from dynarl.agents.explain import Fact

__all__ = ["FACTS", "SOURCES"]

_PAPER = "arXiv:1707.06347"

SOURCES = {
    "num_envs": "37 details, core 1 (vectorised architecture)",
    "num_steps": f"{_PAPER}, Algorithm 1 (T)",
    "batch_size": f"{_PAPER}, Algorithm 1 (M); 37 details, core 6",
    "num_epochs": f"{_PAPER}, Algorithm 1 (K), table 3: 10",
    "learning_rate": f"{_PAPER}, table 3: 3e-4",
    "learning_rate_schedule": f"37 details, core 4; {_PAPER}, table 5 decays it, table 3 does not",
    "gamma": f"{_PAPER}, table 3: 0.99",
    "gae_lambda": f"arXiv:1506.02438, eq. 16; {_PAPER}, table 3: 0.95",
    "rho_bar": "arXiv:1802.01561, eq. 1; 1 is best in its table 2",
    "c_bar": "arXiv:1802.01561, eq. 1; 1 is best in its table 2",
    "clip_range": f"{_PAPER}, eq. 7, section 6.1: 0.2",
    "clip_range_schedule": f"{_PAPER}, table 5 decays it for Atari",
    "clip_range_vf": "37 details, core 9: the larger of clipped and unclipped loss, as in baselines and CleanRL "
    "(Stable-Baselines3 takes the clipped one); None as in Stable-Baselines3",
    "normalize_advantage": "37 details, core 7: per minibatch, as in baselines, CleanRL and Stable-Baselines3",
    "ent_coef": f"{_PAPER}, eq. 9 (c2)",
    "vf_coef": f"{_PAPER}, eq. 9 (c1); factor as in Stable-Baselines3",
    "max_grad_norm": "37 details, core 11: the global norm, 0.5 as in baselines",
    "kl_stop_minibatch": "Stable-Baselines3 ppo.py, target_kl",
    "kl_stop_epoch": "CleanRL ppo.py, target_kl; Spinning Up stops alike",
    "kl_adaptive_lr": "the adaptive schedule of rl_games and RSL-RL, after the adaptive penalty of "
    f"{_PAPER}, section 4",
    "normalize_obs": "37 details, continuous 6 and 7",
    "normalize_reward": "37 details, continuous 8 and 9",
    "encoder": "Mnih et al., Nature 518, 2015; arXiv:1802.01561, figure 3; 37 details, Atari 8 and 9",
    "hidden_sizes": f"{_PAPER}, section 6.1: two layers of 64",
    "activation": f"{_PAPER}, section 6.1: tanh",
    "recurrent": "37 details, LSTM 1 to 5; actor and critic apart, as sb3-contrib does by default",
    "recurrent_hidden_size": "dynarl's own choice",
    "policy": "dynarl's own",
    "policy_kwargs": "dynarl's own",
    "sequence_length": "stored states as in R2D2, Kapturowski et al., ICLR 2019; None as in 37 details, LSTM 5",
    "record_paths": "dynarl's own: a branch is part of what was done, as the action is",
    "orthogonal_init": "37 details, core 2; arXiv:2005.12729",
    "log_std_init": "37 details, continuous 2: 0",
    "use_sde": "arXiv:2005.05719",
    "sde_sample_freq": "arXiv:2005.05719, section 4: the noise is drawn anew every n steps",
    "adam_eps": "37 details, core 3: 1e-5 as in baselines",
}

FACTS = (
    Fact(
        "objective",
        "mean(min(ratio A, clip(ratio, 1 - eps, 1 + eps) A))",
        "The clipped surrogate, maximised.",
        f"{_PAPER}, eq. 7",
    ),
    Fact("value loss", "mean((V - R)^2)", "A plain mean square; CleanRL halves it.", f"{_PAPER}, eq. 9"),
    Fact(
        "networks of actor and critic",
        lambda agent: "shared features" if getattr(agent.policy, "features", None) is not None else "separate",
        "Whether actor and critic share layers.",
        "37 details, core 13",
    ),
    Fact(
        "standard deviation of Box actions",
        "one parameter per dimension, the same in every state",
        "exp(log_std), independent dimensions.",
        "37 details, continuous 2 and 3",
    ),
    Fact(
        "Box actions",
        "clipped for the environment alone",
        "What is stored and whose log-probability counts is the unclipped action.",
        "37 details, continuous 5",
    ),
    Fact(
        "end of a fragment",
        "bootstraps and cuts the recursion",
        "Episodes go on in the next fragment.",
        "37 details, core 1; arXiv:1506.02438, eq. 16",
    ),
    Fact(
        "minibatches",
        "a permutation of all valid transitions, split evenly",
        "Sizes differ by 1 at most, so that none is too small to be normalised.",
        "37 details, core 6",
    ),
    Fact(
        "advantage normalisation",
        "(A - mean) / (std + 1e-8), std with n - 1",
        "As PyTorch's std, on which CleanRL and Stable-Baselines3 rely; baselines divides by n.",
        "37 details, core 7",
    ),
    Fact("approximate KL", "mean(ratio - 1 - log ratio)", "Unbiased and never negative.", "37 details, core 12 (k3)"),
    Fact(
        "running statistics",
        "updated after learning on a fragment",
        "Acting and learning see one scale. Frozen in evaluation, saved with the agent.",
        "",
    ),
    Fact("entropy bonus", "over the whole minibatch", "The mean of H(pi(s)).", f"{_PAPER}, eq. 9"),
)
