"""The results of a run and of several seeds: summary.json and the lines that are printed at the end."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["SUMMARY", "combine", "combined_in_words", "in_words", "iqm", "read_summary"]

SUMMARY = "summary.json"


def read_summary(run_dir: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return a run's summary.json, None where the run has not ended."""
    path = Path(run_dir) / SUMMARY
    return dict(json.loads(path.read_text())) if path.is_file() else None


def in_words(summary: Mapping[str, Any], goal: float | None) -> str:
    """Return the result of a run as one line; `goal` is its stop_at_return."""
    env_id, path = summary["env_id"], Path(summary["run_dir"]) / SUMMARY
    training = f"after {summary['env_steps']:,} env steps and {summary['train_time_s']:.1f} s of training"
    if summary["eval_mean"] is None:
        return f"{env_id}: done {training} (eval_episodes is 0: no evaluation); {path}"
    reached = (
        "" if goal is None else f"; the goal of {goal:g} is {'' if summary['eval_mean'] >= goal else 'not '}reached"
    )
    return (
        f"{env_id}: mean return {summary['eval_mean']:.1f} ± {summary['eval_std']:.1f} over "
        f"{summary['eval_episodes']} deterministic episodes {training}{reached}; {path}"
    )


def iqm(scores: Any) -> float:
    """Return the interquartile mean: the mean of the scores without the lowest and the highest quarter.

    As in rliable (arXiv:2108.13264, section 4.3): the scores of all runs (and tasks) are pooled and `int(0.25 n)`
    are cut off each end, so that fewer than 4 give the plain mean. Raises ValueError for no scores.
    """
    values = np.sort(np.asarray(scores, np.float64), axis=None)
    if not len(values):
        raise ValueError("iqm: needs at least one score, got 0")
    cut = int(0.25 * len(values))
    return float(values[cut : len(values) - cut].mean())


def combine(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of several runs of one configuration.

    The score of a run is its mean return in the final evaluation: `eval_mean`, `eval_std` (over seeds, ddof 1),
    `eval_iqm`, `eval_min`, `eval_max`. All five are None if a run has no score.
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


def combined_in_words(combined: Mapping[str, Any]) -> str:
    """Return the result over seeds as one line."""
    if combined["eval_mean"] is None:
        return f"{combined['env_id']}: {combined['num_seeds']} seeds done (no evaluation); {combined['run_dir']}"
    return (
        f"{combined['env_id']}: mean return {combined['eval_mean']:.1f} ± {combined['eval_std']:.1f} over "
        f"{combined['num_seeds']} seeds, interquartile mean {combined['eval_iqm']:.1f}; {combined['run_dir']}"
    )
