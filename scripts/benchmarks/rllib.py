"""PPO on CartPole with workers, dynarl's and RLlib's in turns, each in a process of its own.

python scripts/benchmarks/rllib.py dynarl|rllib SEED STARTED prints a line of JSON: seconds from STARTED, a time.time(),
to the end of the first iteration (startup) and to an evaluated return of 475 (solved), evaluations left out, and steps
per second between the first iteration and the last.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

WORKERS, NUM_ENVS, NUM_STEPS = 2, 8, 32
TOTAL_STEPS, LEAST_STEPS = 100_000, 10_000
EVAL_EVERY, EPISODES, SOLVED = 10, 20, 475.0  # iterations, episodes, return
LIMIT_SECONDS = 300.0
ZOO: dict[str, Any] = {
    "num_envs": NUM_ENVS, "num_steps": NUM_STEPS, "batch_size": 256, "num_epochs": 20, "gamma": 0.98,
    "gae_lambda": 0.8, "ent_coef": 0.0, "learning_rate": 1e-3, "learning_rate_schedule": "linear", "clip_range": 0.2,
}  # fmt: skip
"""rl-baselines3-zoo's tuned settings for CartPole; the clip range stays, as RLlib has no schedule for it."""


class Watch:
    """Times a run; `iteration` is called after each and returns whether to continue."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.iterations = 0
        self.evaluating = 0.0
        self.first: tuple[float, int] = (0.0, 0)
        self.found: dict[str, Any] = {"solved": None, "solved_steps": None}

    def iteration(self, env_steps: int, act: Callable[[Any], Any]) -> bool:
        now = time.time() - self.started - self.evaluating
        self.iterations += 1
        if self.iterations == 1:
            self.first = now, env_steps
            self.found["startup"] = now
        else:
            self.found["steps_per_second"] = (env_steps - self.first[1]) / (now - self.first[0])
        if self.found["solved"] is None and self.iterations % EVAL_EVERY == 0:
            begin = time.time()
            if play(act) >= SOLVED:
                self.found.update(solved=now, solved_steps=env_steps)
            self.evaluating += time.time() - begin
        done = self.found["solved"] is not None and env_steps >= LEAST_STEPS
        return not done and env_steps < TOTAL_STEPS and now < LIMIT_SECONDS


def play(act: Callable[[Any], Any]) -> float:
    """Return the mean return of an episode of each of some CartPoles; the same loop for both contestants."""
    import gymnasium
    import numpy as np

    envs = [gymnasium.make("CartPole-v1") for _ in range(EPISODES)]
    obs = np.stack([env.reset(seed=1_000 + i)[0] for i, env in enumerate(envs)])
    returns, alive = np.zeros(EPISODES), np.ones(EPISODES, bool)
    while alive.any():
        action = act(obs)
        for i in np.flatnonzero(alive):
            obs[i], reward, terminated, truncated, _ = envs[i].step(int(action[i]))
            returns[i] += float(reward)
            alive[i] = not (terminated or truncated)
    return float(returns.mean())


def dynarl_run(seed: int, watch: Watch, folder: str) -> None:
    """Train as scripts/train_ppo.py --num-workers 2 does."""
    from dynarl.agents import PPO
    from dynarl.config import RunConfig
    from dynarl.train import run

    def on_iteration(agent: Any, metrics: Any) -> bool:
        return watch.iteration(agent.env_steps, lambda obs: agent.predict(obs, deterministic=True)[0])

    config = RunConfig(
        seed=seed, total_steps=TOTAL_STEPS, num_workers=WORKERS, run_dir=f"{folder}/run", eval_every=0,
        eval_episodes=0, checkpoint_every=0, progress=False, cpus_per_worker=0.5,
    )  # fmt: skip
    run(PPO, config, PPO.config_class(**ZOO), callbacks=on_iteration)


def rllib_run(seed: int, watch: Watch, folder: str) -> None:
    """Train RLlib's PPO with the settings that it has, too."""
    os.environ.update(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_USAGE_STATS_ENABLED="0")  # loopback only
    import ray
    import torch
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    torch.set_num_threads(1)
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=folder)
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(
            num_env_runners=WORKERS,
            num_envs_per_env_runner=NUM_ENVS // WORKERS,
            rollout_fragment_length=NUM_STEPS,
        )
        .training(
            lr=[[0, ZOO["learning_rate"]], [TOTAL_STEPS, 0.0]],
            gamma=ZOO["gamma"],
            lambda_=ZOO["gae_lambda"],
            train_batch_size_per_learner=NUM_ENVS * NUM_STEPS,
            minibatch_size=ZOO["batch_size"],
            num_epochs=ZOO["num_epochs"],
            clip_param=ZOO["clip_range"],
            vf_loss_coeff=0.5,
            vf_clip_param=float("inf"),
            use_kl_loss=False,
            entropy_coeff=0.0,
            grad_clip=0.5,
            grad_clip_by="global_norm",
        )
        .rl_module(
            model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh", vf_share_layers=False)
        )
        .debugging(seed=seed, log_level="ERROR")
    )
    algorithm = config.build_algo()

    def act(obs: Any) -> Any:
        with torch.no_grad():
            found = algorithm.get_module().forward_inference({"obs": torch.as_tensor(obs)})
        return found["action_dist_inputs"].argmax(-1).numpy()

    going = True
    while going:
        result = algorithm.train()
        going = watch.iteration(int(result["num_env_steps_sampled_lifetime"]), act)
    algorithm.stop()
    ray.shutdown()


def main(name: str, seed: str, started: str) -> None:
    """Run one contestant and print what was timed."""
    watch = Watch(float(started))
    folder = tempfile.mkdtemp(prefix="race-", dir="/tmp")
    try:
        {"dynarl": dynarl_run, "rllib": rllib_run}[name](int(seed), watch, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(watch.found))


def has_rllib(python: str | None) -> bool:
    """Return whether a Python, this one without a name, has RLlib and the torch that it needs."""
    names = "ray", "torch", "gymnasium"
    if python is None:
        return all(map(find_spec, names))
    code = f"import sys, importlib.util as u; sys.exit(not all(map(u.find_spec, {names})))"
    return subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0


def contest(python: str | None, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Run the contestants in turns, another seed in each round."""
    pythons = {"dynarl": sys.executable, "rllib": python or sys.executable}
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in pythons}
    for seed in range(rounds):
        for name, executable in pythons.items():
            command = [executable, str(Path(__file__)), name, str(seed), repr(time.time())]
            with tempfile.TemporaryDirectory() as folder:  # Ray's workers import from the working directory
                done = subprocess.run(
                    command, capture_output=True, text=True, env={**os.environ, **threads}, check=False, cwd=folder
                )
            if done.returncode:
                raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def section(report: Any, python: str | None = None, rounds: int = 3) -> None:
    """Start-up, steps per second and time to 475; `python` is that of an environment with RLlib."""
    from benchmarks.timing import Figure

    if not has_rllib(python):
        text = "not installed: pip install torch 'ray[rllib]', here or for the Python that --rllib-python names"
        report.say(Figure(section="rllib", name="PPO CartPole, compared with RLlib", text=text))
        return
    found = contest(python, rounds)
    for key, title, unit in (
        ("startup", "process start to the first iteration", "s"),
        ("steps_per_second", "env steps per second", "/s"),
        ("solved", "process start to 475", "s"),
    ):
        title = f"PPO CartPole, {WORKERS} workers: {title}"
        values = {name: [one[key] for one in runs] for name, runs in found.items()}
        if any(value is None for each in values.values() for value in each):
            text = ", ".join(f"{name} {each}" for name, each in values.items())
            report.say(Figure(section="rllib", name=title, text=f"not all reached it: {text}", values=values))
            continue
        mine, other = median(values["dynarl"]), median(values["rllib"])
        ratio = mine / other if unit == "/s" else other / mine
        text = f"dynarl {mine:,.1f} {unit}, RLlib {other:,.1f} {unit}: {ratio:.1f} times as fast"
        report.say(Figure(section="rllib", name=title, text=text, values=values))


if __name__ == "__main__":
    main(*sys.argv[1:])
