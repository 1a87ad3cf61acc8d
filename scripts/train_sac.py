"""Train SAC: python scripts/train_sac.py [CONFIG] [--any-field value]; --help lists every field and configuration."""

import sys

from dynarl.agents import SAC
from dynarl.train import command_line, exit_status, run

if __name__ == "__main__":
    with command_line(SAC) as arguments:
        sys.exit(exit_status(run(*arguments)))
