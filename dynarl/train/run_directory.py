"""A run's directory: its name, its lock, its numbered checkpoints, its config and its summary.

    DIR/config.yaml  metrics.jsonl  events.out.tfevents.*  summary.json
    DIR/checkpoints/ckpt-000000012345/

One process owns it at a time: a lock on DIR/.lock, which the system releases when the process ends in any way.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from dynarl import checkpoint
from dynarl.checkpoint.series import CHECKPOINTS, numbered, prune
from dynarl.config import RunConfig, to_yaml
from dynarl.train.output import warn
from dynarl.train.summary import SUMMARY, read_summary

__all__ = [
    "RunDirectory",
    "RunDirectoryError",
    "algorithm_of",
    "default_run_dir",
    "refuse_under_ray",
    "resolved",
    "run_name",
    "seed_runs",
]

LOCK, CONFIG = ".lock", "config.yaml"
SAVED = ".saved"
"""An empty file that a run has once it saved a checkpoint."""


def default_run_dir(config: RunConfig, algorithm: str) -> Path:
    """Return runs/<env>-<algo>-<seed>-<time>, a directory that does not exist yet."""
    stem = Path("runs") / f"{run_name(config, algorithm)}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = stem, 1
    while path.exists():
        number += 1
        path = stem.with_name(f"{stem.name}-{number}")
    return path


def run_name(config: RunConfig, algorithm: str) -> str:
    """Return <env>-<algo>-<seed> in characters that a file name may have."""
    return f"{re.sub(r'[^A-Za-z0-9_.]+', '_', config.env_id)}-{algorithm}-{config.seed}"


def algorithm_of(run: Path) -> str:
    """Return the algorithm of a run, from its summary or, before its end, from a checkpoint; "" where it has none yet.

    The algorithm of a directory of seeds is that of its first seed.
    """
    if (summary := read_summary(run)) is not None:
        return str(summary["algo"])
    for _, path in reversed(numbered(run)):
        with contextlib.suppress(checkpoint.CheckpointError):  # a damaged one is passed over, as in resuming
            return str(checkpoint.read_manifest(path)["meta"].get("algorithm", ""))
    seeds = seed_runs(run)
    return algorithm_of(seeds[0]) if seeds else ""


def seed_runs(run: Path) -> list[Path]:
    """Return the runs of the seeds in the directory of a run with num_seeds above 1, none for a single run."""
    return sorted(path.parent for path in run.glob(f"seed-*/{CONFIG}"))


def resolved(config: RunConfig, agent_config: Any) -> str:
    """Return the YAML that starts the same run again."""
    return to_yaml(config) + to_yaml(agent_config)


def refuse_under_ray(run_dir: str | os.PathLike[str], environ: Mapping[str, str], cwd: str) -> None:
    """Raise RunDirectoryError for a relative run directory inside a Ray job.

    The working directory of a job is a copy that Ray deletes after it, with everything written there.
    """
    in_job = "RAY_ADDRESS" in environ or any(key.startswith("RAY_JOB") for key in environ)
    if in_job and "_ray_pkg_" in cwd and not Path(run_dir).is_absolute():
        raise RunDirectoryError(
            f"run_dir: must be absolute inside a Ray job, got {str(run_dir)!r}; a relative path lies in "
            f"{cwd}, a copy of the working directory that Ray deletes with the job"
        )


class RunDirectoryError(OSError):
    """A run directory that this process cannot use or must not use."""


class RunDirectory:
    """The directory of the run that this process owns. Use as a context manager."""

    def __init__(self, path: str | os.PathLike[str], *, resume: bool = False) -> None:
        """Lock `path`: create it, or with `resume` open the run in it.

        Raises RunDirectoryError if it holds a run and `resume` is False, if it holds no run to resume, if another
        process owns it, or if it cannot be written.
        """
        self.path, self._config = Path(path).absolute(), ""
        self.checkpoints = self.path / CHECKPOINTS
        if resume and not (self.path / CONFIG).is_file():
            raise RunDirectoryError(f"resume: {self.path} holds no run ({CONFIG} is missing)")
        self._created = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.path / LOCK)
        except RunDirectoryError:
            raise
        except OSError as error:
            raise RunDirectoryError(f"run_dir: cannot write to {self.path}: {error}") from error
        try:
            if not resume and (found := sorted(p.name for p in self.path.iterdir() if p.name != LOCK)):
                raise RunDirectoryError(
                    f"run_dir: {self.path} exists and holds {', '.join(found[:4])}; "
                    "continue that run with --resume, or choose another --run-dir"
                )
            self._started = resume
            checkpoint.recover(self.checkpoints)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *exception: object) -> None:
        """Release the lock. If a new run failed before it started, the directory is removed."""
        self._lock.close()
        if not getattr(self, "_started", True):
            (self.path / LOCK).unlink(missing_ok=True)
            if self._created:
                with contextlib.suppress(OSError):
                    self.path.rmdir()

    def refuse_lost_checkpoints(self) -> None:
        """Raise RunDirectoryError if the run saved checkpoints: without them its curves would be lost."""
        if (self.path / SAVED).exists() or (self.path / SUMMARY).exists():
            raise RunDirectoryError(
                f"resume: {self.path} had checkpoints, and {self.checkpoints} holds none now; restore that directory, "
                "or start another run"
            )

    def begin(self, config: str, env_steps: int) -> None:
        """Write the configuration of a run that starts or continues at `env_steps`; remove its earlier result."""
        (self.path / SUMMARY).unlink(missing_ok=True)
        self.set_aside_after(env_steps)
        self.write_config(config)

    def write_config(self, text: str) -> None:
        """Write the resolved configuration, by which the directory holds a run."""
        _write(self.path / CONFIG, text.encode())
        self._config, self._started = text, True

    def write_summary(self, summary: Mapping[str, Any]) -> Path:
        """Write summary.json atomically."""
        path = self.path / SUMMARY
        _write(path, (json.dumps(dict(summary), indent=1, allow_nan=False) + "\n").encode())
        return path

    def save(self, state: Mapping[str, Any], *, meta: Mapping[str, Any], keep: int) -> Path:
        """Save the checkpoint of `meta["env_steps"]`, then delete all except the newest `keep` and the best.

        The best is the one with the highest `meta["score"]` (the newest of equals); a score of None never counts. Older
        ones are deleted only after the new one has been read back and verified.
        """
        if self._config and not (self.path / CONFIG).is_file():
            warn(f"{self.path / CONFIG} is gone and is written again")
            self.path.mkdir(parents=True, exist_ok=True)
            self.write_config(self._config)
        path = self.checkpoints / f"ckpt-{int(meta['env_steps']):012d}"
        checkpoint.save(path, state, meta=meta)
        checkpoint.load(path)
        (self.path / SAVED).touch()
        prune(self.checkpoints, keep)
        return path

    def set_aside_after(self, env_steps: int) -> None:
        """Rename the checkpoints of later steps, which the resumed run will write again."""
        for step, path in numbered(self.path):
            if step > env_steps:
                for attempt in _attempts(path):
                    if not attempt.exists():
                        path.rename(attempt)
                        break


def _attempts(path: Path) -> Iterator[Path]:
    number = 0
    while True:
        number += 1
        yield path.with_name(f"{path.name}.aside-{number}")


def _lock(path: Path) -> IO[bytes]:
    import fcntl

    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise RunDirectoryError(f"run_dir: another process is writing to {path.parent}") from None
    return file


def _write(path: Path, content: bytes) -> None:
    try:
        checkpoint.write_atomically(path, content)
    except OSError as error:
        raise RunDirectoryError(f"run_dir: cannot write {path}: {error}") from error
