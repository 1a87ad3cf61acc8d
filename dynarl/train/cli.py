"""The command line of training: [CONFIG] [--any-field value], and --resume [DIR]."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import shlex
import signal
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dynarl import config as configuration
from dynarl.checkpoint import CheckpointError
from dynarl.config import ConfigError, RunConfig, RunFailed, tuned
from dynarl.train.run_directory import CONFIG, RunDirectoryError, algorithm_of, run_name
from dynarl.train.training import run

__all__ = ["command_line", "exit_status", "main"]

_SWITCH_WORDS = ("true", "false", "yes", "no", "on", "off")
_FIXED = ("env_id", "env_kwargs", "seed")


@contextlib.contextmanager
def command_line(
    agent_cls: Any,
    argv: Sequence[str] | None = None,
    *,
    program: Sequence[str] | None = None,
    default_config: str | os.PathLike[str] | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Yield the arguments of `run` that the command line describes: `with command_line(PPO) as a: run(*a)`.

    Every field of `RunConfig` and of `agent_cls.config_class` is a flag. `argv` are the arguments (None: of this
    process), `program` the words that start the program again. A run that names neither a file nor an environment
    reads `default_config`, a name or a path (None: the algorithm's in `tuned.DEFAULTS`, if any). An error inside
    becomes a message on stderr and SystemExit: 1 for a run that failed, 2 for a command line that is not
    understood, 130 for a second Ctrl-C.
    """
    _open_closed_streams()
    words = list(program or ["python", sys.argv[0]])
    try:
        config, changes = _configure(agent_cls, list(sys.argv[1:] if argv is None else argv), words, default_config)
        for change in changes:
            print(f"resume: {change}", flush=True)
        yield agent_cls, config.run, config.agent, functools.partial(_continuation, words, config.run)
    except ConfigError as error:
        raise SystemExit(_fail(error, 2)) from error
    except (RunDirectoryError, CheckpointError, FloatingPointError, RunFailed) as error:
        raise SystemExit(_fail(error, 1)) from error
    except KeyboardInterrupt as error:
        print("stopped at once", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from error


def _open_closed_streams() -> None:
    """Give a process without standard streams empty ones: else the next files it opens would take their place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - of a number, for good


def exit_status(summary: Mapping[str, Any]) -> int:
    """Return the exit status of a run: 0, or 128 + the number of the signal that stopped it."""
    stopped_by = summary["stopped_by"]
    return 128 + signal.Signals[stopped_by] if stopped_by.startswith("SIG") else 0


def main(agent_cls: Any, argv: Sequence[str] | None = None, **options: Any) -> int:
    """Train `agent_cls` from a command line and return the exit status; `options` as for `command_line`."""
    try:
        with command_line(agent_cls, argv, **options) as arguments:
            return exit_status(run(*arguments))
    except SystemExit as stopped:
        return int(stopped.code or 0)


def _fail(error: Exception, status: int) -> int:
    print(f"error: {error}", file=sys.stderr, flush=True)
    return status


def _configure(agent_cls: Any, argv: list[str], words: list[str], default_config: Any) -> tuple[Any, list[str]]:
    """Return the config that `argv` describes and, for a resumed run, the changes to its config."""
    algorithm = agent_cls.algorithm
    config_cls = dataclasses.make_dataclass(
        "Config", [("run", RunConfig), ("agent", agent_cls.config_class)], frozen=True, kw_only=True
    )
    load = functools.partial(
        configuration.load,
        config_cls,
        prog=" ".join([*words[:-1], Path(words[-1]).name]),
        description=_description(algorithm),
        find=functools.partial(tuned.find, algorithm),
    )
    argv, resumed = _resume_target(argv)
    if not resumed or any(flag in argv for flag in ("-h", "--help")):
        default = default_config or tuned.DEFAULTS.get(algorithm)
        config: Any = load([str(default), *argv] if default and _takes_default(config_cls, argv) else argv)
        if not config.run.resume:
            return config, []
        resumed = str(_newest_run(config.run, algorithm))
        argv = [*argv, "--run-dir", resumed]
    stored = Path(resumed) / CONFIG
    if not stored.is_file():
        raise RunDirectoryError(f"resume: {resumed} holds no run ({CONFIG} is missing)")
    if (of := algorithm_of(stored.parent)) not in ("", algorithm):
        raise ConfigError(f"resume: {resumed} is a run of {of}, which {algorithm} cannot continue")
    base = configuration.from_file(config_cls, stored)
    config = load(argv, base=base)
    return config, _changes(base, configuration.to_flat(config))


def _description(algorithm: str) -> str:
    """Return the text of --help above the flags."""
    names = tuned.names(algorithm)
    what = f"Train {algorithm.upper()} on a Gymnasium environment."
    if not names:
        return f"{what} CONFIG is a YAML file with values of the flags below."
    listed = textwrap.fill(", ".join(names), 78, break_on_hyphens=False)
    default = tuned.DEFAULTS[algorithm]
    return (
        f"{what} CONFIG is a YAML file with values of the flags below, or the name of a tuned configuration "
        f"({default} if neither CONFIG nor --env-id is given):\n\n{listed}"
    )


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
    """Return the changes to a resumed run as lines; raises ConfigError for one that would make it another run."""
    changed = [name for name, value in before.items() if after[name] != value]
    for name in _FIXED:
        if name in changed:
            raise ConfigError(
                f"resume: {name} of the run is {before[name]!r} and cannot become {after[name]!r}; "
                "start another run for that"
            )
    return [f"{name} {before[name]!r} -> {after[name]!r}" for name in changed]


def _continuation(words: Sequence[str], config: RunConfig, run_dir: Path) -> str:
    """Return the command that continues the run in `run_dir`."""
    allowed = ["--allow-import", *config.allow_import] if config.allow_import else []
    return shlex.join([*words, "--resume", str(run_dir), *allowed])
