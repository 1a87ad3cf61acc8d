"""Several nodes: one is killed, all are, one is added."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_workers_move_to_the_nodes_that_are_left(tmp_path):
    pytest.importorskip("ray")
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.lost_nodes"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "all nodes lost, one added" in done.stderr
