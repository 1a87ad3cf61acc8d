"""The training script of the tiny agent, for tests that need a process of its own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from dynarl.train.cli import main
from tests.helpers.tiny_agent import TinyAgent

if __name__ == "__main__":
    sys.exit(main(TinyAgent))
