"""Where DQN's details come from.

"Nature" is Mnih et al., Nature 518, 2015 with its Extended Data Table 1; "Rainbow" is arXiv:1710.02298 with
its table 1.
"""

from __future__ import annotations

from typing import Any

from dynarl.agents.explain import Fact
from dynarl.agents.off_policy.details import REPLAY

__all__ = ["FACTS", "SOURCES"]

SOURCES = {
    "num_envs": "one environment as in Nature; more are stepped together as in Stable-Baselines3",
    "learning_rate": "Stable-Baselines3: Adam with 1e-4 (Nature: RMSProp with 2.5e-4; Rainbow: 6.25e-5)",
    "adam_eps": "arXiv:1412.6980: 1e-8 (Rainbow: 1.5e-4)",
    "batch_size": "Nature and Rainbow: 32",
    "buffer_size": "Nature and Rainbow: 1,000,000, for Atari; smaller problems do with less",
    "learning_starts": "Nature: 50,000 and Rainbow: 20,000, for Atari; smaller problems do with less",
    "train_freq": "Nature and Rainbow: 4",
    "gradient_steps": "Nature, Algorithm 1: one",
    "target_update_interval": "Nature: 10,000, there counted in updates; in steps as in Stable-Baselines3",
    "tau": "Nature, Algorithm 1: a copy; averaging as in arXiv:1509.02971, section 3",
    "gamma": "Nature and Rainbow: 0.99",
    "n_step": "Rainbow, multi-step learning (there 3); 1 as in Nature",
    "epsilon_initial": "Nature: 1",
    "epsilon_final": "Stable-Baselines3: 0.05 (Nature: 0.1)",
    "epsilon_steps": "Nature: 1,000,000 frames, for Atari; smaller problems do with less",
    "epsilon_alpha": "Ape-X, arXiv:1803.00933, section 4.1: 7, with epsilon 0.4 throughout; 0 as in Nature",
    "fragment_steps": "Ape-X, arXiv:1803.00933, section 4.1 sends 50 at a time",
    "max_grad_norm": "Stable-Baselines3 and arXiv:1511.06581, section 4.2: 10",
    "encoder": "Nature; arXiv:1802.01561, figure 3",
    "hidden_sizes": "Stable-Baselines3: two layers of 64 (Nature, behind the convolutions: one of 512)",
    "activation": "Nature: ReLU",
    "double": "arXiv:1509.06461, eq. 4",
    "dueling": "arXiv:1511.06581, eq. 9",
    "prioritized": "arXiv:1511.05952, section 3.3, proportional",
    "per_alpha": "arXiv:1511.05952, table 3: 0.6 (Rainbow: 0.5)",
    "per_beta": "arXiv:1511.05952, table 3, and Rainbow: from 0.4 to 1",
    "per_beta_steps": "arXiv:1511.05952, section 3.4 anneals over the whole training; here its length is given",
    "noisy": "arXiv:1706.10295, eq. 9 to 11, factorised",
    "distributional": "c51: arXiv:1707.06887, Algorithm 1; qr: arXiv:1710.10044, Algorithm 1",
    "num_atoms": "arXiv:1707.06887, section 5, and Rainbow: 51",
    "v_min": "arXiv:1707.06887, section 5, and Rainbow: -10, for clipped rewards of Atari",
    "v_max": "arXiv:1707.06887, section 5, and Rainbow: 10, for clipped rewards of Atari",
    "num_quantiles": "dynarl's own choice, for speed (arXiv:1710.10044, section 5: 200)",
    "sequence_length": "R2D2, Kapturowski et al., ICLR 2019: stored states; there 80 steps",
    "burn_in": "R2D2, section 3: there 40 steps, or 0",
}


def _loss(agent: Any) -> str:
    return {
        "none": "mean(w h(Q(s, a) - y)), h the Huber function with delta 1",
        "c51": "mean(w cross-entropy of y projected onto the support and p(s, a))",
        "qr": "mean(w sum_i mean_j |tau_i - 1{d_ij < 0}| h(d_ij)), h the Huber function with delta 1",
    }[agent.config.distributional]


def _target(agent: Any) -> str:
    chooser = "Q" if agent.config.double else "Q'"
    return f"y = r + gamma^k Q'(s', argmax_a {chooser}(s', a))"


def _exploration(agent: Any) -> str:
    return "noise on the weights" if agent.config.noisy else "epsilon-greedy"


FACTS = (
    Fact(
        "td_target",
        _target,
        "k rewards are summed in r; without the second term where s' is terminal.",
        "Nature, Algorithm 1",
    ),
    Fact(
        "loss", _loss, "w are the importance weights of prioritised replay, else 1.", "Nature, Methods (error clipping)"
    ),
    Fact("exploration", _exploration, "After learning_starts.", "Nature, Algorithm 1; arXiv:1706.10295, section 3"),
    Fact(
        "before learning_starts",
        "uniformly random actions",
        "Those that a mask allows.",
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
        "The bootstrap is discounted by the number of rewards really summed.",
        "Rainbow, multi-step learning",
    ),
    REPLAY,
    Fact(
        "priorities",
        lambda agent: {"none": "|Q - y|", "c51": "KL(y, p(s, a))", "qr": "|mean of Q - mean of y|"}[
            agent.config.distributional
        ],
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
        "forbidden actions are neither drawn nor the argmax, in the bootstrap alike",
        "Replay keeps the masks where the environment gives any.",
        "",
    ),
)
