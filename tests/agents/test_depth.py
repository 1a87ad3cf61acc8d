"""The distance from a training script to `backward`: at most 5 calls in 4 files."""

import runpy
import sys
import traceback
from pathlib import Path

import pytest

from dynarl.agents.ppo import ppo
from dynarl.autograd import Tensor

SCRIPTS = Path(__file__).parents[2] / "scripts"
QUICK = {
    "ppo": ("--num-envs", "2", "--num-steps", "16", "--batch-size", "32"),
    "dqn": ("--learning-starts", "32", "--batch-size", "8"),
    "sac": ("--env-id", "Pendulum-v1", "--learning-starts", "32", "--batch-size", "8"),
}


class Reached(BaseException):
    """Raised where the first gradient would be computed; no Exception, so that nothing handles it on its way."""


@pytest.mark.parametrize("algorithm", QUICK)
def test_from_script_to_backward(algorithm, monkeypatch, tmp_path):
    def reach(*_, **__):
        raise Reached

    script = SCRIPTS / f"train_{algorithm}.py"
    monkeypatch.setattr(Tensor, "backward", reach)
    monkeypatch.setattr(ppo, "backward", reach)  # PPO calls the function: its losses enter with weights
    run = ("--run-dir", str(tmp_path / "run"), "--total-steps", "256", "--no-progress", "--no-tensorboard")
    monkeypatch.setattr(sys, "argv", [str(script), *run, *QUICK[algorithm]])
    with pytest.raises(Reached) as reached:
        runpy.run_path(str(script), run_name="__main__")
    frames = traceback.extract_tb(reached.value.__traceback__)
    names = [(f.filename, f.name) for f in frames if f.name != "<listcomp>"]  # Python 3.12 has no frame for it
    names = names[next(i for i, (file, _) in enumerate(names) if file == str(script)) :]
    assert names[-1][1] == "reach"  # stands for backward
    assert len(names) - 1 <= 5, names
    assert len({file for file, _ in names[:-1]}) <= 4, names
