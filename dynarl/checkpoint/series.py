"""The numbered checkpoints of a run: the newest valid one, the best one, and the deletion of old ones."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from dynarl.checkpoint import files
from dynarl.checkpoint.files import Checkpoint, CheckpointError

__all__ = ["CHECKPOINTS", "best", "latest", "numbered", "prune"]

CHECKPOINTS = "checkpoints"
_NAME = re.compile(r"ckpt-(\d{12,})")


def numbered(run_dir: str | os.PathLike[str]) -> list[tuple[int, Path]]:
    """Return (env_steps, path) of every checkpoint of a run, oldest first, unverified."""
    return _numbered_in(Path(run_dir) / CHECKPOINTS)


def _numbered_in(directory: Path) -> list[tuple[int, Path]]:
    names = directory.iterdir() if directory.is_dir() else ()
    return sorted((int(match[1]), path) for path in names if (match := _NAME.fullmatch(path.name)))


def best(run_dir: str | os.PathLike[str]) -> Path | None:
    """Return the checkpoint of a run with the highest `meta["score"]` (the newest of equals), None without scores."""
    return _best([path for _, path in numbered(run_dir)])


def prune(directory: Path, keep: int) -> None:
    """Delete the numbered checkpoints in `directory` except the newest `keep` and the best.

    The best is the one with the highest `meta["score"]` (the newest of equals); without scores, none counts as best.
    """
    found = [path for _, path in _numbered_in(directory)]
    kept = {*found[-keep:], _best(found)}
    for old in found:
        if old not in kept:
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.tmp-del")), ignore_errors=True)


def latest(run_dir: str | os.PathLike[str], report: Callable[[str], None] = lambda message: None) -> Checkpoint | None:
    """Return the newest checkpoint of a run that verifies, or None if the run has no checkpoint.

    `report` is called with a line for every newer checkpoint that does not verify. Raises CheckpointError if there are
    checkpoints and none verifies.
    """
    found = numbered(run_dir)
    for _, path in reversed(found):
        try:
            return files.load(path)
        except CheckpointError as error:
            report(f"{path.name} is not usable, trying the one before: {error}")
    if found:
        raise CheckpointError(
            f"checkpoint: none of the {len(found)} checkpoints in {Path(run_dir) / CHECKPOINTS} is usable; "
            "start a new run, or restore that directory"
        )
    return None


def _best(found: list[Path]) -> Path | None:
    scores: list[tuple[float, Path]] = []
    for path in found:
        with contextlib.suppress(CheckpointError):
            if isinstance(score := files.read_manifest(path)["meta"].get("score"), (int, float)):
                scores.append((float(score), path))
    return max(scores)[1] if scores else None
