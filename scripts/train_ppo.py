"""Train PPO: python scripts/train_ppo.py [CONFIG] [--any-field value]; --help lists every field and configuration."""

import sys

from dynarl.agents import PPO
from dynarl.train import command_line, exit_status, run

if __name__ == "__main__":
    with command_line(PPO) as arguments:
        sys.exit(exit_status(run(*arguments)))
