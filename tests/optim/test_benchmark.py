"""scripts/benchmark.py runs, and its floor computes what the library computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dynarl
import dynarl.distributions
import dynarl.nn.utils

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_quick_run_writes_rows(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), "--only", "adam,act", "--quick"]
    done = subprocess.run([*command, "--json", str(tmp_path / "out.json")], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr  # 1: a goal was missed, which a loaded machine may do
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["section"] for row in rows] == ["adam"] * 4 + ["act"] * 2
    assert all(row["best_s"]["floor"] > 0 and row["best_s"]["dynarl"] > 0 for row in rows)
    assert "Adam + clip, 4,610 parameters" in done.stdout


@pytest.mark.slow
def test_workers_are_measured_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), "--ray", "--quick", "--workers", "1,2"]
    files = ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.png")]
    done = subprocess.run([*command, *files], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["name"] for row in rows[:3]] == [
        "sync PPO, 1 workers",
        "sync PPO, 2 workers",
        "pipelined PPO, 1 workers",
    ]
    assert "simulated steps/s by workers" in done.stdout and (tmp_path / "out.png").exists()


def test_unknown_section() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "benchmark.py"), "--only", "adm"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "unknown sections adm; there are mlp, adam" in done.stderr


@pytest.mark.parametrize("agent", [False, True])
def test_floor_is_the_same_update(agent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks import networks

    rng = np.random.default_rng(0)
    weights = networks.weights_of((4, 64, 64, 2), rng), networks.weights_of((4, 64, 64, 1), rng)
    batch = networks.ppo_batch(64, rng)
    options = networks.PPO_OPTIONS
    floor, library = networks.floor_ppo_update(weights, batch), networks.ppo_update(dynarl, weights, batch)
    if agent:
        step = networks.agent_update(weights, batch)
        for _ in range(20):
            floor()
            step()
        parameters = np.concatenate([p.detach().numpy().reshape(-1) for p in step.func.__self__.policy.parameters()])
        np.testing.assert_allclose(floor.func.parameters.data, parameters, atol=1e-5)
        return
    for _ in range(20):
        policy_loss, value_loss, entropy = floor()
        loss = library().item()
        expected = policy_loss + options["vf_coef"] * value_loss - options["ent_coef"] * entropy
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("sizes", "activation"), [((4, 64, 64, 2), "tanh"), ((17, 256, 256, 6), "relu")])
def test_floor_is_the_same_network(sizes: tuple[int, ...], activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks import floor, networks

    rng = np.random.default_rng(0)
    weights = networks.weights_of(sizes, rng)
    x, y = rng.normal(size=(16, sizes[0])).astype(np.float32), rng.normal(size=(16, sizes[-1])).astype(np.float32)
    parameters = floor.Parameters(floor.size_of(sizes))
    network = floor.MLP(sizes, activation, 16, parameters)
    network.load(weights)
    network.backward((network.forward(x) - y) * (2 / y.size))
    ours = networks.mlp(dynarl, sizes, activation, weights)
    dynarl.nn.functional.mse_loss(ours(dynarl.as_tensor(x)), dynarl.as_tensor(y)).backward()
    gradient = np.concatenate([p.grad.numpy().reshape(-1) for p in ours.parameters()])
    np.testing.assert_allclose(parameters.grad, gradient, rtol=2e-4, atol=1e-6)
