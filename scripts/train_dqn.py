"""Train DQN: python scripts/train_dqn.py [CONFIG.yaml] [--any-field value]; --help lists every field."""

import os
from pathlib import Path

# Before NumPy loads: one BLAS thread is fastest for small networks. --num-threads raises it later.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from dynarl.agents import DQN  # noqa: E402
from dynarl.train.cli import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main(DQN, default_config=Path(__file__).parents[1] / "configs" / "dqn" / "cartpole.yaml"))
