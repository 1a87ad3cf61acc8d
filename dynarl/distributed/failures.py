"""Reports environments that failed in a worker, and writes records from which the episode can be replayed."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium

from dynarl.config import RunConfig
from dynarl.envs.guard import EnvironmentFailure

__all__ = ["FailureLog"]

_MOST_FILES = 20
_INSTALLED = ("gymnasium", "dynarl", "ale_py")


class FailureLog:
    """Writes DIRECTORY/env-E-episode-K.json and reports the command that replays it; at most 20 files per run.

    Failures without a file are reported with their traceback alone.
    """

    def __init__(self, source: Any, config: RunConfig, report: Callable[[str], None], directory: Path | None) -> None:
        self._config, self._report, self._directory = config, report, directory
        self._named = isinstance(source, str) or bool(config.env_kwargs)
        self._written = 0

    def __call__(self, failure: EnvironmentFailure) -> None:
        """Report a failure."""
        what = (
            f"environment {failure.environment} failed in step {len(failure.actions)} of episode {failure.episode}, "
            f"which was reset with seed {failure.episode_seed}, and was replaced: {failure.message}"
        )
        self._written += 1
        if self._directory is None or not self._named or self._written > _MOST_FILES:
            self._report(f"{what}\n{failure.traceback}")
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"env-{failure.environment}-episode-{failure.episode}-{failure.episode_seed}.json"
        entry = _entry_point(self._config.env_id)
        record = {
            "env_id": self._config.env_id,
            "env_kwargs": self._config.env_kwargs,
            "entry_point": entry,
            **dataclasses.asdict(failure),
        }
        path.write_text(json.dumps(record, indent=1) + "\n")
        allowed = dict.fromkeys([*self._config.allow_import, *_module_of(entry)])
        command = ["python", "-m", "dynarl.distributed.replay_failure", str(path)]
        command += [part for module in allowed for part in ("--allow-import", module)]
        self._report(f"{what}; replay it under pdb: {shlex.join(command)}\n{failure.traceback}")


def _entry_point(env_id: str) -> str | None:
    """Return the location of an environment's class as module:name."""
    spec = gymnasium.registry.get(env_id.rpartition(":")[2])
    entry: Any = None if spec is None else spec.entry_point
    if entry is None or isinstance(entry, str):
        return entry
    return f"{entry.__module__}:{entry.__qualname__}"


def _module_of(entry: str | None) -> list[str]:
    """Return the module to import for an environment that is not part of an installed package."""
    module = (entry or "").partition(":")[0]
    return [] if not module or module.partition(".")[0] in _INSTALLED else [module]
