"""Implementation details of PPO that are no options, as `PPO.explain` lists them.

"37 details" is Huang et al., The 37 implementation details of proximal policy optimization, ICLR blog
track 2022; "baselines" is OpenAI's ppo2.
"""

from __future__ import annotations

from dynarl.agents.explain import Fact

__all__ = ["IMPLEMENTATION_DETAILS"]

_PAPER = "arXiv:1707.06347"

IMPLEMENTATION_DETAILS = (
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
        "clipped for the environment only",
        "The unclipped action is stored, and its log-probability enters the ratio.",
        "37 details, continuous 5",
    ),
    Fact(
        "end of a fragment",
        "bootstraps and cuts the recursion",
        "Episodes continue in the next fragment.",
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
