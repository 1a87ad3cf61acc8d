"""Replay and DQN compared with Stable-Baselines3 and a hand-written update."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import floor
from benchmarks.timing import Contestants, Goal, Report, Row

# The RL zoo's tuned DQN for CartPole, under dynarl's names
ZOO: dict[str, Any] = {
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1000,
    "target_update_interval": 10,
    "train_freq": 256,
    "gradient_steps": 128,
    "epsilon_steps": 8000,
    "epsilon_final": 0.04,
    "hidden_sizes": (256, 256),
}


def replay_section(report: Report, libs: dict[str, Any]) -> None:
    """Draws of 256 from a replay of a million transitions of HalfCheetah's size, uniform and prioritised."""
    from dynarl.rollout import PrioritizedReplay, ReplayBuffer

    rng, size = np.random.default_rng(0), 1_000_000
    layouts = ((17,), np.float32), ((6,), np.float32)
    uniform, prioritized = ReplayBuffer(size, 1, *layouts), PrioritizedReplay(size, 1, *layouts)
    obs, action = np.zeros((1, 17), np.float32), np.zeros((1, 6), np.float32)
    reward, flag, error = np.zeros(1), np.zeros(1, np.bool_), rng.random(256)
    for _ in range(size):
        uniform.add(obs, action, reward, flag, flag, obs)
        prioritized.add(obs, action, reward, flag, flag, obs)
    prioritized.update_priorities(np.arange(size), rng.random(size))

    def cycle() -> None:
        prioritized.update_priorities(prioritized.sample(256, rng, 0.4).index, error)

    contestants: Contestants = {"dynarl": lambda: uniform.sample(256, rng)}
    if "torch" in libs and (theirs := _sb3_replay(size)):
        contestants["sb3"] = lambda: theirs.sample(256)
    report.add("replay", "draw 256 of 1e6", contestants, (), "cache misses")
    goals = [Goal(5e-4, None)]
    report.add("replay", "draw 256 of 1e6 by priority, set priorities", {"dynarl": cycle}, goals, "20 levels of sums")


def _sb3_replay(size: int) -> Any:
    try:
        from gymnasium.spaces import Box
        from stable_baselines3.common.buffers import ReplayBuffer
    except ImportError:
        return None
    replay = ReplayBuffer(size, Box(-1, 1, (17,)), Box(-1, 1, (6,)), device="cpu")
    replay.full = True
    return replay


class FloorUpdate:
    """One DQN gradient step written by hand: 4-256-256-2, batch 64, Huber loss, clip, Adam."""

    def __init__(self, batch: int = 64) -> None:
        sizes = (4, 256, 256, 2)
        self.parameters, target = (floor.Parameters(floor.size_of(sizes)) for _ in range(2))
        self.online = floor.MLP(sizes, "relu", batch, self.parameters)
        self.target = floor.MLP(sizes, "relu", batch, target)
        self.adam = floor.Adam(self.parameters, 2.3e-3)
        rng = np.random.default_rng(0)
        for parameters in (self.parameters, target):
            parameters.data[:] = rng.normal(size=parameters.data.size) * 0.05
        self.obs, self.next_obs = (rng.normal(size=(batch, 4)).astype(np.float32) for _ in range(2))
        self.action, self.rows = rng.integers(0, 2, batch), np.arange(batch)
        self.reward, self.discount = np.ones(batch, np.float32), np.full(batch, 0.99, np.float32)

    def __call__(self) -> None:
        td_target = self.reward + self.discount * self.target.forward(self.next_obs).max(axis=1)
        q = self.online.forward(self.obs)
        delta = q[self.rows, self.action] - td_target
        g = np.zeros_like(q)
        g[self.rows, self.action] = np.clip(delta, -1.0, 1.0) * (1.0 / len(q))
        self.online.backward(g)
        floor.clip(self.parameters.grad, 10.0)
        self.adam.step()


def dynarl_agent(seed: int) -> Any:
    """Return a DQN with the tuned settings."""
    from dynarl.agents import DQN

    return DQN("CartPole-v1", seed=seed, **ZOO)


def sb3_agent(seed: int) -> Any:
    """Return Stable-Baselines3's DQN with the same settings."""
    from stable_baselines3 import DQN

    return DQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=2.3e-3,
        batch_size=64,
        buffer_size=100_000,
        learning_starts=1000,
        target_update_interval=10,
        train_freq=256,
        gradient_steps=128,
        exploration_fraction=8000 / 50_000,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
        device="cpu",
        seed=seed,
    )


def dqn_section(report: Report, libs: dict[str, Any]) -> None:
    """One gradient step with its draw from the replay, and whole runs in turns."""
    agents: dict[str, Callable[[int], Any]] = {"dynarl": dynarl_agent}
    if "torch" in libs:
        agents["sb3"] = sb3_agent
    ours = dynarl_agent(0).learn(2000)
    ours.learner.measures = False
    contestants: Contestants = {
        "floor": FloorUpdate(),
        "dynarl": lambda: ours.learner.update(ours.sample()),
    }
    if "sb3" in agents:
        theirs = sb3_agent(0).learn(2000)
        contestants["sb3"] = lambda: theirs.train(1, 64)
    report.add("dqn", "DQN update, 4-256-256-2, batch 64", contestants, [Goal(1.3, "floor")], "matrix products")
    steps = max(3000, report.effort.env_steps // 5)
    times: dict[str, list[float]] = {name: [] for name in agents}
    for round_ in range(report.effort.runs):
        for name, make in agents.items():
            agent = make(round_)
            begin = perf_counter()
            agent.learn(steps)
            times[name].append((perf_counter() - begin) / steps)
    best, typical = {n: min(t) for n, t in times.items()}, {n: median(t) for n, t in times.items()}
    title = "DQN CartPole-v1, tuned zoo settings, per env step"
    report.put(Row("dqn", title, best, typical, (Goal(0.25, "sb3"),), "half an update a step", per_second=True))
