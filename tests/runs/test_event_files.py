"""TensorBoard's event files agree with metrics.jsonl after any stop, and never hold a run up."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dynarl.train.metrics import MetricLog

SCRIPT = Path(__file__).parents[1] / "helpers" / "train_tiny.py"


def curve(directory, name):
    events = EventAccumulator(str(directory))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def records(directory, name):
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [(row["env_steps"], pytest.approx(row[name], rel=1e-6)) for row in rows if name in row]


def test_numbers_histograms_and_resume(tmp_path):
    log = MetricLog(tmp_path)
    log.record(10, {"a": 1.5}, {"h": np.arange(100.0)})
    at = log.position()
    log.record(20, {"a": 2.5})
    log.close()
    log.close()
    log = MetricLog(tmp_path, resume_at=at)
    log.record(20, {"a": 3.5})
    log.record(30, {"a": 4.5})
    assert curve(tmp_path, "a") == [(10, 1.5), (20, 3.5), (30, 4.5)] == records(tmp_path, "a")  # nothing is buffered
    log.close()
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0})
    events.Reload()
    assert events.Histograms("h")[0].histogram_value.num == 100


def test_a_file_that_cannot_be_written_is_given_up_with_a_warning(tmp_path):
    code = f"""
import resource, signal
import numpy as np
from pathlib import Path
from dynarl.train.metrics import MetricLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = MetricLog(Path({str(tmp_path)!r}))
log.record(1, {{"a": 1.0}})
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
for i in range(2, 20):
    log.record(i, {{"a": 1.0}}, {{"h": np.arange(100.0)}})
log.position()
log.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: TensorBoard's event file cannot be written") == 1
    assert len(records(tmp_path, "a")) == 19
    assert curve(tmp_path, "a")[0] == (1, 1.0)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY  # of this process


def test_both_files_agree_after_kill_9(tmp_path):
    run = tmp_path / "r"
    command = [sys.executable, str(SCRIPT), "--run-dir", str(run), "--slow", "0.01", "--log-every", "1"]
    process = subprocess.Popen([*command, "--total-steps", "1000000"], stdout=subprocess.DEVNULL)
    while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("\n") > 20):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    found, wanted = curve(run, "iteration"), records(run, "iteration")
    assert len(wanted) > 20 and found[: len(wanted)] == wanted[: len(found)]
    assert abs(len(found) - len(wanted)) <= 1  # killed between the two
