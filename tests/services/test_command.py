"""The command `dynarl`, as a process and as a function; names of earlier versions."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dynarl
from dynarl import extras
from dynarl.agents import DQN, PPO, SAC
from dynarl.config import ConfigError, tuned
from dynarl.moved import MOVED
from dynarl.train.command import main

SMALL = [
    "--total-steps",
    "256",
    "--num-envs",
    "2",
    "--num-steps",
    "32",
    "--batch-size",
    "64",
    "--eval-episodes",
    "1",
    "--no-tensorboard",
]


def test_train_and_evaluate_in_processes(tmp_path):
    def command(*arguments):
        words = [sys.executable, "-m", "dynarl", *arguments]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    done = command("train", "ppo", "acrobot", *SMALL, "--run-dir", "r")
    assert (done.returncode, done.stderr) == (0, "")
    assert "gae_lambda: 0.94" in (tmp_path / "r" / "config.yaml").read_text()
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["env_id"] == "Acrobot-v1"
    found = command("evaluate", "r", "--episodes", "1")
    assert found.stdout.startswith("ppo on Acrobot-v1, ckpt-000000000256: mean return")
    again = command("train", "ppo", "--resume", "r", "--total-steps", "320")
    assert "resume: total_steps 256 -> 320" in again.stdout


def test_overview_and_version(capsys):
    for argv in ([], ["--help"], ["train", "--help"]):
        assert main(argv) == 0
        shown = capsys.readouterr().out
        assert "dynarl train ALGORITHM [CONFIG]" in shown and "dynarl check ENV" in shown
        assert all(name in shown for algorithm in tuned.DEFAULTS for name in tuned.names(algorithm))
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dynarl {dynarl.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "error: dynarl: unknown command 'trian'; did you mean train?"),
        (["xyz"], "error: dynarl: unknown command 'xyz'; expected one of train, evaluate, plot, check"),
        (["train", "pp0"], "error: dynarl train: unknown algorithm 'pp0'; did you mean ppo?"),
        (["train", "ppo", "pendulm"], "there is no such file; did you mean pendulum?"),
        (["train", "ppo", "walker"], "walker is a configuration of sac"),
        (["train", "sac", "zzz"], "the names are halfcheetah, hopper, mountaincarcontinuous, pendulum, walker"),
        (["train", "ppo", "dqn/cartpole"], "cartpole is a configuration of dqn"),
    ],
)
def test_unknown_words_are_named_with_the_nearest(capsys, argv, message):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_run_of_another_algorithm_is_named(tmp_path, capsys):
    run = str(tmp_path / "r")
    assert main(["train", "ppo", "acrobot", *SMALL, "--run-dir", run]) == 0
    out = capsys.readouterr().out
    assert "total_steps" not in out  # 256 steps are four iterations of 64
    assert main(["train", "dqn", "--resume", run]) == 2
    assert capsys.readouterr().err == f"error: resume: {run} is a run of ppo, which dqn cannot continue\n"
    assert main(["train", "ppo", "--resume", run, "--total-steps", "300"]) == 0
    out = capsys.readouterr().out
    assert out.count("total_steps 300 is rounded up to 320: an iteration has 64 steps") == 1
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["env_steps"] == 320
    assert main(["plot", run, "--metric", "train/entropy", "--output", str(tmp_path / "c.png")]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(" 1 seed")


@pytest.mark.parametrize(
    ("agent", "settings", "steps"),
    [
        (PPO, {"num_envs": 3, "num_steps": 8, "batch_size": 24}, 24),
        (SAC, {"num_envs": 2, "train_freq": 5, "hidden_sizes": (4,)}, 10),
        (DQN, {"num_envs": 2, "train_freq": 50}, 100),
        (DQN, {"num_envs": 64, "train_freq": 50}, 0),
    ],
)
def test_steps_of_an_iteration(agent, settings, steps):
    made = agent("CartPole-v1", **settings)
    assert made.iteration_steps == steps
    before = made.env_steps
    made.learn(made.env_steps + 1_001)
    if steps:
        assert made.env_steps - before == -(-1_001 // steps) * steps
    made.env.close()


def test_ctrl_c_while_modules_load(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Interrupt:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'gymnasium':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt)\n"
    )
    paths = [str(tmp_path), str(Path(dynarl.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-m", "dynarl", "train", "ppo"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped at once\n")


def test_help_of_an_algorithm_lists_its_configurations(capsys):
    assert main(["train", "dqn", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "dynarl train dqn [CONFIG]" in shown and "acrobot, cartpole, lunarlander, mountaincar" in shown


def test_a_name_a_folder_and_a_path_are_one_file(tmp_path, monkeypatch):
    path = tuned.find("ppo", "pendulum")
    assert path.name == "pendulum.yaml" and tuned.find("ppo", "ppo/pendulum") == path
    assert tuned.find("ppo", str(path)) == path
    monkeypatch.chdir(tmp_path)
    Path("pendulum").write_text("seed: 3\n")  # a file of that name comes first
    assert tuned.find("ppo", "pendulum") == Path("pendulum")
    with pytest.raises(ConfigError, match="give the path of a YAML file"):
        tuned.find("mine", "pendulums")


def test_check(capsys):
    assert main(["check", "CartPole-v1", "--steps", "50"]) == 0
    assert "normalise observations" in capsys.readouterr().out
    assert main(["check", "CartPoll-v1"]) == 1
    assert "error: check:" in capsys.readouterr().err
    assert main(["check", "CartPole-v1", "--env-kwargs", "{no_such: 1}"]) == 1
    assert "no_such" in capsys.readouterr().err


def test_only_what_a_subcommand_needs_is_loaded():
    code = "import sys, dynarl.train.command as c; c.main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert not loaded & {"gymnasium", "tyro", "rich", "tensorboardX", "safetensors", "ray", "dynarl.agents"}


@pytest.mark.parametrize("old", MOVED)
def test_names_of_earlier_versions_name_the_new_one(old):
    parent, _, name = MOVED[old].rpartition(".")
    assert hasattr(importlib.import_module(parent), name) or importlib.import_module(MOVED[old])
    with pytest.raises(ImportError, match=rf"^{old} is now called {MOVED[old]}$"):
        importlib.import_module(old)
    package, _, name = old.rpartition(".")
    if old == "dynarl.envs.check":  # a function today
        return
    with pytest.raises(ImportError, match=rf"^{old} is now called {MOVED[old]}$"):
        exec(f"from {package} import {name}")


def test_names_of_earlier_versions_as_attributes():
    with pytest.raises(AttributeError, match=r"^dynarl\.plot is now called dynarl\.train\.plot$"):
        dynarl.plot  # noqa: B018
    with pytest.raises(ImportError, match=r"Checkpoint is now called dynarl\.callbacks\.CheckpointCallback"):
        from dynarl.callbacks import Checkpoint  # noqa: F401
    assert not hasattr(dynarl.callbacks, "no_such_name")
    with pytest.raises(ImportError, match=r"Recorder is now called dynarl\.batching\.DecisionRecorder"):
        from dynarl.batching import Recorder  # noqa: F401
    for package, old, new in [("batching", "Recorder", "DecisionRecorder"), ("distributed", "Plan", "WorkerPlan")]:
        with pytest.raises(AttributeError, match=rf"{package}\.{old} is now called dynarl\.{package}\.{new}$"):
            getattr(importlib.import_module(f"dynarl.{package}"), old)
    run = dynarl.batched(lambda x: x + 1)
    run(dynarl.ones(2))
    with pytest.raises(AttributeError, match="cohorts is now called groups"):
        run.last.cohorts  # noqa: B018


def test_how_to_install_follows_the_installation(tmp_path, monkeypatch):
    checkout = Path(extras.__file__).parents[1]
    monkeypatch.chdir(checkout)
    assert extras.how_to_install("cuda12", "cuda13") == "pip install -e '.[cuda12]' or pip install -e '.[cuda13]'"
    monkeypatch.chdir(tmp_path)
    assert extras.how_to_install("ray") == f"pip install -e '{checkout}[ray]'"
    monkeypatch.setattr(extras, "_PACKAGE", tmp_path / "site-packages" / "dynarl")  # an installed wheel
    listed = ["numpy>=2", "gymnasium[box2d]; extra == 'envs'", 'gymnasium[mujoco]>=1; extra == "envs"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: listed)
    assert extras.how_to_install("envs") == "pip install 'gymnasium[box2d]' 'gymnasium[mujoco]>=1'"
