"""Connection to Ray: a private instance on this machine's loopback, or a running cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from dynarl.config import ConfigError
from dynarl.distributed.connect import connect, one_line
from dynarl.extras import how_to_install

__all__ = ["connected", "require", "require_resources"]

_LONGEST_ROOT = 24
_PRIVATE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the only way to make ray.init listen on 127.0.0.1 alone
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray reads the mode when it is imported, and the token once per process.
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}


def require() -> None:
    """Raise ConfigError if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(f"num_workers: workers run on Ray, which is not installed: {how_to_install('ray')}")


@contextlib.contextmanager
def connected(address: str | None, *, cpus: float, allow_open: bool = False) -> Iterator[None]:
    """Connect this process to Ray within the block: to `address`, to the cluster of a Ray job, else to a private one.

    A private Ray has at least `cpus` CPUs, listens on 127.0.0.1 with a fresh token, and is shut down at the end. An
    existing connection of this process is used and kept open. Raises ConfigError if the connection fails, and, without
    `allow_open`, for a cluster that other machines can use without a token.
    """
    require()
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    address = None if address == "local" else address  # Ray's own name for a private instance
    files = "" if address else _directory()
    try:
        with _signals_kept():
            if address:
                connect(address, allow_open=allow_open)
            else:
                _start_private(cpus, files)
        yield
    finally:
        if "ray" in sys.modules:
            with _signals_kept():
                sys.modules["ray"].shutdown()
        if files:
            shutil.rmtree(files, ignore_errors=True)


def _directory() -> str:
    """Return a new directory for the logs and sockets of a private Ray. A socket path has at most 107 bytes."""
    root = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="dynarl-ray-", dir=root if len(root) <= _LONGEST_ROOT else "/tmp")


def _start_private(cpus: float, files: str) -> None:
    before = {name: os.environ.get(name) for name in _PRIVATE}
    # Ray reads RAY_AUTH_MODE at import. If it was imported before, it switches to tokens by itself in init.
    late = {"RAY_AUTH_MODE"} if "ray" in sys.modules else set()
    if late:
        import ray._private.ray_constants as constants

        constants.ENABLE_RAY_CLUSTER = False  # an import reads it from RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER
    os.environ.update({n: value for n, value in _PRIVATE.items() if before[n] is None and n not in late})
    try:
        import ray

        ray.init(
            num_cpus=max(int(cpus + 0.999), os.cpu_count() or 1),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=f"{files}/ray",  # Ray makes it world-writable; mkdtemp made its parent private to this user
        )
    except Exception as error:
        raise ConfigError(f"num_workers: Ray failed to start on this machine: {one_line(error)}") from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def require_resources(workers: int, cpus_per_worker: float, *, deadline: float = 10.0) -> None:
    """Raise ConfigError if the cluster cannot give the workers their CPUs; nodes may join for `deadline` seconds."""
    end = time.monotonic() + deadline
    while (missing := _missing(workers, cpus_per_worker)) is not None:
        if time.monotonic() >= end:
            raise ConfigError(missing)
        time.sleep(0.5)


def _missing(workers: int, each: float) -> str | None:
    import ray

    list_nodes: Any = ray.nodes
    nodes = [node["Resources"].get("CPU", 0.0) for node in list_nodes() if node["Alive"]]
    fit = sum(int(cpus / each + 1e-9) for cpus in nodes) if each else workers
    if fit >= workers:
        return None
    have = " + ".join(f"{cpus:g}" for cpus in nodes) or "0"
    return (
        f"num_workers: {workers} workers of {each:g} CPUs need {workers * each:g} CPUs, the cluster has {have} on "
        f"{len(nodes)} node{'s' * (len(nodes) != 1)}, enough for {fit} workers; add nodes, or lower num_workers or "
        "cpus_per_worker"
    )


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore the signal handlers that Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
