"""Hyperparameters and arguments of other libraries whose name differs here.

One table for each library: the error for an unknown field reads it, and the documentation shows it.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import NamedTuple

__all__ = ["LEARN_ARGUMENTS", "OTHER_NAMES", "OtherName", "hint", "policy_hint"]


class OtherName(NamedTuple):
    """The field for a name of another library: the first of `fields` that the configuration has.

    `note` says how the value differs. `elsewhere` is the place of a setting that the configuration has no field for.
    """

    fields: tuple[str, ...]
    note: str = ""
    elsewhere: str = ""


_LOGS = "runs of dynarl.train.run and of the command dynarl log and print by themselves"
_FRACTION = "environment steps: the fraction times total_steps"

OTHER_NAMES: dict[str, dict[str, OtherName]] = {
    "Stable-Baselines3": {
        "n_steps": OtherName(("num_steps", "n_step")),
        "n_epochs": OtherName(("num_epochs",)),
        "n_envs": OtherName(("num_envs",)),
        "total_timesteps": OtherName(("total_steps",), elsewhere="it is the argument of learn: agent.learn(100_000)"),
        "n_timesteps": OtherName(("total_steps",), elsewhere="it is the argument of learn: agent.learn(100_000)"),
        "env": OtherName(("env_id",)),
        "target_kl": OtherName(("kl_target",), 'with kl_action="stop_minibatch"'),
        "normalize": OtherName(("normalize_obs",), "and normalize_reward"),
        "net_arch": OtherName(("hidden_sizes",)),
        "activation_fn": OtherName(("activation",), "a name: tanh or relu"),
        "ortho_init": OtherName(("orthogonal_init",)),
        "lstm_hidden_size": OtherName(("recurrent_hidden_size",), 'with recurrent="lstm"'),
        "features_extractor_class": OtherName((), elsewhere="it is the argument features= of the agent"),
        "share_features_extractor": OtherName(("share_encoder",)),
        "exploration_fraction": OtherName(("epsilon_steps",), _FRACTION),
        "exploration_initial_eps": OtherName(("epsilon_initial",)),
        "exploration_final_eps": OtherName(("epsilon_final",)),
        "n_quantiles": OtherName(("num_quantiles",)),
        "n_critics": OtherName(("num_critics",)),
        "ent_coef": OtherName(("alpha",), "None, the default, learns it as 'auto' does, from alpha_init"),
        "tensorboard_log": OtherName(("run_dir",), "with tensorboard", elsewhere=_LOGS),
        "verbose": OtherName(("progress",), elsewhere=_LOGS),
        "log_interval": OtherName(("log_every",), "environment steps", elsewhere=_LOGS),
        "eval_freq": OtherName(("eval_every",), "environment steps, summed over the environments"),
        "save_freq": OtherName(("checkpoint_every",), "environment steps, summed over the environments"),
    },
    "CleanRL": {
        "total_timesteps": OtherName(("total_steps",), elsewhere="it is the argument of learn: agent.learn(100_000)"),
        "lr": OtherName(("learning_rate",)),
        "anneal_lr": OtherName(("learning_rate_schedule",), '"linear" for anneal_lr=True, "constant" else'),
        "num_minibatches": OtherName(("batch_size",), "num_envs * num_steps / num_minibatches"),
        "update_epochs": OtherName(("num_epochs",)),
        "norm_adv": OtherName(("normalize_advantage",)),
        "clip_coef": OtherName(("clip_range",)),
        "clip_vloss": OtherName(("clip_range_vf",), "a number: that of clip_range for clip_vloss=True"),
        "target_kl": OtherName(("kl_target",), 'with kl_action="stop_epoch"'),
        "start_e": OtherName(("epsilon_initial",)),
        "end_e": OtherName(("epsilon_final",)),
        "exploration_fraction": OtherName(("epsilon_steps",), _FRACTION),
        "target_network_frequency": OtherName(("target_update_interval",)),
        "train_frequency": OtherName(("train_freq",)),
        "n_atoms": OtherName(("num_atoms",)),
        "policy_lr": OtherName(("learning_rate",), "one for actor and critics"),
        "q_lr": OtherName(("learning_rate",), "one for actor and critics"),
        "autotune": OtherName(("alpha",), "None, the default, learns it; a number is kept"),
        "exp_name": OtherName(("run_dir",), elsewhere=_LOGS),
        "cuda": OtherName(("device",), '"cuda"', elsewhere='it is the argument device="cuda" of the agent'),
        "capture_video": OtherName(("video_every",), "environment steps", elsewhere=_LOGS),
        "track": OtherName(("tensorboard",), elsewhere=_LOGS),
    },
}
"""{library: {its name: the name here}}; names that are the same are left out."""

LEARN_ARGUMENTS = {
    "total_timesteps": "called total_steps here: learn(100_000)",
    "callback": "called callbacks here",
    "progress_bar": f"not an argument: {_LOGS}",
    "log_interval": f"not an argument: {_LOGS}",
    "tb_log_name": f"not an argument: {_LOGS}",
    "reset_num_timesteps": "not an argument: learn continues to count",
}
"""Arguments of Stable-Baselines3's `learn`."""


def hint(name: str, known: Container[str]) -> str | None:
    """Return what another library's hyperparameter is called here, None for a name that none of them has.

    `known` are the fields of the configuration.
    """
    elsewhere = None
    for library, names in OTHER_NAMES.items():
        if name in names:
            other = names[name]
            for field in other.fields:
                if field in known:
                    note = f" ({other.note})" if other.note else ""
                    return f"{library}'s {name} is {field} here{note}"
            elsewhere = elsewhere or other.elsewhere
    return elsewhere or None


def policy_hint(policy: object) -> str | None:
    """Return what stands for a policy of Stable-Baselines3 such as "MlpPolicy" here, None for anything else."""
    if not isinstance(policy, str) or not re.fullmatch(r"(Mlp|Cnn|MultiInput)(Lstm)?Policy", policy):
        return None
    memory = ' and recurrent="lstm" gives it a memory' if "Lstm" in policy else ""
    return f"the observation space chooses the network here{memory}; leave {policy!r} out"
