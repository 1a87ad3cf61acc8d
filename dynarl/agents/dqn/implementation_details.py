"""Implementation details of DQN that are no options, as `DQN.explain` lists them.

"Nature" is Mnih et al., Nature 518, 2015 with its Extended Data Table 1; "Rainbow" is arXiv:1710.02298.
"""

from __future__ import annotations

from dynarl.agents.dqn.config import DQNConfig
from dynarl.agents.dqn.q_distribution import make_q_distribution
from dynarl.agents.explain import Fact
from dynarl.agents.off_policy.agent import REPLAY_DETAIL

__all__ = ["IMPLEMENTATION_DETAILS"]


def _target(config: DQNConfig) -> str:
    chooser = "Q" if config.double else "Q'"
    return f"y = r + gamma^k Q'(s', argmax_a {chooser}(s', a))"


IMPLEMENTATION_DETAILS = (
    Fact(
        "td_target",
        lambda agent: _target(agent.config),
        "r sums k rewards; the second term is absent where s' is terminal.",
        "Nature, Algorithm 1",
    ),
    Fact(
        "loss",
        lambda agent: make_q_distribution(agent.config).loss_formula,
        "w are the importance weights of prioritised replay, else 1.",
        "Nature, Methods (error clipping)",
    ),
    Fact(
        "exploration",
        lambda agent: "noise on the weights" if agent.config.noisy else "epsilon-greedy",
        "After learning_starts.",
        "Nature, Algorithm 1; arXiv:1706.10295, section 3",
    ),
    Fact(
        "before learning_starts",
        "uniformly random actions",
        "Among those that a mask allows.",
        "Nature, Extended Data Table 1",
    ),
    Fact(
        "ratio of updates to data",
        lambda agent: agent.config.gradient_steps / agent.config.train_freq,
        "Gradient steps per environment step, for any number of environments.",
        "",
    ),
    Fact(
        "n-step returns",
        "stop at the end of an episode and at the newest transition",
        "The bootstrap is discounted by the number of rewards that were summed.",
        "Rainbow, multi-step learning",
    ),
    REPLAY_DETAIL,
    Fact(
        "priorities",
        lambda agent: make_q_distribution(agent.config).td_error_formula,
        "With prioritised replay; new transitions get the largest so far, weights are divided by the batch's largest.",
        "arXiv:1511.05952, sections 3.3 and 3.4; Rainbow",
    ),
    Fact(
        "dueling streams",
        "Q = V + A - mean_a A",
        "The last hidden layer is split in two.",
        "arXiv:1511.06581, eq. 9",
    ),
    Fact(
        "noise of noisy layers",
        "new for every update of each network, and for every step; none in evaluation",
        "One draw for all rows of a batch; sigma starts at 0.5 / sqrt(inputs).",
        "arXiv:1706.10295, sections 3.1 and 3.2",
    ),
    Fact(
        "action masks",
        "forbidden actions are neither drawn nor the argmax, also in the bootstrap",
        "The replay stores the masks where the environment gives any.",
        "",
    ),
)
