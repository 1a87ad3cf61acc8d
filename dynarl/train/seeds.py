"""One configuration under several seeds, one after the other.

DIR/config.yaml  summary.json  seed-0/  seed-1/  ...      each seed-N is a run of its own
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynarl.config import RunConfig
from dynarl.train.run_directory import CONFIG, RunDirectory, default_run_dir, resolved
from dynarl.train.summary import SUMMARY, combine, combined_in_words, read_summary

__all__ = ["run_seeds"]

Run = Callable[..., dict[str, Any]]


def run_seeds(
    run: Run, agent_cls: Any, config: RunConfig, agent_config: Any, command: Callable[[Path], str]
) -> dict[str, Any]:
    """Call `run` for `config.num_seeds` seeds from `config.seed` on and return the combined summary.

    With `config.resume`, finished seeds are kept, an unfinished one continues, the rest begins. A signal ends the
    current seed and skips the following ones; the summary of that seed is then returned.
    """
    path = Path(config.run_dir or default_run_dir(config, agent_cls.algorithm))
    summaries = []
    with RunDirectory(path, resume=config.resume) as directory:
        directory.write_config(resolved(config, agent_config))
        for seed in range(config.seed, config.seed + config.num_seeds):
            place = directory.path / f"seed-{seed}"
            summary = read_summary(place)
            if summary is None or _is_to_continue(summary, config.total_steps):
                begun = (place / CONFIG).is_file()
                one = dataclasses.replace(config, seed=seed, num_seeds=1, run_dir=str(place), resume=begun)
                summary = run(agent_cls, one, agent_config, lambda _: command(directory.path))
                if not (place / SUMMARY).is_file():
                    return summary
            summaries.append(summary)
        combined = combine(summaries)
        combined |= {"run_dir": str(directory.path), "stopped_by": "all seeds done"}
        directory.write_summary(combined)
    print(combined_in_words(combined), flush=True)
    return combined


def _is_to_continue(summary: dict[str, Any], total_steps: int) -> bool:
    return bool(summary["stopped_by"] == "total_steps" and summary["env_steps"] < total_steps)
