"""scripts/train_sac.py: a run, its resume to the bit, and what is refused before any work."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from dynarl import checkpoint

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_sac.py"
SMALL = [
    "--hidden-sizes",
    "16",
    "--batch-size",
    "32",
    "--learning-starts",
    "50",
    "--eval-every",
    "0",
    "--eval-episodes",
    "2",
    "--no-tensorboard",
]


def run(*arguments):
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def final_state(run_dir):
    summary = json.loads((run_dir / "summary.json").read_text())
    return summary, checkpoint.load(summary["checkpoint"]).state


def test_stopped_and_resumed_is_one_run(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*SMALL, "--total-steps", "400", "--run-dir", str(whole)).returncode == 0
    assert run(*SMALL, "--total-steps", "200", "--run-dir", str(parts)).returncode == 0
    done = run("--resume", str(parts), "--total-steps", "400")
    assert done.returncode == 0, done.stderr
    (summary, one), (again, other) = final_state(whole), final_state(parts)
    assert summary["algo"] == "sac" and summary["env_steps"] == again["env_steps"] == 400
    assert summary["eval_mean"] == again["eval_mean"]
    assert "Pendulum-v1: mean return" in done.stdout
    for name in ("actor", "critics", "target_critics"):
        for key in one[name]:
            assert np.array_equal(one[name][key], other[name][key]), (name, key)
    assert np.array_equal(one["replay"]["obs"], other["replay"]["obs"])


def test_a_run_too_short_to_learn_is_refused(tmp_path):
    done = run("--learning-starts", "500", "--total-steps", "400", "--run-dir", str(tmp_path / "run"))
    assert done.returncode == 2
    assert "learning_starts: 500 is not reached in 400 steps" in done.stderr
    assert "Traceback" not in done.stderr


def test_unsupported_actions_are_refused_in_words(tmp_path):
    done = run("--env-id", "dynarl/IdentityMultiBinary-v0", "--run-dir", str(tmp_path / "run"))
    assert done.returncode == 2
    assert "supported action spaces are bounded Box and Discrete, got MultiBinary" in done.stderr
