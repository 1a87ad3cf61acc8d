"""Several nodes: workers spread over them, one lost, one added, one that lacks a package."""

import contextlib
import json
import signal
from pathlib import Path

import pytest

from tests.helpers.real_ray import Cluster, marked, until

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ENDLESS = ["--num-envs", 4, "--num-steps", 64, "--batch-size", 64, "--log-every", 256, "--total-steps", 10**8]
ENDLESS += ["--num-workers", 4, "--stop-at-return", "None", "--eval-every", 0, "--eval-episodes", 0]
WITHOUT_DYNARL = """
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "dynarl":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
"""


@pytest.fixture
def cluster():
    with Cluster(cpus=0) as found:
        yield found


def workers(cluster, node):
    """How many of a node's processes are workers."""
    found = 0
    for pid in marked(f"{cluster.name}-{node}"):
        with contextlib.suppress(OSError):
            found += b"ray::_RayHost" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return found


def records(run_dir):
    """The training records of a run so far."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [record for line in lines if "workers/alive" in (record := json.loads(line))]


@contextlib.contextmanager
def training(cluster, run_dir, *flags):
    """A run that has begun to train; at the end it is stopped, and must say that it saved."""
    with cluster.train(*ENDLESS, "--ray-address", cluster.address, "--run-dir", run_dir, *flags) as process:
        try:
            until(lambda: records(run_dir) or process.poll() is not None, "the first record")
            assert process.poll() is None, process.stderr.read()
            yield
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=120)
            assert process.returncode == 128 + signal.SIGTERM, err
            assert "SIGTERM: saved" in out
        finally:
            process.kill()


@pytest.mark.parametrize(("placement", "shares"), [("spread", [2, 2]), ("pack", [0, 4])])
def test_placement(cluster, tmp_path, placement, shares):
    nodes = [cluster.add(cpus=4), cluster.add(cpus=4)]
    with training(cluster, tmp_path / "run", "--placement", placement):
        assert sorted(workers(cluster, node) for node in nodes) == shares


def test_a_node_is_lost_and_another_takes_its_place(cluster, tmp_path):
    kept, lost = cluster.add(cpus=2), cluster.add(cpus=2)
    with training(cluster, tmp_path / "run"):
        assert workers(cluster, lost) == 2
        cluster.lose(lost)
        new = cluster.add(cpus=2)
        until(lambda: workers(cluster, new) == 2, "workers on the new node")
        assert workers(cluster, kept) == 2
        seen = len(records(tmp_path / "run"))
        until(lambda: len(records(tmp_path / "run")) > seen + 2, "training on")
        last = records(tmp_path / "run")[-1]
    assert last["workers/alive"] == 4
    ledger = {name.partition("/")[2]: value for name, value in last.items() if name.startswith("ledger/")}
    assert ledger["restarts"] >= 2
    assert ledger["lost"] >= 1
    assert ledger["requested"] == ledger["delivered"] + ledger["lost"] + ledger["in_flight"]


def test_a_node_that_is_about_to_join_makes_room(cluster, tmp_path):
    cluster.add(cpus=2)
    cluster.add(cpus=2, wait=False)
    with training(cluster, tmp_path / "run"):
        assert records(tmp_path / "run")[-1]["workers/alive"] == 4


def test_a_node_without_the_package_is_named(cluster, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_DYNARL)
    cluster.add(cpus=4, env={"PYTHONPATH": str(tmp_path)})
    with cluster.train(*ENDLESS, "--ray-address", cluster.address, "--run-dir", tmp_path / "run") as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert errors.count("\n") == 1, errors
    assert "node 127.0.0.1 cannot run workers: ModuleNotFoundError: No module named 'dynarl" in errors
