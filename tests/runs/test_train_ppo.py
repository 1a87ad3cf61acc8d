"""PPO through a whole run: the script, and stopping and resuming to the same bytes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dynarl import train
from dynarl.agents import PPO, PPOConfig
from dynarl.checkpoint.series import latest
from dynarl.config import RunConfig
from dynarl.train import metrics

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_ppo.py"
SMALL = {"num_envs": 4, "num_steps": 64, "batch_size": 64, "num_epochs": 2}


def run_config(path, env_id, **changes):
    intervals = {"log_every": 300, "eval_every": 1024, "checkpoint_every": 1000, "eval_episodes": 2}
    return RunConfig(
        run_dir=str(path),
        env_id=env_id,
        periodic_eval_episodes=2,
        progress=False,
        **{"total_steps": 2048, **intervals, **changes},
    )


def differences(a, b, path=""):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        return [found for key in a for found in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list):
        return [found for i, (x, y) in enumerate(zip(a, b, strict=True)) for found in differences(x, y, f"{path}/{i}")]
    if isinstance(a, np.ndarray):
        return [] if (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) else [path]
    return [] if a == b else [path]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "Pendulum-v1", "MountainCarContinuous-v0"])
def test_2n_steps_equal_n_and_resume_and_n(tmp_path, env_id):
    config = PPOConfig(**SMALL, normalize_obs=True, normalize_reward=True)
    train.run(PPO, run_config(tmp_path / "whole", env_id), config)
    train.run(PPO, run_config(tmp_path / "parts", env_id, total_steps=1024), config)
    train.run(PPO, run_config(tmp_path / "parts", env_id, resume=True), config)
    assert_equal_runs(tmp_path / "whole", tmp_path / "parts")


def test_an_interrupted_run_continues_its_schedules(tmp_path):
    class Interrupted(PPO):
        def learn(self, total_steps, on_iteration=None):
            def stopping(found):
                return on_iteration(found) and self.iteration < 3

            return super().learn(total_steps, stopping)

    config = PPOConfig(**SMALL, learning_rate_schedule="linear", clip_range_schedule="linear")
    train.run(PPO, run_config(tmp_path / "whole", "CartPole-v1"), config)
    train.run(Interrupted, run_config(tmp_path / "parts", "CartPole-v1"), config)
    train.run(PPO, run_config(tmp_path / "parts", "CartPole-v1", resume=True), config)
    assert_equal_runs(tmp_path / "whole", tmp_path / "parts")


def assert_equal_runs(one, two):
    assert differences(latest(one).state, latest(two).state) == []
    lasting = [
        [
            {k: v for k, v in record.items() if not metrics.is_wall_clock(k)}
            for record in metrics.read(path / "metrics.jsonl")
        ]
        for path in (one, two)
    ]
    assert lasting[0] == lasting[1]


def test_the_script(tmp_path):
    flags = ["--total-steps", "4096", "--eval-every", "2048", "--eval-episodes", "3", "--run-dir", "r", "--seed", "1"]
    done = subprocess.run([sys.executable, str(SCRIPT), *flags], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "over 3 deterministic episodes after 4,096 env steps" in done.stdout
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert (summary["algo"], summary["seed"], summary["env_id"]) == ("ppo", 1, "CartPole-v1")
    agent = PPO.load(summary["checkpoint"])
    assert agent.evaluate(3).mean == summary["eval_mean"]
