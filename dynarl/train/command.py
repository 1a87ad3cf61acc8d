"""The command `dynarl`: train, evaluate, plot, check. Each subcommand loads only the modules it needs."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
import textwrap
from collections.abc import Callable, Sequence

import dynarl
from dynarl.config import tuned, yaml
from dynarl.train import cli
from dynarl.train.construction import env_source

__all__ = ["main"]

_OVERVIEW = """usage: dynarl COMMAND [ARGUMENTS]

Reinforcement learning on its own autograd engine.

  dynarl train ALGORITHM [CONFIG] [--any-field VALUE]   train an agent; ALGORITHM is {algorithms}
  dynarl train ALGORITHM --resume [DIR]                 continue a run
  dynarl evaluate RUN [--episodes N] [--record-video]   play episodes with the agent of a run
  dynarl plot RUN... [--metric NAME] [--output FILE]    draw learning curves of runs
  dynarl check ENV                                      look for mistakes in a Gymnasium environment
  dynarl --version

CONFIG is a YAML file or the name of a tuned configuration:
{configurations}

`dynarl COMMAND --help` lists the arguments of a command, `dynarl train ppo --help` every field of PPO.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (None: of this process) and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help", "help"):
        print(_overview(), end="")
        return 0
    if name == "--version":
        print(f"dynarl {dynarl.__version__}")
        return 0
    if name not in _COMMANDS:
        return _unknown("dynarl", "command", name, list(_COMMANDS))
    return _COMMANDS[name](rest)


def _overview() -> str:
    lines = [f"  {algorithm}: {', '.join(tuned.names(algorithm))}" for algorithm in tuned.DEFAULTS]
    return _OVERVIEW.format(algorithms=", ".join(tuned.DEFAULTS), configurations="\n".join(map(_wrapped, lines)))


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 100, subsequent_indent="       ", break_on_hyphens=False)


def _unknown(program: str, kind: str, name: str, known: Sequence[str]) -> int:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
    print(f"error: {program}: unknown {kind} {name!r}; {hint}", file=sys.stderr)
    return 2


def _train(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview(), end="")
        return 0 if argv else 2
    algorithm, rest = argv[0], argv[1:]
    if algorithm not in tuned.DEFAULTS:
        return _unknown("dynarl train", "algorithm", algorithm, list(tuned.DEFAULTS))
    from dynarl.train import load_run

    return cli.main(load_run.agent_class(algorithm), rest, program=["dynarl", "train", algorithm])


def _evaluate(argv: list[str]) -> int:
    from dynarl.train import evaluate

    return evaluate.main(argv, prog="dynarl evaluate")


def _plot(argv: list[str]) -> int:
    from dynarl.train import plot

    return plot.main(argv, prog="dynarl plot")


def _check(argv: list[str]) -> int:
    """Check an environment; the status is 1 where an error was found."""
    parser = argparse.ArgumentParser(
        prog="dynarl check", description="Play with random actions and report mistakes of a Gymnasium environment."
    )
    parser.add_argument("env", metavar="ENV", help="Gymnasium environment id")
    parser.add_argument("--env-kwargs", default="{}", metavar="{KEY: VALUE}", help="its keyword arguments, as YAML")
    parser.add_argument("--steps", type=int, default=500, help="environment steps, about (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first episode (default %(default)s)")
    parser.add_argument("--allow-import", action="append", default=[], help="module that registers the environment")
    options = parser.parse_args(argv)
    import gymnasium

    from dynarl.envs import check

    try:
        for module in options.allow_import:
            importlib.import_module(module)
        findings = check(
            env_source(options.env.rpartition(":")[2], yaml.parse(options.env_kwargs)),
            steps=options.steps,
            seed=options.seed,
        )
    except (ValueError, TypeError, ImportError, gymnasium.error.Error) as error:
        print(f"error: check: {error}", file=sys.stderr)
        return 1
    return int(any(finding.level == "error" for finding in findings))


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "plot": _plot,
    "check": _check,
}
