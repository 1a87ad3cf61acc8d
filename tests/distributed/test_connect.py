"""Joining a cluster: what is wrong is said in one line, within seconds, by the script itself."""

import socket
import subprocess
import sys

import pytest

from dynarl.config import ConfigError
from dynarl.distributed import connect
from tests.helpers.real_ray import ROOT, Cluster

pytest.importorskip("ray")
SMALL = ["--num-workers", 1, "--cpus-per-worker", 0, "--num-envs", 4, "--num-steps", 32, "--batch-size", 32]
SMALL += ["--total-steps", 256, "--eval-episodes", 0, "--eval-every", 0, "--stop-at-return", "None"]
SECONDS = 60  # Ray alone would take 20 s, minutes, or for ever; on an idle machine each takes one second


@pytest.fixture(scope="module")
def cluster():
    with Cluster(cpus=2) as found:
        yield found


def run(cluster, *flags, env=None, seconds=SECONDS):
    """Run the script and return its status and standard error."""
    with cluster.train(*SMALL, *flags, env=env) as process:
        try:
            _, errors = process.communicate(timeout=seconds)
        finally:
            process.kill()
    return process.returncode, errors


def refused(cluster, tmp_path, address, env=None):
    """Run the script, see that it refuses in one line and leaves nothing, and return that line."""
    status, errors = run(cluster, "--ray-address", address, "--run-dir", tmp_path / "run", env=env)
    assert status == 2, errors
    assert errors.count("\n") == 1 and errors.startswith("error: "), errors
    assert not (tmp_path / "run").exists()
    return errors


def test_by_gcs_and_by_client(cluster, tmp_path):
    for name, address in (("gcs", cluster.address), ("client", cluster.client)):
        for _ in range(2):  # a Ray Client server that forks at a bad moment hangs up after 30 s
            status, errors = run(cluster, "--ray-address", address, "--run-dir", tmp_path / name, seconds=120)
            if "Initialization failure" not in errors:
                break
        assert (status, errors) == (0, "")
        assert (tmp_path / name / "summary.json").is_file()


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"RAY_AUTH_TOKEN": "cd" * 32}, "rejects the token of this process; set RAY_AUTH_TOKEN to the cluster's"),
        ({"RAY_AUTH_TOKEN": "", "HOME": "/nonexistent"}, "requires a token"),
        ({"RAY_AUTH_MODE": "disabled"}, "requires a token, but RAY_AUTH_MODE is 'disabled' here"),
    ],
)
def test_tokens(cluster, tmp_path, env, message):
    assert message in refused(cluster, tmp_path, cluster.address, env)


def test_a_wrong_token_by_client(cluster, tmp_path):
    assert "rejects the token" in refused(cluster, tmp_path, cluster.client, {"RAY_AUTH_TOKEN": "cd" * 32})


def test_a_port_that_is_not_rays(monkeypatch):
    monkeypatch.setattr(connect, "_ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        where = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"the service at {where} is not the head of a Ray cluster"):
            connect.connect(f"ray://{where}")
    with pytest.raises(ConfigError, match=f"nothing answers at {where}.*start Ray there with `ray start --head`"):
        connect.connect(f"ray://{where}")


def test_a_port_where_nothing_listens(cluster, tmp_path):
    assert "nothing answers at 127.0.0.1:9" in refused(cluster, tmp_path, "127.0.0.1:9")


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("ray.__version__ = '2.0.1'", r"runs Ray \S+ on Python \S+, this process Ray 2\.0\.1 on.*; install ray=="),
        (
            "ray._private.utils.compute_version_info = lambda: (ray.__version__, '3.99.0')",
            r"on Python 3\.99\.0; both versions must match",
        ),
    ],
)
def test_other_versions(cluster, patch, message):
    source = f"import ray; {patch}\nfrom dynarl.distributed.connect import connect\nconnect({cluster.address!r})"
    found = subprocess.run(
        [sys.executable, "-c", source], env=cluster.environ, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS
    )
    last = found.stderr.strip().splitlines()[-1]
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(last)


def test_python_versions_that_differ_in_the_patch_say_how_to_accept_that():
    both = "Ray: 2.60.0 Python: 3.11.{} "
    assert "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor" in str(
        connect._version_error("h:1", both.format(7) + both.format(9))
    )
    assert "cannot connect to Ray at h:1: Version mismatch: x y" in str(
        connect._version_error("h:1", "Version mismatch: x\ny")
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere", "must be auto, HOST:PORT or ray://HOST:PORT, got 'nowhere'"),
        ("http://127.0.0.1:8265", "got 'http://127.0.0.1:8265'; http:// addresses are for `ray job submit`"),
        ("127.0.0.1:99999", "nothing answers at"),
    ],
)
def test_addresses_that_are_none(address, message):
    with pytest.raises(ConfigError, match=message):
        connect.connect(address)


def test_open_clusters(capsys):
    for dashboard in ("", "127.0.0.1:8265", "http://localhost:8265", "[::1]:8265"):
        connect._judge_open("h:1", dashboard, False)
        assert "warning: Ray at h:1 requires no token" in capsys.readouterr().err
    for dashboard in ("192.0.2.2:8265", "http://head:8265", "0.0.0.0:8265"):
        with pytest.raises(ConfigError, match=r"open to other machines.*RAY_AUTH_MODE=token.*--ray-allow-open"):
            connect._judge_open("h:1", dashboard, False)
        connect._judge_open("h:1", dashboard, True)
