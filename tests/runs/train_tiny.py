"""The training script of the tiny agent, for tests that need a process of its own."""

import os
import sys
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
sys.path.insert(0, str(Path(__file__).parent))

from tiny_agent import TinyAgent  # noqa: E402

from dynarl.train.cli import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main(TinyAgent))
