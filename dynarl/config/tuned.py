"""Tuned configurations by name: `pendulum` stands for configs/ppo/pendulum.yaml.

In a checkout they are the files of the folder configs/; a wheel carries the same files inside the package.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from dynarl.config.run_config import ConfigError

__all__ = ["DEFAULTS", "find", "names"]

DEFAULTS = {"ppo": "default", "dqn": "cartpole", "sac": "pendulum"}
"""{algorithm: configuration of a run that names neither a file nor an environment}."""

_PACKAGE = Path(__file__).parents[1]


def names(algorithm: str) -> list[str]:
    """Return the names of an algorithm's tuned configurations, none for an algorithm that has no folder."""
    return sorted(path.stem for path in (_directory() / algorithm).glob("*.yaml"))


def find(algorithm: str, name: str) -> Path:
    """Return the YAML file that `name` stands for: a file, else a tuned configuration, `pendulum` or `ppo/pendulum`.

    Raises ConfigError for an unknown name, with the nearest ones.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    folder, _, stem = name.rpartition("/")
    known = names(algorithm)
    if stem in known and folder in ("", algorithm):
        return _directory() / algorithm / f"{stem}.yaml"
    owners = [other for other in DEFAULTS if stem in names(other) and folder in ("", other)]
    if owners:
        hint = f"{stem} is a configuration of {owners[0]}"
    elif near := difflib.get_close_matches(stem, known, n=3, cutoff=0.5):
        hint = f"did you mean {' or '.join(near)}?"
    else:
        hint = f"the names are {', '.join(known)}" if known else "give the path of a YAML file"
    raise ConfigError(f"config: {algorithm} has no tuned configuration {name!r} and there is no such file; {hint}")


def _directory() -> Path:
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"
