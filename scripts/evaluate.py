"""Evaluate a run's agent: python scripts/evaluate.py RUN [--episodes N] [--record-video]; --help lists the rest."""

import os

# Before NumPy loads: one BLAS thread is fastest for small networks.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from dynarl.train.evaluate import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
