"""Runs: what they leave behind, and that stopping and resuming changes nothing."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dynarl import checkpoint, config, threads, train
from dynarl.checkpoint import CheckpointError, files
from dynarl.checkpoint.series import latest, numbered
from dynarl.config import ConfigError, RunConfig
from dynarl.train import metrics
from dynarl.train.cli import main
from dynarl.train.run_directory import RunDirectory, RunDirectoryError, default_run_dir, refuse_under_ray
from tests.helpers.tiny_agent import TinyAgent, TinyConfig

SCRIPT = Path(__file__).parents[1] / "helpers" / "train_tiny.py"
FAST = {"total_steps": 2048, "log_every": 300, "eval_every": 700, "checkpoint_every": 512, "eval_episodes": 5}
FAST_FLAGS = [f"--{key.replace('_', '-')}={value}" for key, value in FAST.items()]
SUMMARY_FIELDS = {
    *("env_id", "algo", "seed", "env_steps", "wall_time_s", "train_time_s", "env_steps_per_s"),
    *("eval_mean", "eval_std", "eval_episodes"),
}


def fast(path, **changes):
    return RunConfig(run_dir=str(path), periodic_eval_episodes=2, progress=False, **{**FAST, **changes})


def lasting(path):
    """The records of a run without the clock."""
    return [
        {name: value for name, value in record.items() if not metrics.is_wall_clock(name)}
        for record in metrics.read(path / "metrics.jsonl")
    ]


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    return a == b


def curves(path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "histograms": 0})
    events.Reload()
    return events


def test_a_run_leaves_everything_behind(tmp_path, capsys):
    summary = train.run(TinyAgent, fast(tmp_path / "r"), TinyConfig())
    said = capsys.readouterr().out
    assert "tiny on CartPole-v1, seed 0: up to 2,048 env steps" in said
    assert f"mean return {summary['eval_mean']:.1f}" in said
    assert "over 5 deterministic episodes after 2,048 env steps" in said
    assert json.loads((tmp_path / "r" / "summary.json").read_text()) == summary
    assert summary.keys() >= SUMMARY_FIELDS
    assert (summary["env_steps"], summary["stopped_by"], summary["algo"]) == (2048, "total_steps", "tiny")
    assert summary["wall_time_s"] >= summary["train_time_s"] > 0
    assert summary["env_steps_per_s"] == pytest.approx(2048 / summary["train_time_s"])
    found = latest(tmp_path / "r")
    assert found is not None
    assert found.meta["env_steps"] == 2048
    assert found.meta["config"] == {**vars(TinyConfig())}
    assert sorted(p.name for p in (tmp_path / "r").glob(".*")) == [".lock", ".saved"]


def test_curves_are_over_env_steps_and_equal_the_records(tmp_path):
    train.run(TinyAgent, fast(tmp_path / "r"))
    records = lasting(tmp_path / "r")
    steps = [r["env_steps"] for r in records if "train/loss" in r]
    assert steps == [320, 640, 960, 1216, 1536, 1856, 2048]  # the first iteration at or past n * 300
    assert [r["env_steps"] for r in records if "eval/mean_reward" in r] == [704, 1408]
    assert all("rollout/ep_rew_mean" in r for r in records if "train/loss" in r)
    assert not any("explained_variance" in name for r in records for name in r)
    events = curves(tmp_path / "r")
    for name in (
        "train/loss",
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "eval/mean_reward",
        "grad_steps",
    ):
        expected = [(r["env_steps"], r[name]) for r in records if name in r]
        shown = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in shown] == [step for step, _ in expected], name
        np.testing.assert_allclose([v for _, v in shown], [v for _, v in expected], rtol=1e-6)
    assert {"time/fps", "time/train_s", "time/eval_s"} <= set(events.Tags()["scalars"])
    histogram = events.Histograms("train/gradient")[0]
    assert histogram.step == 320
    assert histogram.histogram_value.num == 8
    assert sum(histogram.histogram_value.bucket) == 8


def test_records_hold_the_mean_of_their_window(tmp_path):
    every = train.run(TinyAgent, fast(tmp_path / "all", log_every=0, eval_every=0)) and lasting(tmp_path / "all")
    train.run(TinyAgent, fast(tmp_path / "some", eval_every=0))
    some = [r for r in lasting(tmp_path / "some") if "train/loss" in r]
    every = [r for r in every if "train/loss" in r]
    assert len(every) == 32
    assert some[0]["train/loss"] == pytest.approx(np.mean([r["train/loss"] for r in every[:5]]))
    assert some[0]["rollout/ep_rew_mean"] == every[4]["rollout/ep_rew_mean"]


@pytest.mark.parametrize("how", ["shorter first", "interrupted"])
def test_stopping_and_resuming_changes_nothing(tmp_path, how):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train.run(TinyAgent, fast(whole))
    if how == "shorter first":
        train.run(TinyAgent, fast(parts, total_steps=1088))  # within a window of the log
    else:
        stopped = stop_after(17, signal.SIGTERM, fast(parts))
        assert (stopped["stopped_by"], stopped["env_steps"]) == ("SIGTERM", 1088)
        assert not (parts / "summary.json").exists()
    train.run(TinyAgent, fast(parts, resume=True))
    assert lasting(whole) == lasting(parts)
    assert same(latest(whole).state, latest(parts).state)
    for name in ("train/loss", "rollout/ep_rew_mean", "eval/mean_reward"):
        one, two = curves(whole).Scalars(name), curves(parts).Scalars(name)
        assert [(e.step, e.value) for e in one] == [(e.step, e.value) for e in two]
    for field in ("env_steps", "eval_mean", "eval_std", "episodes"):
        assert read_summary(whole)[field] == read_summary(parts)[field]
    assert read_summary(parts)["train_time_s"] > 0


def read_summary(path):
    return json.loads((path / "summary.json").read_text())


def stop_after(iterations, number, run_config):
    class Stopping(TinyAgent):
        def _iterate(self):
            if self.iteration == iterations - 1:
                os.kill(os.getpid(), number)
            return super()._iterate()

    return train.run(Stopping, run_config)


def test_signal_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop_after(2, signal.SIGINT, fast(tmp_path / "r"))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_run_outside_the_main_thread(tmp_path):
    thread = threading.Thread(target=train.run, args=(TinyAgent, fast(tmp_path / "r")))
    thread.start()
    thread.join()
    assert read_summary(tmp_path / "r")["env_steps"] == 2048


def test_a_killed_run_continues_from_its_last_checkpoint(tmp_path):
    train.run(TinyAgent, fast(tmp_path / "whole"))
    command = [sys.executable, str(SCRIPT), "--run-dir", str(tmp_path / "r"), *FAST_FLAGS, "--slow", "0.01"]
    command += ["--periodic-eval-episodes", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not numbered(tmp_path / "r"):
        time.sleep(0.005)
        assert process.poll() is None
    time.sleep(0.15)
    process.kill()
    process.wait()
    with (tmp_path / "r" / "metrics.jsonl").open("ab") as file:
        file.write(b'{"env_steps": 99999, "torn')
    train.run(TinyAgent, fast(tmp_path / "r", resume=True))
    assert lasting(tmp_path / "r") == lasting(tmp_path / "whole")


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path):
    with RunDirectory(tmp_path / "r") as directory:
        directory.write_config("seed: 0\n")
    (tmp_path / "r" / "metrics.jsonl").write_text('{"env_steps": 64}\n')
    train.run(TinyAgent, fast(tmp_path / "r", resume=True))
    assert lasting(tmp_path / "r")[0]["env_steps"] == 320


@pytest.mark.parametrize("lost", ["the directory", "what is in it"])
def test_a_run_that_lost_its_checkpoints_is_not_begun_again(tmp_path, lost):
    train.run(TinyAgent, fast(tmp_path / "r"))
    before = (tmp_path / "r" / "metrics.jsonl").read_bytes()
    (tmp_path / "r" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "r" / "checkpoints")
    if lost != "the directory":
        (tmp_path / "r" / "checkpoints").mkdir()
    with pytest.raises(RunDirectoryError, match=r"had checkpoints, and .* holds none now; restore that directory"):
        train.run(TinyAgent, fast(tmp_path / "r", resume=True))
    assert (tmp_path / "r" / "metrics.jsonl").read_bytes() == before


def test_a_run_whose_directory_was_removed_or_renamed_can_be_resumed(tmp_path, capsys):
    def remove(agent, metrics):
        if agent.iteration == 2:
            (tmp_path / "r").rename(tmp_path / "elsewhere")

    train.run(TinyAgent, fast(tmp_path / "r", eval_episodes=0), callbacks=remove)
    assert "config.yaml is gone and is written again" in capsys.readouterr().err
    assert latest(tmp_path / "r") is not None
    train.run(TinyAgent, fast(tmp_path / "r", resume=True, total_steps=2560, eval_episodes=0))
    assert latest(tmp_path / "r").meta["env_steps"] == 2560


@pytest.mark.parametrize("damage", ["a directory for a file", "no permission", "a name of 300 characters"])
def test_a_newest_checkpoint_that_cannot_be_read_is_passed_over(tmp_path, capsys, damage):
    train.run(TinyAgent, fast(tmp_path / "r"))
    newest = numbered(tmp_path / "r")[-1][1]
    manifest = next(path for path in newest.iterdir() if path.suffix == ".json" and path.name != "state.json")
    if damage == "a directory for a file":
        (newest / "state.json").unlink()
        (newest / "state.json").mkdir()
    elif damage == "no permission":
        manifest.unlink()
        manifest.symlink_to(manifest)  # a loop: OSError for every user
    else:
        manifest.write_text(manifest.read_text().replace("state.json", "s" * 300))
    train.run(TinyAgent, fast(tmp_path / "r", resume=True))
    assert f"{newest.name} is not usable, trying the one before" in capsys.readouterr().err


def test_a_bad_newest_checkpoint_is_passed_over_and_set_aside(tmp_path, capsys):
    train.run(TinyAgent, fast(tmp_path / "whole"))
    train.run(TinyAgent, fast(tmp_path / "r"))
    newest = numbered(tmp_path / "r")[-1][1]
    (newest / "state.json").write_bytes(b"{}")
    train.run(TinyAgent, fast(tmp_path / "r", resume=True))
    assert f"{newest.name} is not usable, trying the one before" in capsys.readouterr().err
    assert (newest.parent / f"{newest.name}.aside-1").is_dir()
    assert same(latest(tmp_path / "whole").state, latest(tmp_path / "r").state)
    assert lasting(tmp_path / "whole") == lasting(tmp_path / "r")


def test_all_bad_is_refused_and_left_alone(tmp_path):
    train.run(TinyAgent, fast(tmp_path / "r"))
    before = (tmp_path / "r" / "metrics.jsonl").read_bytes()
    for _, path in numbered(tmp_path / "r"):
        (path / "MANIFEST.json").unlink()
    with pytest.raises(CheckpointError, match=r"none of the . checkpoints"):
        train.run(TinyAgent, fast(tmp_path / "r", resume=True))
    assert (tmp_path / "r" / "metrics.jsonl").read_bytes() == before


def test_resuming_with_altered_records_is_refused(tmp_path):
    train.run(TinyAgent, fast(tmp_path / "r"))
    (tmp_path / "r" / "metrics.jsonl").write_text("")
    with pytest.raises(RunDirectoryError, match=r"metrics\.jsonl has 0 bytes, the checkpoint was written at"):
        train.run(TinyAgent, fast(tmp_path / "r", resume=True))


def test_a_finished_run_says_how_to_go_on(tmp_path, capsys):
    train.run(TinyAgent, fast(tmp_path / "r"))
    train.run(TinyAgent, fast(tmp_path / "r", resume=True))
    assert "all 2,048 env steps are done; --total-steps N continues to N" in capsys.readouterr().out


def test_checkpoint_of_another_environment_or_algorithm(tmp_path):
    train.run(TinyAgent, fast(tmp_path / "r"))
    with pytest.raises(CheckpointError, match="observation_space differs"):
        train.run(TinyAgent, fast(tmp_path / "r", resume=True, env_id="MountainCar-v0"))

    class Other(TinyAgent):
        algorithm = "other"

    with pytest.raises(CheckpointError, match="written by 'tiny', it cannot be loaded into 'other'"):
        train.run(Other, fast(tmp_path / "r", resume=True))


def test_stops_when_the_return_is_reached_and_confirmed(tmp_path):
    summary = train.run(TinyAgent, fast(tmp_path / "r", stop_at_return=5.0))
    assert (summary["stopped_by"], summary["env_steps"], summary["eval_episodes"]) == (
        "stop_at_return",
        704,
        5,
    )
    assert summary["eval_mean"] >= 5.0
    agent = TinyAgent("CartPole-v1")
    agent.load_state_dict(latest(tmp_path / "r").state)
    assert agent.evaluate(5).mean == summary["eval_mean"]  # what anyone gets who loads the checkpoint


def test_the_episodes_that_decide_are_not_the_ones_reported(tmp_path):
    asked = []

    class Asked(TinyAgent):
        def evaluate(self, episodes=100, *, seed=None):
            asked.append((episodes, seed))
            return super().evaluate(episodes, seed=seed)

    train.run(Asked, fast(tmp_path / "r", stop_at_return=5.0))
    deciding = asked[0][1]
    assert deciding not in (None, 0)
    assert asked == [(2, deciding), (5, deciding), (5, None)]


def test_one_lucky_evaluation_does_not_end_the_run(tmp_path):
    class Lucky(TinyAgent):
        def evaluate(self, episodes=100, *, seed=None):
            found = super().evaluate(episodes, seed=seed)
            return found._replace(mean=1e9) if episodes == 2 else found

    summary = train.run(Lucky, fast(tmp_path / "lucky", stop_at_return=1e6))
    assert (summary["stopped_by"], summary["env_steps"]) == ("total_steps", 2048)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"poison_at": 20},
            r"train/loss is nan at env step 1280, iteration 20; .* last good checkpoint is .*1088",
        ),
        ({"poison_weight_at": 32}, r"policy/weight holds NaN at env step 2048, iteration 32"),
        ({"poison_at": 1}, r"no checkpoint was saved yet"),
    ],
)
def test_nan_stops_the_run_and_spares_the_last_good_checkpoint(tmp_path, changes, message):
    run_config = fast(tmp_path / "r", checkpoint_every=1088, eval_every=0)
    with pytest.raises(FloatingPointError, match=message):
        train.run(TinyAgent, run_config, TinyConfig(**changes))
    for _, path in numbered(tmp_path / "r"):
        assert np.isfinite(checkpoint.load(path).state["policy"]["weight"]).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_metric_may_be_infinite(value):
    with pytest.raises(FloatingPointError, match="train/grad_norm is"):
        metrics.Window().add({"train/grad_norm": value})
    with pytest.raises(FloatingPointError, match="episode/return is"):
        metrics.Window().add({"episode/return": [value]})


def test_directories_that_must_not_be_used(tmp_path):
    train.run(TinyAgent, fast(tmp_path / "r"))
    with pytest.raises(RunDirectoryError, match=r"exists and holds .*continue that run with --resume"):
        train.run(TinyAgent, fast(tmp_path / "r"))
    with pytest.raises(RunDirectoryError, match=r"resume: .* holds no run \(config\.yaml is missing\)"):
        train.run(TinyAgent, fast(tmp_path / "nothing", resume=True))
    (tmp_path / "file").write_text("")
    for path in ("file", "file/below"):
        with pytest.raises(RunDirectoryError, match="run_dir: cannot write to"):
            train.run(TinyAgent, fast(tmp_path / path))
    with (
        RunDirectory(tmp_path / "r", resume=True),
        pytest.raises(RunDirectoryError, match="another process is writing to"),
    ):
        train.run(TinyAgent, fast(tmp_path / "r", resume=True))
    (tmp_path / "empty").mkdir()
    assert train.run(TinyAgent, fast(tmp_path / "empty"))["env_steps"] == 2048


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path):
    with pytest.raises(ConfigError, match="tiny on Pendulum-v1: tiny: action space must be Discrete"):
        train.run(TinyAgent, fast(tmp_path / "r", env_id="Pendulum-v1"))
    with pytest.raises(ConfigError, match=r"tiny on CartPoll-v1: .*CartPoll"):
        train.run(TinyAgent, fast(tmp_path / "r", env_id="CartPoll-v1"))
    assert not (tmp_path / "r").exists()


def test_environment_arguments_reach_the_environment(tmp_path):
    train.run(TinyAgent, fast(tmp_path / "r", env_kwargs={"max_episode_steps": 5}))
    assert lasting(tmp_path / "r")[0]["rollout/ep_len_mean"] <= 5


def test_relative_directories_are_refused_inside_a_ray_job():
    cwd = "/tmp/ray/session/runtime_resources/working_dir_files/_ray_pkg_0123"
    for environ in ({"RAY_ADDRESS": "127.0.0.1:6379"}, {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}):
        with pytest.raises(RunDirectoryError, match=r"must be absolute inside a Ray job, got 'runs/x'"):
            refuse_under_ray("runs/x", environ, cwd)
        refuse_under_ray("/data/x", environ, cwd)
        refuse_under_ray("runs/x", environ, "/home/me")
    refuse_under_ray("runs/x", {}, cwd)


def test_default_directories_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(2):
        names.append(default_run_dir(RunConfig(env_id="ALE/Pong-v5", seed=3), "ppo"))
        names[-1].mkdir(parents=True)
    assert names[0] != names[1]
    assert names[0].parts[0] == "runs"
    assert names[0].name.startswith("ALE_Pong_v5-ppo-3-20")


# ------------------------------------------------------------------------------------------ the command line


def command(*flags, cwd, check=None):
    process = subprocess.run([sys.executable, str(SCRIPT), *flags], cwd=cwd, capture_output=True, text=True, timeout=60)
    if check is not None:
        assert process.returncode == check, process.stderr
    return process


def test_the_script_runs_and_its_config_can_be_fed_back(tmp_path):
    first = command(*FAST_FLAGS, "--run-dir", "one", "--seed", "4", cwd=tmp_path, check=0)
    assert "mean return" in first.stdout
    assert first.stderr == ""
    command("one/config.yaml", "--run-dir", "two", cwd=tmp_path, check=0)
    assert lasting(tmp_path / "one") == lasting(tmp_path / "two")
    assert (tmp_path / "one" / "config.yaml").read_text() == (tmp_path / "two" / "config.yaml").read_text()


def test_errors_are_one_line_and_have_their_status(tmp_path):
    (tmp_path / "bad.yaml").write_text("lerning_rate: 1\n")
    failed = command("bad.yaml", cwd=tmp_path, check=2)
    assert failed.stderr == "error: config: bad.yaml: unknown field 'lerning_rate'; " + (
        "did you mean 'learning_rate'?\n"
    )
    assert "--learning-rate" in command("--lerning-rate", "1", cwd=tmp_path, check=2).stderr
    assert "Perhaps you meant" in command("--lerning-rate", "1", cwd=tmp_path, check=2).stderr
    assert "CartPoll" in command("--env-id", "CartPoll-v1", cwd=tmp_path, check=2).stderr
    assert "imports the module" in command("--env-id", "os:X-v0", cwd=tmp_path, check=2).stderr
    assert "no run runs" in command("--resume", cwd=tmp_path, check=1).stderr
    assert "holds no run" in command("--resume", "where", cwd=tmp_path, check=1).stderr
    poisoned = command(*FAST_FLAGS, "--poison-at", "3", "--run-dir", "p", cwd=tmp_path, check=1)
    assert "train/loss is nan" in poisoned.stderr
    assert "Traceback" not in poisoned.stderr
    (tmp_path / "file").write_text("")
    assert "cannot write to" in command("--run-dir", "file", cwd=tmp_path, check=1).stderr
    assert "Step size of the gradient ascent. (default: 0.01)" in command("--help", cwd=tmp_path, check=0).stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_names_the_command_that_continues(tmp_path, number):
    run_dir = tmp_path / "a run"
    process = subprocess.Popen(
        [
            sys.executable,
            str(SCRIPT),
            "--run-dir",
            str(run_dir),
            "--total-steps",
            "1000000",
            "--slow",
            "0.01",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics_file = run_dir / "metrics.jsonl"
    while not (metrics_file.exists() and metrics_file.stat().st_size):  # a record: the agent is learning
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "finishing this iteration, then saving" in err
    saved = numbered(run_dir)[-1][1]
    assert f"{number.name}: saved {saved}" in out
    continuing = out.strip().split("continue with: ")[1]
    assert continuing == f"python {SCRIPT} --resume '{run_dir}'"
    steps = checkpoint.load(saved).meta["env_steps"]
    again = command("--resume", str(run_dir), "--total-steps", str(steps + 640), "--slow=0", cwd=tmp_path, check=0)
    assert f"resume: total_steps 1000000 -> {steps + 640}" in again.stdout
    assert "resume: slow 0.01 -> 0.0" in again.stdout
    assert f"from env step {steps:,}" in again.stdout
    assert read_summary(run_dir)["env_steps"] == steps + 640


def without_nohup():
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup


@pytest.mark.parametrize("output", ["a pipe that nobody reads", "/dev/full", "closed"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_whatever_became_of_the_output(tmp_path, number, output):
    run_dir = tmp_path / "r"
    command = [sys.executable, str(SCRIPT), "--run-dir", str(run_dir), "--slow", "0.05", "--log-every", "1"]
    command += ["--total-steps", "1000000"]
    if output == "closed":
        command = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command]
    with Path("/dev/full" if output == "/dev/full" else os.devnull).open("w") as file:
        where = subprocess.PIPE if output == "a pipe that nobody reads" else file
        process = subprocess.Popen(command, stdout=where, stderr=where, preexec_fn=without_nohup)
    if process.stdout is not None and process.stderr is not None:
        while not (run_dir / "metrics.jsonl").exists():
            time.sleep(0.01)
        process.stdout.close()
        process.stderr.close()
    metrics = run_dir / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.wait(20)
    assert list((run_dir / "checkpoints").glob("ckpt-*"))


def test_a_closed_terminal_is_ignored_under_nohup(tmp_path):
    run_dir = tmp_path / "r"
    command = [sys.executable, str(SCRIPT), "--run-dir", str(run_dir), "--total-steps", "2048", "--slow", "0.02"]
    process = subprocess.Popen(["nohup", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (run_dir / "metrics.jsonl").exists():
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    assert process.wait(30) == 0


def test_what_callbacks_add_to_the_metrics_is_logged(tmp_path):
    def note(agent, metrics):
        metrics["custom/x"] = np.float32(agent.iteration)
        metrics["custom/unknown"] = float("nan")

    fields = {"progress": False, "total_steps": 512, "log_every": 64, "eval_episodes": 0}
    train.run(TinyAgent, RunConfig(run_dir=str(tmp_path / "r"), **fields), callbacks=note)
    rows = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert [row["custom/x"] for row in rows if "iteration" in row] == [r["iteration"] for r in rows if "iteration" in r]
    assert not any("custom/unknown" in row for row in rows)
    other = RunConfig(run_dir=str(tmp_path / "s"), **fields)
    with pytest.raises(TypeError, match="callbacks: metric 'custom/x' must be a number"):
        train.run(TinyAgent, other, callbacks=lambda agent, metrics: metrics.update({"custom/x": "high"}))


def test_a_second_signal_stops_at_once(tmp_path):
    metrics = tmp_path / "r" / "metrics.jsonl"
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--run-dir", str(metrics.parent), "--slow", "0.3", "--log-every", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (metrics.exists() and metrics.stat().st_size):  # the agent is learning, an iteration takes 0.3 s
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    while "a second signal stops at once" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "stopped at once" in err


def test_ways_to_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = [*FAST_FLAGS, "--seed", "5"]
    assert main(TinyAgent, flags) == 0
    (run_dir,) = Path("runs").iterdir()
    assert main(TinyAgent, ["--resume", "--seed", "5", "--total-steps", "2100"]) == 0
    assert main(TinyAgent, ["--run-dir", str(run_dir), "--resume", "--total-steps", "2200"]) == 0
    assert main(TinyAgent, ["--resume", f"--run_dir={run_dir}", "--total-steps", "2300"]) == 0
    assert main(TinyAgent, ["--resume", str(run_dir), "--total-steps", "2350"]) == 0
    assert main(TinyAgent, [f"--resume={run_dir}", "--total-steps", "2400"]) == 0
    assert read_summary(run_dir)["env_steps"] == 2432
    assert len(list(Path("runs").iterdir())) == 1
    capsys.readouterr()
    assert main(TinyAgent, ["--resume", str(run_dir), "--seed", "6"]) == 2
    assert "seed of the run is 5 and cannot become 6" in capsys.readouterr().err
    assert main(TinyAgent, ["--resume", str(run_dir), "--env-id", "Acrobot-v1"]) == 2
    assert "env_id of the run is 'CartPole-v1' and cannot become" in capsys.readouterr().err


def test_default_config_applies_to_runs_that_name_neither_file_nor_environment(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("default.yaml").write_text("total_steps: 64\neval_episodes: 3\nseed: 2\n")
    Path("other.yaml").write_text("total_steps: 128\neval_episodes: 3\n")

    def steps(*argv):
        assert (
            main(
                TinyAgent,
                [*argv, "--run-dir", f"r{len(list(Path().iterdir()))}"],
                default_config="default.yaml",
            )
            == 0
        )
        return capsys.readouterr().out

    assert "seed 2: up to 64 env steps" in steps()
    assert "seed 9: up to 64 env steps" in steps("--seed", "9")
    assert "seed 0: up to 128 env steps" in steps("other.yaml")
    assert "seed 0: up to 192 env steps" in steps(
        "--env-id", "CartPole-v1", "--total-steps", "192", "--eval-episodes=1"
    )


def test_resuming_the_newest_run_does_not_apply_the_default_config_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("default.yaml").write_text("total_steps: 64\neval_episodes: 3\nseed: 2\n")
    assert main(TinyAgent, ["--total-steps", "192"], default_config="default.yaml") == 0
    assert main(TinyAgent, ["--resume"], default_config="default.yaml") == 0
    said = capsys.readouterr().out
    assert "resume: total_steps" not in said
    assert "all 192 env steps are done" in said
    with pytest.raises(ConfigError, match="resume: run_dir must name the directory"):
        train.run(TinyAgent, RunConfig(resume=True))


def test_a_checkpoint_that_is_no_run_s_is_refused(tmp_path):
    train.run(TinyAgent, fast(tmp_path / "r"))
    for _, path in numbered(tmp_path / "r"):
        found = checkpoint.load(path)
        checkpoint.save(path, found.state, meta={k: v for k, v in found.meta.items() if k != "run"})
    with pytest.raises(CheckpointError, match=r"does not fit: KeyError\('run'\)"):
        train.run(TinyAgent, fast(tmp_path / "r", resume=True))


def test_importing_is_light():
    code = (
        "import sys\n"
        "import dynarl.checkpoint, dynarl.config, dynarl.train.cli, dynarl.train.metrics\n"
        "import dynarl.checkpoint.compatibility\n"
        "heavy = 'tyro yaml rich tensorboardX safetensors gymnasium threadpoolctl ray'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_progress_bar_on_a_terminal(tmp_path):
    import pty

    leader, follower = pty.openpty()
    flags = [
        "--run-dir",
        str(tmp_path / "r"),
        "--total-steps",
        "4096",
        "--slow",
        "0.01",
        "--eval-episodes",
        "2",
    ]
    process = subprocess.Popen([sys.executable, str(SCRIPT), *flags], stdout=follower, stderr=follower)
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 4096):
            shown += chunk
    except OSError:  # the other end was closed
        pass
    os.close(leader)
    assert process.wait() == 0
    text = shown.decode()
    assert "/4,096 steps" in text
    assert "steps/s" in text
    assert "left" in text
    assert "return" in text
    assert text.index("up to 4,096 env steps") < text.index("mean return")
    assert text.endswith("\x1b[2K")  # the bar is gone


def test_ctrl_c_during_the_final_evaluation_says_how_to_continue(tmp_path, capsys):
    class Interrupted(TinyAgent):
        def evaluate(self, episodes=100, *, seed=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(Interrupted, fast(tmp_path / "r", eval_every=0))
    said = capsys.readouterr().out
    assert "SIGINT: saved" in said
    assert "continue with: run(" in said
    assert train.run(TinyAgent, fast(tmp_path / "r", eval_every=0, resume=True))["eval_episodes"] == 5


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    real = files.write_durably

    def full(path, content):
        if path.name == "arrays.safetensors" and len(numbered(tmp_path / "r")) == 1:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(files, "write_durably", full)
    with pytest.raises(CheckpointError, match="No space left on device; checkpoints written before"):
        train.run(TinyAgent, fast(tmp_path / "r"))
    monkeypatch.undo()
    assert latest(tmp_path / "r").meta["env_steps"] == 512
    train.run(TinyAgent, fast(tmp_path / "r", resume=True))


def test_threads(monkeypatch):
    import threadpoolctl

    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    before = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    try:
        threads.limit_threads(2)
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {2}
        monkeypatch.setenv("MKL_NUM_THREADS", "4")
        threads.limit_threads(1)
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
    finally:
        threadpoolctl.threadpool_limits(before[0])


def test_resolved_config_is_written(tmp_path):
    train.run(TinyAgent, fast(tmp_path / "r"), TinyConfig(learning_rate=0.5))
    text = (tmp_path / "r" / "config.yaml").read_text()
    assert "learning_rate: 0.5" in text
    assert "total_steps: 2048" in text
    assert config.yaml.parse(text)["eval_every"] == 700
