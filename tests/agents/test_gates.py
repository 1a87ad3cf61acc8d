"""The shipped configurations reach what they say: the median of five seeds, run as a user would."""

import importlib
import json
import statistics
import warnings
from pathlib import Path

import pytest

from dynarl.agents import PPO
from dynarl.extras import how_to_install
from dynarl.train.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"
SEEDS = range(5)


def need(config):
    """Skip where the environment of a configuration is not installed."""
    text = (CONFIGS / config).read_text()
    for env, module in (("LunarLander", "Box2D"), ("HalfCheetah", "mujoco"), ("Hopper", "mujoco")):
        if f"env_id: {env}-" in text:
            # Box2D's SWIG module crashes the interpreter where its DeprecationWarnings are errors.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    importlib.import_module(module)
                except ImportError:
                    pytest.skip(f"needs {module}: {how_to_install('envs')}")


def final_return(agent_cls, config, seed, run_dir):
    """Run a configuration file to its end and return the mean of its final evaluation, 100 episodes."""
    flags = ["--seed", str(seed), "--run-dir", str(run_dir), "--no-tensorboard", "--no-progress"]
    assert main(agent_cls, [str(CONFIGS / config), *flags]) == 0
    return json.loads((run_dir / "summary.json").read_text())["eval_mean"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("config", "least"),
    [
        ("ppo/default.yaml", 475),
        ("ppo/cartpole.yaml", 475),
        ("ppo/acrobot.yaml", -90),
        ("ppo/mountaincarcontinuous.yaml", 90),
        ("ppo/pendulum.yaml", -250),
        ("ppo/lunarlander.yaml", 220),
    ],
)
def test_ppo_gate(config, least, tmp_path):
    need(config)
    means = [final_return(PPO, config, seed, tmp_path / str(seed)) for seed in SEEDS]
    assert statistics.median(means) >= least, means


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("config", "optimum"),
    [
        ("ppo/pointer_chase_adaptive.yaml", 1.0),
        ("ppo/sometimes_hard_exit.yaml", 1.0),
        ("ppo/dispatch_mixture.yaml", 1.0),
        ("ppo/heaviest_kind_set.yaml", 1.0),
        ("ppo/expression_tree.yaml", 1.0),
        ("ppo/feedback_switch_options.yaml", 0.902),
    ],
)
def test_policies_that_branch_reach_the_optimum(config, optimum, tmp_path):
    means = [final_return(PPO, config, seed, tmp_path / str(seed)) for seed in range(3)]
    assert statistics.median(means) >= 0.95 * optimum, means


@pytest.mark.slow
def test_nine_of_ten_default_runs_solve_cartpole(tmp_path):
    means = [final_return(PPO, "ppo/default.yaml", seed, tmp_path / str(seed)) for seed in range(10)]
    assert sum(mean >= 475 for mean in means) >= 9, means


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("ppo/*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_starts(config, tmp_path, monkeypatch):
    """One iteration of each, where its environment is installed."""
    need(config)
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its log into the working directory
    short = ["--total-steps", "1", "--eval-episodes", "1", "--stop-at-return", "None", "--num-epochs", "1"]
    flags = ["--run-dir", str(tmp_path / "run"), "--no-tensorboard", "--no-progress", *short]
    assert main(PPO, [str(config), *flags]) == 0
