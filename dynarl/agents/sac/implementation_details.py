"""Implementation details of SAC that are no options, as `SAC.explain` lists them.

"SAC" is arXiv:1812.05905 with its table 1, "discrete SAC" is arXiv:1910.07207.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gymnasium import spaces

from dynarl.agents.explain import Fact
from dynarl.agents.off_policy.agent import REPLAY_DETAIL
from dynarl.agents.sac.config import SACConfig
from dynarl.agents.sac.critics import Critics

__all__ = ["IMPLEMENTATION_DETAILS"]


def _only(space: type[spaces.Space[Any]], text: str) -> Callable[[Any], str]:
    """Return a value for agents with actions of a space."""
    return lambda agent: text if isinstance(agent.action_space, space) else f"only of {space.__name__} actions"


def _encoders(critics: Critics, config: SACConfig) -> str:
    if critics.features is None:
        return "none: observations are numbers"
    shared, own = "one, trained by the critics' loss", "one of the actor, one of the critics"
    return shared if config.share_encoder else own


IMPLEMENTATION_DETAILS = (
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
        lambda agent: agent.learner.objective.target_entropy(),
        "In nats; under action masks a share of the mean of log(number of allowed actions).",
        "SAC, table 1; discrete SAC, appendix",
    ),
    Fact(
        "order of an update",
        "critics, actor, temperature, target critics",
        "The actor is updated with the critics after their step; all losses use alpha from before the update.",
        "SAC, Algorithm 1",
    ),
    Fact(
        "log-probability of Box actions",
        _only(spaces.Box, "exact: log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u))"),
        "From u, before tanh: no epsilon is needed, also where tanh(u) rounds to 1.",
        "SAC, appendix C",
    ),
    Fact(
        "scale of Box actions",
        _only(spaces.Box, "density in [-1, 1], bounds are applied outside it"),
        "The target entropy then means the same for all bounds.",
        "Stable-Baselines3",
    ),
    Fact("before learning_starts", "uniformly random actions", "Among those that a mask allows.", "Stable-Baselines3"),
    Fact(
        "deterministic action",
        "tanh(mean), or the most probable action",
        "The default of evaluation.",
        "",
    ),
    Fact(
        "ratio of updates to data",
        lambda agent: agent.config.gradient_steps / agent.config.train_freq,
        "Gradient steps per environment step, for any number of environments.",
        "SAC, Algorithm 1",
    ),
    Fact(
        "encoders",
        lambda agent: _encoders(agent.critics, agent.config),
        "Networks in front of actor and critics; the critics share one.",
        "Stable-Baselines3",
    ),
    REPLAY_DETAIL,
    Fact(
        "action masks",
        _only(spaces.Discrete, "forbidden actions have probability 0, in policy, entropy and soft value"),
        "The replay stores the masks where the environment gives any.",
        "arXiv:2006.14171",
    ),
)
