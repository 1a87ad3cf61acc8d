"""The command line of the training scripts: [CONFIG.yaml] [--any-field value], and --resume [DIR]."""

import dataclasses
import functools
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dynarl import config as configuration
from dynarl.checkpoint import CheckpointError
from dynarl.config import ConfigError, RunConfig, RunFailed
from dynarl.train.run_directory import CONFIG, RunDirectoryError
from dynarl.train.seeds import run_seeds
from dynarl.train.training import run, run_name

__all__ = ["main"]

_SWITCH_WORDS = ("true", "false", "yes", "no", "on", "off")
_FIXED = ("env_id", "env_kwargs", "seed")


def main(
    agent_cls: Any, argv: Sequence[str] | None = None, *, default_config: str | os.PathLike[str] | None = None
) -> int:
    """Train `agent_cls` as the command line `argv` says (None: the process's own) and return the status.

    Run fields (`RunConfig`) and the agent's own (`agent_cls.config_class`) are flags alike.
    `default_config` is the YAML file of a run that names neither a file nor an environment. 0 means
    done, 1 failed, 2 not understood, 128 + the signal's number stopped by a signal.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        config, changes = _configure(agent_cls, argv, default_config)
        for change in changes:
            print(f"resume: {change}", flush=True)
        continuation = functools.partial(_continuation, config.run)
        several = config.run.num_seeds > 1
        summary = (run_seeds if several else run)(agent_cls, config.run, config.agent, command=continuation)
    except ConfigError as error:
        return _fail(error, 2)
    except (RunDirectoryError, CheckpointError, FloatingPointError, RunFailed) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        print("stopped at once", file=sys.stderr)
        return 128 + signal.SIGINT
    stopped_by = summary["stopped_by"]
    return 128 + signal.Signals[stopped_by] if stopped_by.startswith("SIG") else 0


def _fail(error: Exception, status: int) -> int:
    print(f"error: {error}", file=sys.stderr, flush=True)
    return status


def _configure(agent_cls: Any, argv: list[str], default_config: Any) -> tuple[Any, list[str]]:
    """Return the config that `argv` describes and, where it resumes a run, what it changes in it."""
    config_cls = dataclasses.make_dataclass(
        "Config", [("run", RunConfig), ("agent", agent_cls.config_class)], frozen=True, kw_only=True
    )
    prog = Path(sys.argv[0]).name
    description = f"Train {agent_cls.algorithm} on a Gymnasium environment."
    argv, resumed = _resume_target(argv)
    if not resumed or any(flag in argv for flag in ("-h", "--help")):
        default = [str(default_config)] if default_config and _takes_default(config_cls, argv) else []
        config: Any = configuration.load(config_cls, default + argv, prog=prog, description=description)
        if not config.run.resume:
            return config, []
        resumed = str(_newest_run(config.run, agent_cls.algorithm))
        argv = [*argv, "--run-dir", resumed]
    stored = Path(resumed) / CONFIG
    if not stored.is_file():
        raise RunDirectoryError(f"resume: {resumed} holds no run ({CONFIG} is missing)")
    base = configuration.from_file(config_cls, stored)
    config = configuration.load(config_cls, argv, prog=prog, description=description, base=base)
    return config, _changes(base, configuration.to_flat(config))


def _takes_default(config_cls: type, argv: list[str]) -> bool:
    files, flags = configuration.split(config_cls, argv)
    return not files and not any(re.match(r"--env[-_]id(=|$)", flag) for flag in flags)


def _resume_target(argv: list[str]) -> tuple[list[str], str | None]:
    """Return `argv` with `--resume DIR` as `--run-dir DIR --resume`, and the directory to resume if named."""
    argv = [part for token in argv for part in (token.split("=", 1) if token[:9] == "--resume=" else [token])]
    if "--resume" not in argv:
        return argv, None
    i = argv.index("--resume")
    value = argv[i + 1] if i + 1 < len(argv) else "-"
    if not value.startswith("-") and not value.endswith((".yaml", ".yml")) and value not in _SWITCH_WORDS:
        argv[i : i + 2] = ["--resume", "--run-dir", value]
    for i, token in enumerate(argv):
        name, _, value = token.replace("_", "-", 2).partition("=")
        if name == "--run-dir":
            return argv, token.partition("=")[2] or (argv[i + 1] if i + 1 < len(argv) else None)
    return argv, None


def _newest_run(run_config: RunConfig, algorithm: str) -> Path:
    if run_config.run_dir is not None:
        return Path(run_config.run_dir)
    stem = run_name(run_config, algorithm)
    found = [path.parent for path in Path("runs").glob(f"{stem}-*/{CONFIG}")]
    if not found:
        raise RunDirectoryError(f"resume: no run {Path('runs') / stem}-* to continue; name it with --resume DIR")
    return max(found, key=lambda path: (path / CONFIG).stat().st_mtime)


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what a resumed run changes, in words. What would make it another run is refused."""
    changed = [name for name, value in before.items() if after[name] != value]
    for name in _FIXED:
        if name in changed:
            raise ConfigError(
                f"resume: {name} of the run is {before[name]!r} and cannot become {after[name]!r}; "
                "start another run for that"
            )
    return [f"{name} {before[name]!r} -> {after[name]!r}" for name in changed]


def _continuation(config: RunConfig, run_dir: Path) -> str:
    """Return the command that continues the run in `run_dir`."""
    allowed = ["--allow-import", *config.allow_import] if config.allow_import else []
    return shlex.join(["python", sys.argv[0], "--resume", str(run_dir), *allowed])
