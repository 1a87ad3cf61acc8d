"""Runs: a run directory with curves, checkpoints and a summary, that can be stopped and resumed."""

from dynarl.train.cli import command_line, exit_status
from dynarl.train.training import run

__all__ = ["command_line", "exit_status", "run"]
