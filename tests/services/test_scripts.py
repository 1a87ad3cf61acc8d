"""The scripts as a user runs them: train several seeds, evaluate, plot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dynarl import checkpoint, train
from dynarl.agents import PPO, PPOConfig
from dynarl.checkpoint import CheckpointError
from dynarl.checkpoint.series import numbered
from dynarl.config import RunConfig
from dynarl.extras import how_to_install
from dynarl.train import load_run, training
from dynarl.train.evaluate import main as evaluate_main
from dynarl.train.plot import aggregate, curves
from dynarl.train.plot import main as plot_main
from dynarl.train.summary import iqm

ROOT = Path(__file__).parents[2]
SMALL = {"num_envs": 2, "num_steps": 32, "batch_size": 64, "num_epochs": 1, "hidden_sizes": (8,)}
FLAGS = {"num-envs": 2, "num-steps": 32, "batch-size": 64, "num-epochs": 1, "hidden-sizes": 8}
FLAGS |= {"env-id": "CartPole-v1", "total-steps": 256, "eval-every": 128, "log-every": 64}
FLAGS |= {"periodic-eval-episodes": 2, "eval-episodes": 4, "num-seeds": 3, "seed": 5}


def script(name, *arguments, cwd):
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)


def run_config(path, **changes):
    common = {"env_id": "CartPole-v1", "total_steps": 256, "eval_every": 128, "periodic_eval_episodes": 2}
    common |= {"eval_episodes": 4, "log_every": 64, "progress": False, "tensorboard": False}
    return RunConfig(run_dir=str(path), **{**common, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three seeds of PPO, trained by the script."""
    path = tmp_path_factory.mktemp("runs")
    flags = [f"--{name}={value}" for name, value in FLAGS.items()]
    done = script("train_ppo", *flags, "--run-dir", "r", cwd=path)
    assert done.returncode == 0, done.stderr
    return path / "r", done


def test_several_seeds(trained):
    path, done = trained
    summary = json.loads((path / "summary.json").read_text())
    single = [json.loads((path / f"seed-{seed}" / "summary.json").read_text()) for seed in (5, 6, 7)]
    assert summary["runs"] == single and summary["seeds"] == [5, 6, 7]
    scores = [one["eval_mean"] for one in single]
    assert summary["eval_mean"] == pytest.approx(np.mean(scores))
    assert summary["eval_std"] == pytest.approx(np.std(scores, ddof=1))
    assert summary["eval_iqm"] == pytest.approx(np.mean(scores))
    assert (summary["env_steps"], summary["algo"]) == (3 * 256, "ppo")
    assert f"mean return {summary['eval_mean']:.1f} ± {summary['eval_std']:.1f} over 3 seeds" in done.stdout


def test_a_seed_is_the_run_it_is_alone(trained, tmp_path):
    path, _ = trained
    alone = train.run(PPO, run_config(tmp_path / "alone", seed=6), PPOConfig(**SMALL))
    assert alone["eval_mean"] == json.loads((path / "seed-6" / "summary.json").read_text())["eval_mean"]


def test_resuming_seeds(tmp_path, monkeypatch):
    """What is done stays, the seed that was stopped goes on, the rest begins."""
    begun, make = [], training.make_agent

    def watched(agent_cls, config, *rest):
        begun.append((config.seed, config.resume))
        return make(agent_cls, config, *rest)

    monkeypatch.setattr(training, "make_agent", watched)
    train.run(PPO, run_config(tmp_path / "r", num_seeds=2), PPOConfig(**SMALL))
    (tmp_path / "r" / "seed-1" / "summary.json").unlink()
    combined = train.run(PPO, run_config(tmp_path / "r", num_seeds=3, resume=True), PPOConfig(**SMALL))
    assert begun == [(0, False), (1, False), (1, True), (2, False)]
    assert combined["num_seeds"] == 3 and len(combined["runs"]) == 3


def test_a_signal_ends_all_seeds(tmp_path):
    class Stopping(PPO):
        def learn(self, total_steps, on_iteration=None):
            os.kill(os.getpid(), 2)
            return super().learn(total_steps, on_iteration)

    summary = train.run(Stopping, run_config(tmp_path / "r", num_seeds=3), PPOConfig(**SMALL))
    assert summary["stopped_by"] == "SIGINT"
    assert not (tmp_path / "r" / "seed-1").exists() and not (tmp_path / "r" / "summary.json").exists()


def test_interquartile_mean():
    assert iqm([3.0, 100.0, 1.0, 2.0]) == 2.5
    assert iqm([1.0, 2.0, 9.0]) == 4.0
    assert iqm(np.arange(10.0)) == 4.5
    assert iqm([[0, 0], [1, 5], [100, 200], [3, 3]]) == pytest.approx(3.0)  # sorted: 0 0 | 1 3 3 5 | 100 200
    with pytest.raises(ValueError, match="iqm: needs at least one score, got 0"):
        iqm([])


def test_evaluate_script(trained, tmp_path):
    path, _ = trained
    done = script("evaluate", path / "seed-5", "--episodes", 5, "--json", tmp_path / "e.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "e.json").read_text())
    assert len(found["returns"]) == 5 and found["returns"] == [float(length) for length in found["lengths"]]
    assert f"mean return {np.mean(found['returns']):.2f} ± " in done.stdout
    assert "over 5 deterministic episodes" in done.stdout and found["video"] is None
    scores = {p: checkpoint.read_manifest(p)["meta"]["score"] for _, p in numbered(path / "seed-5")}
    assert scores[Path(found["checkpoint"])] == max(s for s in scores.values() if s is not None)


def test_which_checkpoint(trained, capsys):
    run = trained[0] / "seed-5"
    newest = numbered(run)[-1][1]
    assert load_run.load_run(run, "latest")[1] == newest
    agent, path = load_run.load_run(run, str(newest))
    assert path == newest and isinstance(agent, PPO)
    assert load_run.load_run(run, newest.name)[1] == newest
    assert evaluate_main([str(run), "--episodes", "2", "--stochastic", "--seed", "3"]) == 0
    assert "over 2 stochastic episodes" in capsys.readouterr().out
    assert evaluate_main([str(run), "--checkpoint", "none"]) == 1
    assert "error: checkpoint: " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate_main([str(run), "--episodes", "0"])
    with pytest.raises(CheckpointError, match=r"holds the runs of 3 seeds; name one of them: .*/seed-5, .*/seed-6, "):
        load_run.load_run(trained[0])
    with pytest.raises(CheckpointError, match="holds no run"):
        load_run.load_run(run / "nowhere")
    with pytest.raises(CheckpointError, match=r"written by the algorithm 'magic', dynarl.agents has .*ppo"):
        load_run.agent_class("magic")


def test_evaluate_keeps_the_environments_arguments(tmp_path):
    config = run_config(tmp_path / "r", env_kwargs={"sutton_barto_reward": True})
    train.run(PPO, config, PPOConfig(**SMALL))
    agent, _ = load_run.load_run(tmp_path / "r", "latest")
    assert agent.evaluate(2).mean == -1.0  # this CartPole pays -1 at the end and nothing before
    assert load_run.load(numbered(tmp_path / "r")[-1][1]).evaluate(2).mean == -1.0


def test_a_run_without_checkpoints(tmp_path):
    (tmp_path / "config.yaml").write_text("env_id: CartPole-v1\n")
    with pytest.raises(CheckpointError, match="has none yet"):
        load_run.load_run(tmp_path)


def test_evaluate_records_a_video(trained):
    pytest.importorskip("PIL")
    pytest.importorskip("pygame")
    run = trained[0] / "seed-5"
    done = script("evaluate", run, "--episodes", 1, "--record-video", cwd=run)
    assert done.returncode == 0, done.stderr
    video = Path(done.stdout.splitlines()[-1].removeprefix("video: "))
    assert video.parent == run / "videos" and video.read_bytes()[:6] == b"GIF89a"


def test_plot_script(trained, tmp_path):
    pytest.importorskip("matplotlib")
    path, _ = trained
    done = script("plot", path, "--output", "new/c.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "CartPole-v1 ppo: " in done.stdout and "3 seeds" in done.stdout
    assert (tmp_path / "new" / "c.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_curves(trained, tmp_path):
    path, _ = trained
    (curve,) = curves([path], metric="eval/mean_reward", band="minmax")
    assert (curve.seeds, curve.env_steps[0], curve.env_steps[-1]) == (3, 128, 256)
    train.run(PPO, run_config(tmp_path / "other"), PPOConfig(**SMALL, learning_rate=0.01))
    first, second = curves([path / "seed-5", path / "seed-6", tmp_path / "other"], metric="eval/mean_reward")
    assert (first.seeds, second.seeds) == (2, 1)
    assert first.label == "CartPole-v1 ppo learning_rate 0.0003"
    assert second.label == "CartPole-v1 ppo learning_rate 0.01"


def test_bands():
    series = [(np.array([0.0, 10.0]), np.array([0.0, 10.0])), (np.array([0.0, 20.0]), np.array([2.0, 22.0]))]
    std = aggregate("x", series, "std", points=11)
    np.testing.assert_allclose(std.env_steps, np.arange(11.0))
    np.testing.assert_allclose(std.mean, np.arange(11.0) + 1)
    np.testing.assert_allclose(std.high - std.mean, np.sqrt(2))
    least = aggregate("x", series, "minmax", points=11)
    np.testing.assert_allclose(least.low, np.arange(11.0))
    ci = aggregate("x", series, "ci", points=11)
    assert (ci.low >= least.low - 1e-9).all() and (ci.high <= least.high + 1e-9).all()
    with pytest.raises(ValueError, match="the 2 runs of x have no environment steps in common"):
        aggregate("x", [(np.array([0.0]), np.array([1.0])), (np.array([5.0]), np.array([1.0]))])


def test_plot_errors(trained, tmp_path, monkeypatch, capsys):
    path, _ = trained
    with pytest.raises(ValueError, match=r"plot: .* holds no run \(config.yaml is missing\)"):
        curves([tmp_path], metric="x")
    with pytest.raises(ValueError, match=r"has no metric 'x'; it has env_steps, .*rollout/ep_rew_mean"):
        curves([path], metric="x")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert plot_main([str(path), "--output", str(tmp_path / "c.png")]) == 1
    assert f"drawing needs matplotlib: {how_to_install('plot')}" in capsys.readouterr().err
