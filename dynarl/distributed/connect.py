"""Joining a Ray that is there already. What can be wrong is found within seconds and said in one line."""

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

__all__ = ["join"]

_ANSWER_SECONDS = 10.0
_CLIENT = "ray://"
_GENERATED = "ray.core.generated"


def join(address: str, *, allow_open: bool = False) -> None:
    """Connect this process to the Ray at `address`: auto, HOST:PORT or ray://HOST:PORT.

    Ray itself retries for minutes, or for ever, where a port is not its own or a token is wrong; so its head is
    asked first. Raises ConfigError: nothing there, not Ray, a token that is missing or wrong, other versions, or,
    without `allow_open`, a dashboard that other machines reach and that wants no token.
    """
    import ray

    where = _host_and_port(address)
    wants_token = _ask(where, client=address.startswith(_CLIENT))
    try:
        context = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        if "Version mismatch" in str(error):
            raise _version_error(where, str(error)) from error
        raise ConfigError(f"ray_address: cannot join Ray at {address}: {one_line(error)}") from error
    try:
        if not wants_token:
            _judge_open(where, str(context.dashboard_url or ""), allow_open)
    except BaseException:
        ray.shutdown()
        raise


def one_line(error: Exception) -> str:
    """Return the type of an error and the first line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


def _host_and_port(address: str) -> str:
    """Return HOST:PORT where something listens."""
    from ray._private import services

    where = address.removeprefix(_CLIENT)
    if address == "auto":
        try:
            where = services.canonicalize_bootstrap_address_or_die("auto")
        except ConnectionError as error:
            raise ConfigError(
                "ray_address: auto finds no Ray on this machine; start one with `ray start --head`, or leave "
                f"the address out for a private Ray ({one_line(error)})"
            ) from error
    host, _, port = where.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        jobs = "; http:// is where `ray job submit` goes" if address.startswith("http") else ""
        raise ConfigError(f"ray_address: must be auto, HOST:PORT or ray://HOST:PORT, got {address!r}{jobs}")
    if address != "auto" and not address.startswith(_CLIENT):
        # Ray takes 127.0.0.1 for this machine's outer address, unless told that there is no outside.
        where = services.canonicalize_bootstrap_address(where) or where
        host, _, port = where.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"ray_address: nothing answers at {where} ({error}); start Ray there with `ray start --head`, "
            "or leave the address out for a private Ray on this machine"
        ) from error
    return where


def _ask(where: str, *, client: bool) -> bool:
    """Ask the head at HOST:PORT whether it will have this process; return whether it wants a token."""
    try:
        import grpc

        call = _client_call if client else _metadata_call
        with _channel(where) as channel:
            ask = call(channel)
            answer, status = _status(ask, None)
            wants_token = status == grpc.StatusCode.UNAUTHENTICATED
            if wants_token:
                answer, status = _status(ask, _token(where))
    except ImportError:  # no grpcio, or a Ray that is built otherwise: Ray will say it itself, later
        return True
    if status == grpc.StatusCode.UNAUTHENTICATED:
        raise ConfigError(
            f"ray_address: Ray at {where} does not accept the token of this process; take the cluster's own, "
            "as `ray get-auth-token` prints it on the head node, into RAY_AUTH_TOKEN"
        )
    if status is not None:
        usual = "10001 for ray://HOST:PORT" if client else "6379 for HOST:PORT, and ray://HOST:10001 from outside"
        raise ConfigError(
            f"ray_address: what answers at {where} is not the head of a Ray cluster ({status.name}); "
            f"Ray's own ports are {usual}"
        )
    if not client:
        _refuse_other_versions(where, answer)
    return wants_token


def _module(name: str) -> Any:
    """Import a module of Ray's that says nothing of its types."""
    return importlib.import_module(name)


def _status(ask: Any, token: str | None) -> tuple[Any, Any]:
    """Return (answer, None), or (None, status code) where there is none."""
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
    """Return the call that asks a head for the versions its cluster was started with."""
    messages, services = _module(f"{_GENERATED}.gcs_service_pb2"), _module(f"{_GENERATED}.gcs_service_pb2_grpc")
    request = messages.InternalKVGetRequest(key=b"CLUSTER_METADATA", namespace=b"cluster")
    stub = services.InternalKVGcsServiceStub(channel)
    return lambda headers: stub.InternalKVGet(request, timeout=_ANSWER_SECONDS, metadata=headers)


def _client_call(channel: Any) -> Any:
    """Return the call that asks a Ray Client server whether it is there."""
    messages, services = _module(f"{_GENERATED}.ray_client_pb2"), _module(f"{_GENERATED}.ray_client_pb2_grpc")
    request = messages.ClusterInfoRequest(type=messages.ClusterInfoType.PING)
    stub = services.RayletDriverStub(channel)
    named = [("client_id", "dynarl")]
    return lambda headers: stub.ClusterInfo(request, timeout=_ANSWER_SECONDS, metadata=[*headers, *named])


def _token(where: str) -> str:
    """Return the token of this process for a cluster that wants one, and let Ray use it."""
    setup = _module("ray._private.authentication.authentication_token_setup")
    loader = _module("ray._raylet").AuthenticationTokenLoader.instance()
    try:
        found = loader.get_raw_token(ignore_auth_mode=True) if loader.has_token(ignore_auth_mode=True) else ""
    except Exception as error:
        raise ConfigError(f"ray_address: the token for Ray at {where} cannot be read: {one_line(error)}") from error
    if not found:
        raise ConfigError(
            f"ray_address: Ray at {where} wants a token and this process has none; put what `ray get-auth-token` "
            "prints on the head node into RAY_AUTH_TOKEN, and RAY_AUTH_MODE=token"
        )
    logger = logging.getLogger(setup.__name__)
    before = logger.level
    logger.setLevel(logging.ERROR)  # it would say that there is a token
    try:
        enabled = setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    finally:
        logger.setLevel(before)
    if not enabled:
        raise ConfigError(
            f"ray_address: Ray at {where} wants a token and RAY_AUTH_MODE is {os.environ.get('RAY_AUTH_MODE')!r} "
            "here, so none is sent; set RAY_AUTH_MODE=token"
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
    """Put Ray's message of many lines, with two versions of Ray and two of Python, into one."""
    rays, pythons = re.findall(r"Ray: (\S+)", message), re.findall(r"Python: (\S+)", message)
    if len(rays) != 2 or len(pythons) != 2:
        return ConfigError(f"ray_address: cannot join Ray at {where}: {' '.join(message.split())}")
    alike = rays[0] == rays[1] and pythons[0].split(".")[:2] == pythons[1].split(".")[:2]
    fix = f"install ray=={rays[0]} under Python {pythons[0]} here"
    if alike:
        fix += ", or accept it with RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor"
    return ConfigError(
        f"ray_address: the cluster at {where} runs Ray {rays[0]} on Python {pythons[0]}, this process Ray {rays[1]} "
        f"on Python {pythons[1]}, and both must agree; {fix}"
    )


def _judge_open(where: str, dashboard: str, allow_open: bool) -> None:
    """Refuse a cluster that wants no token and whose dashboard is reached from other machines."""
    host = dashboard.partition("://")[2] or dashboard
    host = host.rpartition(":")[0].strip("[]")
    if not host or _is_loopback(host):
        print(
            f"warning: Ray at {where} wants no token: whoever reaches its ports runs code there; start it with "
            "RAY_AUTH_MODE=token (`ray get-auth-token --generate` makes one)",
            file=sys.stderr,
            flush=True,
        )
    elif not allow_open:
        raise ConfigError(
            f"ray_address: the dashboard at {dashboard} is open to other machines and wants no token, so anyone who "
            "reaches it runs code on the cluster; start the head with RAY_AUTH_MODE=token or "
            "--dashboard-host=127.0.0.1, or accept it with --ray-allow-open"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
