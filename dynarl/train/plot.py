"""Learning curves of runs: the mean over seeds and a band around it, as a PNG.

Runs that differ only in their seed share one curve. Drawing needs matplotlib (the extra `plot`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynarl.checkpoint import CheckpointError
from dynarl.config import yaml
from dynarl.extras import how_to_install
from dynarl.train import metrics
from dynarl.train.run_directory import CONFIG, algorithm_of, seed_runs

__all__ = ["Curve", "aggregate", "curves", "draw", "main"]

_BANDS = ("std", "minmax", "ci")
# Fields that do not change a curve: the output of a run, and the seed, over which the band is drawn.
_NOT_COMPARED = {
    *("seed", "num_seeds", "run_dir", "progress", "tensorboard", "checkpoint_every", "keep_checkpoints"),
    *("total_steps", "eval_episodes", "histogram_every", "video_every", "num_threads"),
}


class Curve(NamedTuple):
    """A curve: label, environment steps [P], mean, low and high [P], number of seeds."""

    label: str
    env_steps: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    seeds: int


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Draw the curves of the runs in the command line and return the exit status: 0 done, 1 failed."""
    parser = argparse.ArgumentParser(prog=prog, description="Plot learning curves of runs, mean and band over seeds.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories, also of --num-seeds")
    parser.add_argument("--metric", default="rollout/ep_rew_mean", help="name in metrics.jsonl (default %(default)s)")
    parser.add_argument("--band", choices=_BANDS, default="std", help="std, min and max, or a 95%% bootstrap interval")
    parser.add_argument("--output", type=Path, default=Path("curves.png"), help="file to write (default %(default)s)")
    parser.add_argument("--points", type=int, default=200, help="points of a curve (default %(default)s)")
    options = parser.parse_args(argv)
    try:
        drawn = curves(options.runs, metric=options.metric, band=options.band, points=options.points)
        draw(drawn, options.output, metric=options.metric)
    except (ValueError, OSError, ImportError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for curve in drawn:
        print(f"{curve.label}: {curve.mean[-1]:.2f} at {curve.env_steps[-1]:,.0f} env steps, {_seeds(curve)}")
    print(options.output)
    return 0


def curves(runs: Iterable[Path], *, metric: str, band: str = "std", points: int = 200) -> list[Curve]:
    """Return one curve per configuration among `runs`; a directory of --num-seeds counts as the runs of its seeds.

    Raises ValueError for a directory that holds no run, or a run without the metric (with the names it has).
    """
    groups: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for run in _single_runs(runs):
        config = {k: v for k, v in yaml.read(run / CONFIG).items() if k not in _NOT_COMPARED}
        config["algorithm"] = algorithm_of(run)
        key = json.dumps(config, sort_keys=True, default=str)
        settings[key] = config
        groups.setdefault(key, []).append(_series(run, metric))
    labels = _labels(list(settings.values()))
    return [aggregate(label, series, band, points) for label, series in zip(labels, groups.values(), strict=True)]


def aggregate(
    label: str, series: Sequence[tuple[NDArray[Any], NDArray[Any]]], band: str = "std", points: int = 200
) -> Curve:
    """Return the mean over series of (env_steps, values), interpolated on the steps that all of them cover.

    The band is the standard deviation (ddof 1), minimum and maximum, or the 95 % percentile bootstrap interval of the
    mean over seeds.
    """
    start, end = max(steps[0] for steps, _ in series), min(steps[-1] for steps, _ in series)
    if start > end:
        raise ValueError(f"plot: the {len(series)} runs of {label} have no environment steps in common")
    grid = np.linspace(start, end, points) if end > start else np.array([float(start)])
    rows = np.stack([np.interp(grid, steps, values) for steps, values in series])
    mean = rows.mean(axis=0)
    low = high = mean
    if len(rows) > 1 and band == "std":
        spread = rows.std(axis=0, ddof=1)
        low, high = mean - spread, mean + spread
    elif len(rows) > 1 and band == "minmax":
        low, high = rows.min(axis=0), rows.max(axis=0)
    elif len(rows) > 1:
        drawn = np.random.Generator(np.random.Philox(0)).integers(len(rows), size=(1000, len(rows)))
        low, high = np.percentile(rows[drawn].mean(axis=1), (2.5, 97.5), axis=0)
    return Curve(label, grid, mean, low, high, len(rows))


def draw(drawn: Sequence[Curve], path: Path, *, metric: str) -> None:
    """Draw curves into the file `path`; raises ImportError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"plot: drawing needs matplotlib: {how_to_install('plot')}") from error
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for curve in drawn:
        seeds = f" ({_seeds(curve)})" if curve.seeds > 1 else ""
        (line,) = axes.plot(curve.env_steps, curve.mean, label=curve.label + seeds)
        axes.fill_between(curve.env_steps, curve.low, curve.high, alpha=0.2, color=line.get_color(), linewidth=0)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _seeds(curve: Curve) -> str:
    return "1 seed" if curve.seeds == 1 else f"{curve.seeds} seeds"


def _single_runs(runs: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for run in runs:
        if not (run / CONFIG).is_file():
            raise ValueError(f"plot: {run} holds no run ({CONFIG} is missing)")
        found += seed_runs(run) or [run]
    return found


def _series(run: Path, metric: str) -> tuple[NDArray[Any], NDArray[Any]]:
    path = run / "metrics.jsonl"
    records = metrics.read(path) if path.is_file() else []
    rows = [(record["env_steps"], record[metric]) for record in records if metric in record]
    if not rows:
        names = sorted({name for record in records for name in record})
        raise ValueError(f"plot: {run} has no metric {metric!r}; it has {', '.join(names) or 'no records yet'}")
    steps, values = np.array(rows, np.float64).T
    return steps, values


def _labels(configs: Sequence[dict[str, Any]]) -> list[str]:
    """Return a label for each configuration: environment, algorithm, and the fields in which they differ."""
    keys = sorted({key for config in configs for key in config})
    differing = [k for k in keys if len({repr(c.get(k)) for c in configs}) > 1 and k not in ("env_id", "algorithm")]
    labels = []
    for config in configs:
        rest = ", ".join(f"{key} {config[key]}" for key in differing[:4] if key in config)
        labels.append(" ".join(filter(None, (str(config.get("env_id")), config["algorithm"], rest))))
    return labels
