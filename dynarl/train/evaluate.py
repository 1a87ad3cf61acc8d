"""The command line that evaluates the agent of a run: RUN [--episodes N] [--record-video]."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynarl.checkpoint import CheckpointError

__all__ = ["evaluate_run", "main"]


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Evaluate the run in the command line and return the exit status: 0 done, 1 failed."""
    parser = argparse.ArgumentParser(prog=prog, description="Play episodes with a run's agent and report the returns.")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    parser.add_argument("--checkpoint", default="best", help="best, latest, or a checkpoint directory (default best)")
    parser.add_argument("--episodes", type=int, default=100, help="episodes to play (default 100)")
    parser.add_argument("--seed", type=int, help="seed of the episodes (default: the run's)")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of the most likely one")
    parser.add_argument("--record-video", action="store_true", help="also write a GIF of an episode to RUN/videos")
    parser.add_argument("--json", type=Path, help="also write every episode's return and length to this file")
    parser.add_argument("--allow-import", action="append", default=[], help="module that registers the environment")
    options = parser.parse_args(argv)
    if options.episodes < 1:
        parser.error(f"--episodes must be at least 1, got {options.episodes}")
    try:
        for module in options.allow_import:
            importlib.import_module(module)
        found = evaluate_run(
            options.run,
            checkpoint=options.checkpoint,
            episodes=options.episodes,
            seed=options.seed,
            deterministic=not options.stochastic,
            video=options.record_video,
        )
    except (CheckpointError, ValueError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    returns, kind = found["returns"], "stochastic" if options.stochastic else "deterministic"
    print(
        f"{found['algo']} on {found['env_id']}, {Path(found['checkpoint']).name}: mean return "
        f"{found['mean']:.2f} ± {found['std']:.2f} over {options.episodes} {kind} episodes "
        f"(min {min(returns):.2f}, median {np.median(returns):.2f}, max {max(returns):.2f}), "
        f"mean length {np.mean(found['lengths']):.1f}"
    )
    if found["video"]:
        print(f"video: {found['video']}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def evaluate_run(
    run: Path,
    *,
    checkpoint: str = "best",
    episodes: int = 100,
    seed: int | None = None,
    deterministic: bool = True,
    video: bool = False,
) -> dict[str, Any]:
    """Evaluate a run's agent and return its algorithm, environment, checkpoint, mean, std, returns and lengths.

    With `video`, a GIF of one episode is written to RUN/videos; its path is returned under `video` (else None).
    """
    from dynarl.train.load_run import load_run

    agent, path = load_run(run, checkpoint)
    try:
        found = agent.evaluate(episodes, deterministic=deterministic, seed=seed)
        recorded = None
        if video:
            from dynarl.train.video import record_video

            recorded = record_video(agent, run / "videos" / f"{path.name}.gif", seed=seed)
    finally:
        agent.env.close()
    return {
        "algo": agent.algorithm,
        "env_id": _name(agent.source),
        "checkpoint": str(path),
        "env_steps": int(agent.env_steps),
        "mean": found.mean,
        "std": found.std,
        "returns": found.returns.tolist(),
        "lengths": found.lengths.tolist(),
        "video": None if recorded is None else str(recorded),
    }


def _name(source: Any) -> str:
    return source if isinstance(source, str) else str(source.args[0])
