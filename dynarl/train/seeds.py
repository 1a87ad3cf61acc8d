"""One configuration under several seeds, one after the other, and what they say together.

DIR/config.yaml  summary.json  seed-0/  seed-1/  ...      each seed-N is a run of its own
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynarl.config import RunConfig
from dynarl.train import training
from dynarl.train.run_directory import SUMMARY, RunDirectory, read_summary

__all__ = ["combine", "iqm", "run_seeds"]


def iqm(scores: Any) -> float:
    """Return the interquartile mean: what is left after cutting a quarter of the scores off either end.

    As rliable's (arXiv:2108.13264, section 4.3): all runs (and tasks) together, `int(0.25 n)` scores off each
    end, so that fewer than 4 give the plain mean. Raises ValueError for no scores.
    """
    values = np.sort(np.asarray(scores, np.float64), axis=None)
    if not len(values):
        raise ValueError("iqm: needs at least one score, got 0")
    cut = int(0.25 * len(values))
    return float(values[cut : len(values) - cut].mean())


def combine(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the summary of several runs of one configuration.

    Each run counts with its mean return in the final evaluation: `eval_mean`, `eval_std` (over seeds,
    ddof 1), `eval_iqm`, `eval_min`, `eval_max` are None where a run has none.
    """
    first = summaries[0]
    scores = [summary["eval_mean"] for summary in summaries]
    known = all(score is not None for score in scores)
    return {
        "env_id": first["env_id"],
        "algo": first["algo"],
        "num_seeds": len(summaries),
        "seeds": [summary["seed"] for summary in summaries],
        "eval_mean": float(np.mean(scores)) if known else None,
        "eval_std": (float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0) if known else None,
        "eval_iqm": iqm(scores) if known else None,
        "eval_min": float(min(scores)) if known else None,
        "eval_max": float(max(scores)) if known else None,
        "eval_episodes": first["eval_episodes"],
        "env_steps": sum(summary["env_steps"] for summary in summaries),
        "wall_time_s": math.fsum(summary["wall_time_s"] for summary in summaries),
        "train_time_s": math.fsum(summary["train_time_s"] for summary in summaries),
        "runs": [dict(summary) for summary in summaries],
    }


def run_seeds(
    agent_cls: Any, config: RunConfig, agent_config: Any = None, *, command: Callable[[Path], str] | None = None
) -> dict[str, Any]:
    """Run `config.num_seeds` seeds from `config.seed` on in this process and return the combined summary.

    With `config.resume`, finished seeds are kept, an unfinished one continues, the rest begins. A signal
    ends the seed at hand and all that would follow: what is returned then is that run's own summary.
    """
    path = Path(config.run_dir or training.default_run_dir(config, agent_cls.algorithm))
    command = command or (lambda directory: f"run_seeds(..., RunConfig(run_dir={str(directory)!r}, resume=True))")
    summaries = []
    with RunDirectory(path, resume=config.resume) as directory:
        directory.write_config(training.resolved(config, agent_config or agent_cls.config_class()))
        for seed in range(config.seed, config.seed + config.num_seeds):
            place = directory.path / f"seed-{seed}"
            summary = read_summary(place)
            longer = summary and summary["stopped_by"] == "total_steps" and summary["env_steps"] < config.total_steps
            if summary is None or longer:
                begun = (place / "config.yaml").is_file()
                one = dataclasses.replace(config, seed=seed, num_seeds=1, run_dir=str(place), resume=begun)
                summary = training.run(agent_cls, one, agent_config, command=lambda _: command(directory.path))
                if not (place / SUMMARY).is_file():
                    return summary
            summaries.append(summary)
        combined = combine(summaries)
        combined |= {"run_dir": str(directory.path), "stopped_by": "all seeds done"}
        directory.write_summary(combined)
    if combined["eval_mean"] is not None:
        print(
            f"{combined['env_id']}: mean return {combined['eval_mean']:.1f} ± {combined['eval_std']:.1f} over "
            f"{len(summaries)} seeds, interquartile mean {combined['eval_iqm']:.1f}; {directory.path}",
            flush=True,
        )
    return combined
