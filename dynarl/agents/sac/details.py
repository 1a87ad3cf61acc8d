"""Where SAC's details come from.

"SAC" is arXiv:1812.05905 with its table 1, "discrete SAC" is arXiv:1910.07207, "gSDE" is arXiv:2005.05719.
"""

from __future__ import annotations

from typing import Any

from dynarl.agents.explain import Fact
from dynarl.agents.off_policy.details import REPLAY

__all__ = ["FACTS", "SOURCES"]

SOURCES = {
    "num_envs": "SAC: one environment; more are stepped together as in Stable-Baselines3",
    "buffer_size": "SAC, table 1: 1e6",
    "batch_size": "SAC, table 1: 256",
    "fragment_steps": "dynarl's own choice",
    "learning_starts": "Stable-Baselines3: 100",
    "train_freq": "SAC, Algorithm 1: one step",
    "gradient_steps": "SAC, table 1: 1",
    "learning_rate": "SAC, table 1: Adam with 3e-4",
    "gamma": "SAC, table 1: 0.99",
    "n_step": "SAC: 1; more rewards as in arXiv:1710.02298, multi-step learning",
    "tau": "SAC, table 1: 0.005",
    "target_update_interval": "SAC, table 1: 1",
    "alpha": "SAC, section 5: learned; a fixed one as in arXiv:1801.01290",
    "alpha_init": "Stable-Baselines3: 1",
    "target_entropy": "SAC, table 1: -dim(A)",
    "target_entropy_scale": "discrete SAC, appendix: 0.98 of the largest entropy",
    "num_critics": "SAC, section 6: two (the smaller counts, arXiv:1802.09477); more as in arXiv:2101.05982",
    "encoder": "Mnih et al., Nature 518, 2015; arXiv:1802.01561, figure 3",
    "share_encoder": "off as in Stable-Baselines3 (share_features_extractor); on: arXiv:1910.01741",
    "hidden_sizes": "SAC, table 1: two layers of 256",
    "activation": "SAC, table 1: ReLU",
    "log_std_min": "the authors' code and Stable-Baselines3: -20",
    "log_std_max": "the authors' code and Stable-Baselines3: 2",
    "use_sde": "gSDE",
    "sde_sample_freq": "gSDE, section 4: the noise is drawn anew every n steps",
    "log_std_init": "Stable-Baselines3: -3",
    "sde_clip_mean": "Stable-Baselines3: 2",
    "sequence_length": "R2D2, Kapturowski et al., ICLR 2019: stored states; there 80 steps",
    "burn_in": "R2D2, section 3: there 40 steps, or 0",
}


def _only(kind: str, text: str) -> Any:
    return lambda agent: text if agent.discrete == (kind == "Discrete") else f"only of {kind} actions"


def _encoders(agent: Any) -> str:
    if agent.critics.features is None:
        return "none: observations are numbers"
    return "one, trained by the critics' loss" if agent.config.share_encoder else "one of the actor, one of the critics"


FACTS = (
    Fact(
        "td_target",
        "y = r + gamma^k (min_i Q'_i(s', a') - alpha log pi(a'|s')), a' ~ pi",
        "Over Discrete actions the expectation is summed; only r where s' is terminal.",
        "SAC, eq. 2 and 3; discrete SAC, eq. 10",
    ),
    Fact("critic loss", "sum_i 1/2 mean((Q_i(s, a) - y)^2)", "One loss for all critics.", "SAC, eq. 5"),
    Fact(
        "actor loss",
        "mean(alpha log pi(a|s) - min_i Q_i(s, a)), a ~ pi",
        "Reparametrised; over Discrete actions the expectation. The critics' weights get no gradient.",
        "SAC, eq. 7 and 9; discrete SAC, eq. 12",
    ),
    Fact(
        "temperature loss",
        lambda agent: "none: alpha is fixed" if agent.config.alpha else "-log alpha (log pi(a|s) + target entropy)",
        "Its gradient is by log alpha, as in the authors' code and Stable-Baselines3; eq. 18 has alpha.",
        "SAC, eq. 18",
    ),
    Fact(
        "target entropy",
        lambda agent: agent.target_entropy,
        "In nats; under action masks a share of the mean of log(number of allowed actions).",
        "SAC, table 1; discrete SAC, appendix",
    ),
    Fact(
        "order of an update",
        "critics, actor, temperature, target critics",
        "The actor sees the critics after their step; all losses take alpha as it was before.",
        "SAC, Algorithm 1",
    ),
    Fact(
        "log-probability of Box actions",
        _only("Box", "exact: log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u))"),
        "From u, before tanh: no small constant, also where tanh(u) rounds to 1.",
        "SAC, appendix C",
    ),
    Fact(
        "scale of Box actions",
        _only("Box", "density in [-1, 1], scaled to the bounds outside it"),
        "So that the target entropy means the same for all bounds.",
        "Stable-Baselines3",
    ),
    Fact("before learning_starts", "uniformly random actions", "Those that a mask allows.", "Stable-Baselines3"),
    Fact(
        "deterministic action",
        "tanh(mean), or the most probable action",
        "What evaluation plays unless asked otherwise.",
        "",
    ),
    Fact(
        "ratio of updates to data",
        lambda agent: agent.config.gradient_steps / agent.config.train_freq,
        "Gradient steps per environment step, for any number of environments.",
        "SAC, Algorithm 1",
    ),
    Fact("encoders", _encoders, "Networks before actor and critics; the critics share one.", "Stable-Baselines3"),
    REPLAY,
    Fact(
        "action masks",
        _only("Discrete", "forbidden actions have probability 0, in policy, entropy and soft value"),
        "Replay keeps the masks where the environment gives any.",
        "arXiv:2006.14171",
    ),
)
