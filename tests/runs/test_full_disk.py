"""Writes that really fail: the system refuses them halfway, as a full disk does."""

import subprocess
import sys
from pathlib import Path

import pytest

from dynarl.agents import DQN, SAC

resource = pytest.importorskip("resource", reason="limits on file sizes are those of POSIX")

SCRIPT = """
import resource, sys
from dynarl.agents import DQN, SAC
from dynarl.checkpoint import CheckpointError

agent = {name}("{env}", learning_starts=32, batch_size=16, buffer_size=5000, hidden_sizes=(8,), **{own})
agent.learn(64)
agent.save(sys.argv[1])
agent.learn(2000)
# The replay is larger by now than what the system lets this process write into one file
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
for attempt in range(2):
    try:
        agent.save(sys.argv[1])
    except CheckpointError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("name", "env", "own"),
    [("DQN", "CartPole-v1", {"prioritized": True, "train_freq": 64}), ("SAC", "Pendulum-v1", {"train_freq": 64})],
)
def test_replay_that_no_longer_fits_leaves_the_checkpoint_before(name, env, own, tmp_path):
    path = tmp_path / "checkpoint"
    script = SCRIPT.format(name=name, env=env, own=own)
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 2 and all("File too large; checkpoints written before" in line for line in said), done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]
    agent = {"DQN": DQN, "SAC": SAC}[name].load(path)
    assert agent.env_steps == 64 and len(agent.replay) == 64
    agent.learn(64)
