"""Connects to a running Ray. Configuration errors are found within seconds and reported in one line."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from dynarl.config import ConfigError

__all__ = ["connect", "one_line"]

_ANSWER_SECONDS = 10.0
_CLIENT = "ray://"
_GENERATED = "ray.core.generated"


def connect(address: str, *, allow_open: bool = False) -> None:
    """Connect this process to the Ray at `address`: auto, HOST:PORT or ray://HOST:PORT.

    Ray itself retries for minutes, or forever, if a port belongs to another service or a token is wrong, so the head
    is queried first. Raises ConfigError if nothing answers, the service is not Ray, the token is missing or wrong, or
    versions differ; without `allow_open` also if other machines reach a dashboard that requires no token.
    """
    import ray

    where = _host_and_port(address)
    wants_token = _ask(where, client=address.startswith(_CLIENT))
    try:
        context = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        if "Version mismatch" in str(error):
            raise _version_error(where, str(error)) from error
        raise ConfigError(f"ray_address: cannot connect to Ray at {address}: {one_line(error)}") from error
    try:
        if not wants_token:
            _judge_open(where, str(context.dashboard_url or ""), allow_open)
    except BaseException:
        ray.shutdown()
        raise


def one_line(error: Exception) -> str:
    """Return the type of an error and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


def _host_and_port(address: str) -> str:
    """Return HOST:PORT at which a service listens."""
    from ray._private import services

    where = address.removeprefix(_CLIENT)
    if address == "auto":
        try:
            where = services.canonicalize_bootstrap_address_or_die("auto")
        except ConnectionError as error:
            raise ConfigError(
                "ray_address: 'auto' found no Ray on this machine; start one with `ray start --head`, or omit "
                f"the address for a private Ray ({one_line(error)})"
            ) from error
    host, _, port = where.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        jobs = "; http:// addresses are for `ray job submit`" if address.startswith("http") else ""
        raise ConfigError(f"ray_address: must be auto, HOST:PORT or ray://HOST:PORT, got {address!r}{jobs}")
    if address != "auto" and not address.startswith(_CLIENT):
        # Ray replaces 127.0.0.1 by this machine's external address, unless it was started without one.
        where = services.canonicalize_bootstrap_address(where) or where
        host, _, port = where.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"ray_address: nothing answers at {where} ({error}); start Ray there with `ray start --head`, "
            "or omit the address for a private Ray on this machine"
        ) from error
    return where


def _ask(where: str, *, client: bool) -> bool:
    """Ask the head at HOST:PORT whether it accepts this process; return whether it requires a token."""
    try:
        import grpc

        call = _client_call if client else _metadata_call
        with _channel(where) as channel:
            ask = call(channel)
            answer, status = _status(ask, None)
            wants_token = status == grpc.StatusCode.UNAUTHENTICATED
            if wants_token:
                answer, status = _status(ask, _token(where))
    except ImportError:  # no grpcio, or another layout of Ray: ray.init reports the problem later
        return True
    if status == grpc.StatusCode.UNAUTHENTICATED:
        raise ConfigError(
            f"ray_address: Ray at {where} rejects the token of this process; set RAY_AUTH_TOKEN to the cluster's "
            "token, which `ray get-auth-token` prints on the head node"
        )
    if status is not None:
        usual = "10001 for ray://HOST:PORT" if client else "6379 for HOST:PORT, and ray://HOST:10001 from outside"
        raise ConfigError(
            f"ray_address: the service at {where} is not the head of a Ray cluster ({status.name}); "
            f"Ray's default ports are {usual}"
        )
    if not client:
        _refuse_other_versions(where, answer)
    return wants_token


def _module(name: str) -> Any:
    """Import a module of Ray that has no type annotations."""
    return importlib.import_module(name)


def _status(ask: Any, token: str | None) -> tuple[Any, Any]:
    """Return (answer, None) on success, else (None, status code)."""
    import grpc

    headers = [] if token is None else [("authorization", f"Bearer {token}")]
    try:
        return ask(headers), None
    except grpc.RpcError as error:
        return None, error.code()


@contextlib.contextmanager
def _channel(where: str) -> Iterator[Any]:
    import grpc

    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        certificate, key, authority = _module("ray._common.tls_utils").load_certs_from_env()
        credentials = grpc.ssl_channel_credentials(authority, key, certificate)
        channel = grpc.secure_channel(where, credentials)
    else:
        channel = grpc.insecure_channel(where)
    try:
        yield channel
    finally:
        channel.close()


def _metadata_call(channel: Any) -> Any:
    """Return the call that asks a head for the versions of its cluster."""
    messages, services = _module(f"{_GENERATED}.gcs_service_pb2"), _module(f"{_GENERATED}.gcs_service_pb2_grpc")
    request = messages.InternalKVGetRequest(key=b"CLUSTER_METADATA", namespace=b"cluster")
    stub = services.InternalKVGcsServiceStub(channel)
    return lambda headers: stub.InternalKVGet(request, timeout=_ANSWER_SECONDS, metadata=headers)


def _client_call(channel: Any) -> Any:
    """Return the call that pings a Ray Client server."""
    messages, services = _module(f"{_GENERATED}.ray_client_pb2"), _module(f"{_GENERATED}.ray_client_pb2_grpc")
    request = messages.ClusterInfoRequest(type=messages.ClusterInfoType.PING)
    stub = services.RayletDriverStub(channel)
    named = [("client_id", "dynarl")]
    return lambda headers: stub.ClusterInfo(request, timeout=_ANSWER_SECONDS, metadata=[*headers, *named])


def _token(where: str) -> str:
    """Return the token of this process for a cluster that requires one, and make Ray use it."""
    setup = _module("ray._private.authentication.authentication_token_setup")
    loader = _module("ray._raylet").AuthenticationTokenLoader.instance()
    try:
        found = loader.get_raw_token(ignore_auth_mode=True) if loader.has_token(ignore_auth_mode=True) else ""
    except Exception as error:
        raise ConfigError(f"ray_address: the token for Ray at {where} cannot be read: {one_line(error)}") from error
    if not found:
        raise ConfigError(
            f"ray_address: Ray at {where} requires a token and this process has none; set RAY_AUTH_TOKEN to the "
            "output of `ray get-auth-token` on the head node, and RAY_AUTH_MODE=token"
        )
    logger = logging.getLogger(setup.__name__)
    before = logger.level
    logger.setLevel(logging.ERROR)  # it logs that a token was found
    try:
        enabled = setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    finally:
        logger.setLevel(before)
    if not enabled:
        raise ConfigError(
            f"ray_address: Ray at {where} requires a token, but RAY_AUTH_MODE is "
            f"{os.environ.get('RAY_AUTH_MODE')!r} here, so none is sent; set RAY_AUTH_MODE=token"
        )
    return found.decode() if isinstance(found, bytes) else str(found)


def _refuse_other_versions(where: str, answer: Any) -> None:
    from ray._private.utils import check_version_info

    if not answer.value:
        return
    try:
        check_version_info(json.loads(answer.value), "this machine")
    except RuntimeError as error:
        raise _version_error(where, str(error)) from error


def _version_error(where: str, message: str) -> ConfigError:
    """Shorten Ray's multi-line message, with two versions of Ray and two of Python, to one line."""
    rays, pythons = re.findall(r"Ray: (\S+)", message), re.findall(r"Python: (\S+)", message)
    if len(rays) != 2 or len(pythons) != 2:
        return ConfigError(f"ray_address: cannot connect to Ray at {where}: {' '.join(message.split())}")
    compatible = rays[0] == rays[1] and pythons[0].split(".")[:2] == pythons[1].split(".")[:2]
    fix = f"install ray=={rays[0]} under Python {pythons[0]} here"
    if compatible:
        fix += ", or accept it with RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor"
    return ConfigError(
        f"ray_address: the cluster at {where} runs Ray {rays[0]} on Python {pythons[0]}, this process Ray {rays[1]} "
        f"on Python {pythons[1]}; both versions must match; {fix}"
    )


def _judge_open(where: str, dashboard: str, allow_open: bool) -> None:
    """Refuse a cluster that requires no token and whose dashboard is reachable from other machines."""
    host = dashboard.partition("://")[2] or dashboard
    host = host.rpartition(":")[0].strip("[]")
    if not host or _is_loopback(host):
        print(
            f"warning: Ray at {where} requires no token: anyone who reaches its ports can run code there; start it "
            "with RAY_AUTH_MODE=token (`ray get-auth-token --generate` makes one)",
            file=sys.stderr,
            flush=True,
        )
    elif not allow_open:
        raise ConfigError(
            f"ray_address: the dashboard at {dashboard} is open to other machines and requires no token, so anyone "
            "who reaches it can run code on the cluster; start the head with RAY_AUTH_MODE=token or "
            "--dashboard-host=127.0.0.1, or accept it with --ray-allow-open"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
