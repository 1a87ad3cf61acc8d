"""Whole PPO runs compared with Stable-Baselines3, and the start-up cost of a process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.timing import Effort, Goal, Report, Row

TRAIN = Path(__file__).parent.parent / "train_ppo.py"
RUN_TITLE = "PPO CartPole-v1, tuned zoo settings, per env step"


ZOO: dict[str, Any] = {
    "num_envs": 8,
    "num_steps": 32,
    "batch_size": 256,
    "num_epochs": 20,
    "gamma": 0.98,
    "gae_lambda": 0.8,
    "ent_coef": 0.0,
    "learning_rate": 1e-3,
    "learning_rate_schedule": "linear",
    "clip_range": 0.2,
    "clip_range_schedule": "linear",
}
"""rl-baselines3-zoo's tuned settings for CartPole, as fields of PPOConfig."""


def dynarl_run(steps: int, seed: int) -> float:
    """Return seconds per environment step of `agent.learn` with the zoo's tuned CartPole settings."""
    from dynarl.agents import PPO

    agent = PPO("CartPole-v1", seed=seed, **ZOO)
    begin = perf_counter()
    agent.learn(steps)
    return (perf_counter() - begin) / agent.env_steps


def sb3_run(steps: int, seed: int) -> float:
    """Return seconds per environment step of Stable-Baselines3 with the same settings."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    agent = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=8, seed=seed),
        n_steps=32,
        batch_size=256,
        n_epochs=20,
        gamma=0.98,
        gae_lambda=0.8,
        ent_coef=0.0,
        learning_rate=lambda left: 1e-3 * left,
        clip_range=lambda left: 0.2 * left,
        device="cpu",
        seed=seed,
    )
    begin = perf_counter()
    agent.learn(steps)
    return (perf_counter() - begin) / agent.num_timesteps


def run_section(report: Report, contestants: dict[str, Callable[[int, int], float]]) -> None:
    """Whole runs, in turns."""
    effort = report.effort
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(effort.runs):
        for name, run in contestants.items():
            times[name].append(run(effort.env_steps, round_))
    best, typical = {n: min(t) for n, t in times.items()}, {n: median(t) for n, t in times.items()}
    row = Row("run", RUN_TITLE, best, typical, (Goal(0.2, "sb3"),), "CartPole itself, then the update", per_second=True)
    report.put(row)


def _python(code: str) -> float:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def import_section(report: Report, names: list[str]) -> None:
    """Import time beyond `import numpy`, each in a fresh process."""
    effort = report.effort
    code = "import time, numpy; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(max(3, effort.rounds)):
        for name in names:
            times[name].append(_python(code.format(name)))
    best, typical = {n: min(t) for n, t in times.items()}, {n: median(t) for n, t in times.items()}
    report.put(Row("import", "import, beyond import numpy", best, typical, (Goal(0.1, None),), "files read"))


def solved_section(report: Report, effort: Effort) -> None:
    """Process start to printed result: scripts/train_ppo.py without arguments but the place to write to."""
    times = []
    for _ in range(effort.runs):
        with tempfile.TemporaryDirectory() as folder:
            run_dir = Path(folder) / "run"
            begin = perf_counter()
            subprocess.run([sys.executable, str(TRAIN), "--run-dir", str(run_dir)], check=True, capture_output=True)
            times.append(perf_counter() - begin)
            summary = json.loads((run_dir / "summary.json").read_text())
    note = f"mean of {summary['eval_episodes']} episodes {summary['eval_mean']:.1f}, {summary['env_steps']:,} steps"
    best, typical = {"dynarl": min(times)}, {"dynarl": median(times)}
    report.put(Row("solved", "process start to CartPole solved", best, typical, (Goal(3.0, None),), note))
