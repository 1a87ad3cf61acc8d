"""The training script with workers: Ctrl-C to the whole process group, a stop as jobs send it, and going on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONS = ("--stop-at-return", "None", "--eval-every", "0", "--eval-episodes", "0", "--log-every", "0")


def command(run_dir, *options):
    script = str(ROOT / "scripts" / "train_ppo.py")
    return [sys.executable, script, "--run-dir", str(run_dir), *OPTIONS, *options]


def lines(run_dir):
    path = run_dir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_leaves_a_checkpoint_and_no_process(tmp_path, number):
    pytest.importorskip("ray")
    run_dir = tmp_path / "run"
    mark = f"{tmp_path.name}-{os.getpid()}"
    environment = {**os.environ, "DYNARL_TEST": mark}
    process = subprocess.Popen(
        command(run_dir, "--num-workers", "2", "--total-steps", "100000000"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=environment,
    )  # fmt: skip
    end = time.monotonic() + 90
    while len(lines(run_dir)) < 3 and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.1)
    mine = processes(mark)
    started = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: workers get it as well
    else:
        process.send_signal(number)
    while not list(run_dir.glob("checkpoints/ckpt-*/MANIFEST.json")):
        assert time.monotonic() - started < 30 and process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + number, output
    assert f"{number.name}: saved" in output and "was replaced" not in output
    end = time.monotonic() + 60
    while left := [pid for pid in mine if pid in processes(mark)]:
        assert time.monotonic() < end, left
        time.sleep(0.2)
    record = lines(run_dir)[-1]
    assert record["workers/alive"] == 2 and record["ledger/lost"] == record["ledger/restarts"] == 0
    assert record["ledger/requested"] == record["ledger/trained"] == 2 * record["iteration"]
    assert {f"time/sps_{phase}" for phase in ("env", "act", "transfer", "learn", "collect")} <= set(record)
    assert record["lag/mean"] == 0
    if number == signal.SIGTERM:
        steps = record["env_steps"] + 512
        goes_on = [*command(run_dir, "--num-workers", "0", "--total-steps", str(steps)), "--resume"]
        done = subprocess.run(goes_on, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "num_workers 2 -> 0" in done.stdout
        assert lines(run_dir)[-1]["ledger/trained"] == 2 * lines(run_dir)[-1]["iteration"]


def processes(mark):
    """Return the ids of the processes that have a mark in their environment, and are no zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"DYNARL_TEST={mark}".encode() in path.read_bytes():
                state = (path.parent / "stat").read_text().rpartition(")")[2].split()[0]
                found += [int(path.parent.name)] if state != "Z" else []
        except OSError:
            continue
    return found
