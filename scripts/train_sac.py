"""Train SAC: python scripts/train_sac.py [CONFIG.yaml] [--any-field value]; --help lists every field."""

import os
from pathlib import Path

# Before NumPy loads: one BLAS thread is fastest for small networks. --num-threads raises it later.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from dynarl.agents import SAC  # noqa: E402
from dynarl.train.cli import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main(SAC, default_config=Path(__file__).parents[1] / "configs" / "sac" / "pendulum.yaml"))
