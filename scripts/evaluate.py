"""Evaluate a run's agent: python scripts/evaluate.py RUN [--episodes N] [--record-video]; --help lists the rest."""

import sys

from dynarl.train.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
