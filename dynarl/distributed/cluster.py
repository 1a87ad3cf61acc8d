"""Ray itself: a private one on this machine's loopback, or one that is there already."""

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
from dynarl.distributed.connect import join, one_line
from dynarl.extras import how_to_install

__all__ = ["connected", "require", "require_resources"]

_LONGEST_ROOT = 24
_PRIVATE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the one way to make ray.init listen on 127.0.0.1 only
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray reads the mode when it is imported, and the token once in the life of a process.
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}


def require() -> None:
    """Raise ConfigError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(f"num_workers: workers run on Ray, which is not installed: {how_to_install('ray')}")


@contextlib.contextmanager
def connected(address: str | None, *, cpus: float, allow_open: bool = False) -> Iterator[None]:
    """Inside, this process is connected to Ray: to the one at `address`, to a job's own, else to a private one.

    A private Ray has `cpus` CPUs to give away at least, listens on 127.0.0.1 with a token made for it, and is shut
    down at the end. One that the process was connected to before is used and left as it is. Raises ConfigError,
    also, without `allow_open`, for one that other machines may use without a token.
    """
    require()
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    address = None if address == "local" else address  # Ray's own word for a private one
    files = "" if address else _directory()
    try:
        with _signals_kept():
            if address:
                join(address, allow_open=allow_open)
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
    """Return a new directory for the logs and sockets of a private Ray; the path of a socket has 107 bytes at most."""
    root = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="dynarl-ray-", dir=root if len(root) <= _LONGEST_ROOT else "/tmp")


def _start_private(cpus: float, files: str) -> None:
    before = {name: os.environ.get(name) for name in _PRIVATE}
    # Imported before, Ray has read that no mode is set, and turns to tokens by itself in init.
    late = {"RAY_AUTH_MODE"} if "ray" in sys.modules else set()
    if late:
        import ray._private.ray_constants as constants

        constants.ENABLE_RAY_CLUSTER = False  # what the variable below says to an import
    os.environ.update({n: value for n, value in _PRIVATE.items() if before[n] is None and n not in late})
    try:
        import ray

        ray.init(
            num_cpus=max(int(cpus + 0.999), os.cpu_count() or 1),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=f"{files}/ray",  # Ray lets everybody write into it; the one around it is ours alone
        )
    except Exception as error:
        raise ConfigError(f"num_workers: Ray does not start on this machine: {one_line(error)}") from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def require_resources(workers: int, cpus_per_worker: float, *, deadline: float = 10.0) -> None:
    """Raise ConfigError unless the cluster can ever give the workers their CPUs; nodes may join until `deadline`."""
    end = time.monotonic() + deadline
    while (missing := _missing(workers, cpus_per_worker)) is not None:
        if time.monotonic() >= end:
            raise ConfigError(missing)
        time.sleep(0.5)


def _missing(workers: int, each: float) -> str | None:
    import ray

    list_nodes: Any = ray.nodes
    nodes = [node["Resources"].get("CPU", 0.0) for node in list_nodes() if node["Alive"]]
    room = sum(int(cpus / each + 1e-9) for cpus in nodes) if each else workers
    if room >= workers:
        return None
    have = " + ".join(f"{cpus:g}" for cpus in nodes) or "0"
    return (
        f"num_workers: {workers} workers of {each:g} CPUs need {workers * each:g} CPUs, the cluster has {have} on "
        f"{len(nodes)} node{'s' * (len(nodes) != 1)}, room for {room} workers; add nodes, or lower num_workers or "
        "cpus_per_worker"
    )


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Put back the handlers that Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
