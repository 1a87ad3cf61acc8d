"""Runs as jobs of a cluster, by the commands that a user types, from the repository's root."""

import json
import re
import shlex
import zipfile

import pytest

from dynarl.checkpoint.series import latest
from tests.helpers.real_ray import ROOT, Cluster, until

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TRAIN = ["python", "scripts/train_ppo.py"]


@pytest.fixture(scope="module")
def cluster():
    found = Cluster(cpus=4, dashboard=True)
    yield found
    left = found.close()
    assert not left, f"processes {left} outlived the head"


def test_the_readme_s_job_trains_with_workers(cluster, tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf8").replace("\\\n", " ")
    (line,) = re.findall(r"^(ray job submit .*)$", text, re.MULTILINE)
    words = shlex.split(line, comments=True)
    assert words[:5] == ["ray", "job", "submit", "--address", "http://127.0.0.1:8265"]
    run_dir = tmp_path / "run"
    words[words.index("--run-dir") + 1] = str(run_dir)
    found = cluster.job("submit", *words[5:])  # at the address of this cluster
    assert found.returncode == 0, found.stdout + found.stderr
    assert json.loads((run_dir / "summary.json").read_text())["eval_mean"] >= 475
    assert "succeeded" in found.stdout + found.stderr


def test_only_code_goes_up(tmp_path):
    from ray._private.runtime_env.packaging import create_package

    target = tmp_path / "package.zip"
    create_package(str(ROOT), target, include_gitignore=True, excludes=[".git"])
    assert target.stat().st_size < 4 * 2**20
    names = set(zipfile.ZipFile(target).namelist())
    assert {"dynarl/train.py", "dynarl/py.typed", "scripts/train_ppo.py", "configs/ppo/default.yaml"} <= names
    folders = {name.split("/")[0] for name in names}
    assert folders <= {"dynarl", "scripts", "configs", "pyproject.toml", "LICENSE", ".gitignore", ".rayignore"}
    assert not [name for name in names if "__pycache__" in name]


def test_a_relative_run_directory_is_refused(cluster):
    for flags in (["--run-dir", "runs/here"], []):
        found = cluster.job("submit", "--working-dir", ".", "--", *TRAIN, "--num-workers", 2, *flags)
        assert found.returncode == 1
        assert "error: run_dir: must be absolute inside a Ray job" in found.stdout


def test_an_impossible_request_fails_and_says_what_is_missing(cluster, tmp_path):
    flags = ["--num-workers", 2, "--cpus-per-worker", 3, "--run-dir", tmp_path / "run"]
    found = cluster.job("submit", "--working-dir", ".", "--", *TRAIN, *flags)
    assert found.returncode == 1
    assert "2 workers of 3 CPUs need 6 CPUs, the cluster has 4 on 1 node, enough for 1 workers" in found.stdout
    assert not (tmp_path / "run").exists()


def test_stop_saves_and_resubmitting_continues(cluster, tmp_path):
    run_dir = tmp_path / "run"
    flags = ["--run-dir", run_dir, "--num-workers", 2, "--placement", "pack", "--total-steps", 3_000_000]
    flags += ["--stop-at-return", "None", "--eval-every", 0, "--eval-episodes", 0, "--checkpoint-every", 0]
    words = ["--submission-id", "first", "--no-wait", "--working-dir", ".", "--", *TRAIN, *flags]
    assert cluster.job("submit", *words).returncode == 0
    until((run_dir / "metrics.jsonl").exists, "training")
    until((run_dir / "metrics.jsonl").read_text, "the first record")

    assert cluster.job("stop", "first").returncode == 0
    assert "STOPPED" in cluster.job("status", "first").stdout.upper()
    stopped = latest(run_dir)  # raises where it does not verify
    steps = stopped.meta["env_steps"]
    assert f"SIGTERM: saved {stopped.path}" in cluster.job("logs", "first").stdout

    more = ["--resume", run_dir, "--total-steps", steps + 2_000]
    found = cluster.job("submit", "--working-dir", ".", "--", *TRAIN, *more)
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"from env step {steps:,}" in found.stdout
    assert json.loads((run_dir / "summary.json").read_text())["env_steps"] >= steps + 2_000


def test_submitting_with_a_wrong_token(cluster):
    found = cluster.job("submit", "--working-dir", ".", "--", "true", env={"RAY_AUTH_TOKEN": "cd" * 32})
    assert found.returncode == 1
    assert "403" in found.stdout + found.stderr or "Authentication" in found.stdout + found.stderr
