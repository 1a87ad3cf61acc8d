"""What a setting that is given on load or resume does to the state that a checkpoint holds.

`EFFECTS` has one entry for each field of every agent's config. A change either takes effect or is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from dynarl.config import ConfigError, from_mapping
from dynarl.optim import Optimizer

__all__ = ["EFFECTS", "Effect", "affected", "apply_to_optimizers", "changed_settings", "refuse_fixed"]


class Effect(Enum):
    """What a changed field does to the stored state."""

    USED = "the next iteration reads it; no stored state depends on it"
    OPTIMIZER = "the optimisers' groups get the new value, their moments continue"
    ENVIRONMENTS = "the environments begin new episodes; a replay carries its newest transitions over"
    REPLAY = "the replay carries its newest transitions over, with new priorities"
    RATIO = "the ratio of updates to data holds from now on"
    STATISTICS = (
        "statistics that the checkpoint lacks start empty; statistics of rewards can be dropped, those of inputs cannot"
    )
    NETWORKS = "the stored networks have learned with the old value"
    INITIAL = "it describes the beginning of training"


_U, _O, _N, _I = Effect.USED, Effect.OPTIMIZER, Effect.NETWORKS, Effect.INITIAL

EFFECTS: Mapping[str, Effect] = {
    # environments and data
    "num_envs": Effect.ENVIRONMENTS, "num_steps": _U, "fragment_steps": _U, "sequence_length": _U, "burn_in": _U,
    "record_paths": _U, "buffer_size": Effect.REPLAY, "prioritized": Effect.REPLAY, "per_alpha": Effect.REPLAY,
    "per_beta": _U, "per_beta_steps": _U, "n_step": _U, "normalize_obs": Effect.STATISTICS,
    "normalize_reward": Effect.STATISTICS,
    # when and how often
    "batch_size": _U, "num_epochs": _U, "learning_starts": Effect.RATIO, "train_freq": Effect.RATIO,
    "gradient_steps": Effect.RATIO, "target_update_interval": _U, "tau": _U,
    # step sizes
    "learning_rate": _O, "learning_rate_schedule": _O, "kl_target": _O, "kl_action": _O, "adam_eps": _O,
    "max_grad_norm": _U,
    # losses
    "gamma": _U, "gae_lambda": _U, "rho_bar": _U, "c_bar": _U, "clip_range": _U, "clip_range_schedule": _U,
    "clip_range_vf": _U, "normalize_advantage": _U, "ent_coef": _U, "vf_coef": _U, "double": _U,
    "alpha": _U, "target_entropy": _U, "target_entropy_scale": _U,
    # exploration
    "epsilon_initial": _U, "epsilon_final": _U, "epsilon_steps": _U, "epsilon_alpha": _U, "sde_sample_freq": _U,
    "sde_clip_mean": _U, "log_std_min": _U, "log_std_max": _U, "use_sde": _N, "noisy": _N,
    # networks
    "encoder": _N, "share_encoder": _N, "hidden_sizes": _N, "activation": _N, "recurrent": _N,
    "recurrent_hidden_size": _N, "policy": _N, "policy_kwargs": _N, "dueling": _N, "distributional": _N,
    "num_atoms": _N, "v_min": _N, "v_max": _N, "num_quantiles": _N, "num_critics": _N,
    "orthogonal_init": _I, "log_std_init": _I, "alpha_init": _I,
}  # fmt: skip


def affected(changes: Iterable[str], effect: Effect) -> set[str]:
    """Return the changed fields that have an effect."""
    return {name for name in changes if EFFECTS[name] is effect}


def changed_settings(stored: Mapping[str, Any], config: Any) -> dict[str, tuple[Any, Any]]:
    """Return {field: (stored value, value of `config`)} of the fields that differ.

    `stored` is the config of a checkpoint, in which fields of later versions are missing: they had their defaults.
    """
    before = type(config)(**from_mapping(type(config), stored, source="the checkpoint"))
    pairs = {f.name: (getattr(before, f.name), getattr(config, f.name)) for f in dataclasses.fields(config)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def refuse_fixed(changes: Mapping[str, tuple[Any, Any]], where: str) -> None:
    """Raise ConfigError for changes that a stored agent cannot take."""
    for name, (before, after) in changes.items():
        effect = EFFECTS[name]
        if name == "normalize_obs" and before:  # the networks would see inputs of another scale
            effect = Effect.NETWORKS
        if effect in (Effect.NETWORKS, Effect.INITIAL):
            raise ConfigError(
                f"{where}: {name} of the stored agent is {before!r} and cannot become {after!r}, because "
                f"{effect.value}; leave it out, or train another agent"
            )


def apply_to_optimizers(changes: Iterable[str], learner: Any, config: Any) -> None:
    """Give the optimisers of a learner the step size and epsilon of its config, where those were changed."""
    values, changed = {}, affected(changes, Effect.OPTIMIZER)
    if changed - {"adam_eps"}:
        values["lr"] = config.learning_rate
    if "adam_eps" in changed:
        values["eps"] = config.adam_eps
    for optimizer in vars(learner).values():
        for group in optimizer.param_groups if isinstance(optimizer, Optimizer) else ():
            group.update(values)
