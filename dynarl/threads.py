"""The number of threads of the linear algebra library."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ["blas_threads", "limit_threads"]


@contextlib.contextmanager
def blas_threads(number: int | None) -> Iterator[None]:
    """Limit BLAS to `number` threads inside (None: no limit).

    Two threads on busy cores made a product of two 256 x 256 matrices fifty times slower than one thread.
    """
    if number is None or os.environ.get("OPENBLAS_NUM_THREADS") == str(number):
        yield
        return
    import threadpoolctl

    with threadpoolctl.threadpool_limits(number, user_api="blas"):
        yield


def limit_threads(number: int) -> None:
    """Set the threads of the linear algebra library, unless environment variables have set them to `number`."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    if any(os.environ.get(name) != str(number) for name in names):
        import threadpoolctl

        threadpoolctl.threadpool_limits(number)
