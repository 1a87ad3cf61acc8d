"""SAC's gradient step compared with NumPy, Stable-Baselines3 and SBX: sampling, both losses, Adam, Polyak."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from timeit import repeat
from typing import Any

import gymnasium
import numpy as np
from threadpoolctl import threadpool_info

from benchmarks import floor
from benchmarks.timing import Contestants, Goal, Report, Row, measure

OBS, ACTIONS, BATCH, HIDDEN = 17, 6, 256, (256, 256)
NOTE = "16 products of 256 x 256 matrices; {:.1f} ms of BLAS here ({} kernels)"


class Still(gymnasium.Env[Any, Any]):
    """Random observations of HalfCheetah's shape, no reward: only the update is measured."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (OBS,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action: Any) -> Any:
        return self._draw(), 0.0, False, False, {}

    def _draw(self) -> Any:
        return self.np_random.uniform(-1, 1, OBS).astype(np.float32)


def dynarl_update() -> Callable[[], Any]:
    from dynarl.agents import SAC

    agent = SAC(Still(), seed=0, learning_starts=1_000, buffer_size=10_000)
    agent.learn(1_010)
    return lambda: agent.learner.update(agent.sample())


def sb3_update() -> Callable[[], Any]:
    from stable_baselines3 import SAC

    agent = SAC("MlpPolicy", Still(), seed=0, learning_starts=1_000, buffer_size=10_000, device="cpu",
                policy_kwargs={"net_arch": list(HIDDEN)})  # fmt: skip
    agent.learn(1_010)
    return lambda: agent.train(gradient_steps=1, batch_size=BATCH)


def sbx_seconds(python: str) -> float:
    """Return seconds per update of SBX, in a process of its own on one core: 50 updates a call, best of several.

    XLA's flags for one thread alone leave it more than one.
    """
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    code = (
        "import os, sys, time; sys.path.insert(0, sys.argv[1])\n"
        "if hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from benchmarks.sac import Still, HIDDEN, BATCH\n"
        "from sbx import SAC\n"
        "a = SAC('MlpPolicy', Still(), seed=0, learning_starts=1000, buffer_size=10000,"
        " policy_kwargs={'net_arch': list(HIDDEN)})\n"
        "a.learn(1010); best = 1e9\n"
        "for _ in range(9):\n"
        "    t = time.perf_counter(); a.train(gradient_steps=50, batch_size=BATCH)\n"
        "    best = min(best, (time.perf_counter() - t) / 50)\n"
        "print(best)\n"
    )
    folder = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [python, "-c", code, folder],
        check=True, capture_output=True, text=True, env={**os.environ, "XLA_FLAGS": flags},
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def floor_update() -> Callable[[], Any]:
    """SAC by hand: separate critics, gradients written out, buffers reused, one Adam each."""
    rng = np.random.default_rng(0)
    actor_sizes, critic_sizes = (OBS, *HIDDEN, 2 * ACTIONS), (OBS + ACTIONS, *HIDDEN, 1)
    actor_p, critic_p, target_p = (
        floor.Parameters(n) for n in (floor.size_of(actor_sizes), *[2 * floor.size_of(critic_sizes)] * 2)
    )
    actor = floor.MLP(actor_sizes, "relu", BATCH, actor_p)
    critics = [floor.MLP(critic_sizes, "relu", BATCH, critic_p) for _ in range(2)]
    targets = [floor.MLP(critic_sizes, "relu", BATCH, target_p) for _ in range(2)]
    for network, sizes in ((actor, actor_sizes), *((c, critic_sizes) for c in critics)):
        network.load([
            (rng.normal(size=s) / np.sqrt(s[-1])).astype(np.float32)
            for n, m in pairwise(sizes) for s in ((m, n), (m,))
        ])  # fmt: skip
    target_p.data[:] = critic_p.data
    actor_adam, critic_adam = floor.Adam(actor_p, 3e-4), floor.Adam(critic_p, 3e-4)
    store = rng.normal(size=(10_000, 2 * OBS + ACTIONS + 1)).astype(np.float32)

    def act(obs: Any, noise: Any) -> Any:
        out = actor.forward(obs)
        log_std = np.clip(out[:, ACTIONS:], -20.0, 2.0)
        std = np.exp(log_std)
        action = np.tanh(out[:, :ACTIONS] + std * noise)
        log_prob = (-0.5 * noise * noise - log_std - np.log(1 - action * action + np.float32(1e-6))).sum(1)
        return action, log_prob, std

    def update() -> Any:
        rows = store[rng.integers(0, len(store), BATCH)]
        noise = rng.standard_normal((2, BATCH, ACTIONS), np.float32)
        obs, next_obs, x = rows[:, :OBS], rows[:, OBS : 2 * OBS], np.empty((BATCH, OBS + ACTIONS), np.float32)
        next_action, next_log_prob, _ = act(next_obs, noise[0])
        x[:, :OBS], x[:, OBS:] = next_obs, next_action
        y = rows[:, -1] + 0.99 * (np.minimum(*(t.forward(x)[:, 0] for t in targets)) - 0.2 * next_log_prob)
        x[:, :OBS], x[:, OBS:] = obs, rows[:, 2 * OBS : -1]
        for critic in critics:
            critic.backward((critic.forward(x)[:, 0] - y)[:, None] / np.float32(BATCH))
        critic_adam.step()
        action, log_prob, std = act(obs, noise[1])
        x[:, OBS:] = action
        q = [c.forward(x)[:, 0].copy() for c in critics]
        first = q[0] <= q[1]
        pull = sum(_input_gradient(c, np.where(first == (i == 0), -1 / BATCH, 0.0)) for i, c in enumerate(critics))
        pull = pull[:, OBS:] * (1 - action * action) + action * np.float32(0.4 / BATCH)
        actor.backward(np.concatenate((pull, pull * std * noise[1] - 0.2 / BATCH), 1, dtype=np.float32))
        actor_adam.step()
        target_p.data *= 0.995
        target_p.data += 0.005 * critic_p.data
        return log_prob

    return update


def _input_gradient(network: floor.MLP, g: Any) -> Any:
    """Pull a gradient [B] of the output back to the inputs, weights left out."""
    g = g[:, None].astype(np.float32)
    for i in range(len(network.layers) - 1, -1, -1):
        weight = network.layers[i][0]
        g = g * weight if len(weight) == 1 else np.dot(g, weight)
        if i:
            g *= network.layers[i - 1][4] > 0
    return g


def blas_seconds() -> float:
    """Return the time of the 16 products of hidden layers alone."""
    a, b, out = (np.ones((BATCH, 256), np.float32) for _ in range(3))
    return min(repeat(lambda: np.dot(a, b, out=out), number=16, repeat=15))


def torch_blas_seconds() -> float:
    """Return the time of the same products in torch, whose BLAS may choose other instructions of the processor.

    MKL takes AVX-512 on Intel's processors alone, OpenBLAS wherever it is there.
    """
    import torch

    a, b, out = (torch.ones(BATCH, 256) for _ in range(3))
    return min(repeat(lambda: torch.mm(a, b, out=out), number=16, repeat=15))


def section(report: Report, libs: dict[str, Any], sbx_python: str | None = None) -> None:
    """One whole update of two critics and an actor of 256 x 256 units, batch 256."""
    kernels = next((i.get("architecture", "?") for i in threadpool_info() if i["user_api"] == "blas"), "?")
    contestants: Contestants = {"floor": floor_update(), "dynarl": dynarl_update()}
    if "torch" in libs and find_spec("stable_baselines3"):
        contestants["sb3"] = sb3_update()
    effort = report.effort
    best, typical = measure(contestants, replace(effort, seconds=max(effort.seconds, 5 * effort.seconds)))
    if sbx_python is not None:
        best["sbx"] = typical["sbx"] = sbx_seconds(sbx_python)
    note = NOTE.format(blas_seconds() * 1e3, kernels)
    if "torch" in libs:
        note += f", {torch_blas_seconds() * 1e3:.1f} ms in torch"
    goals = (Goal(0.5, "sb3"), Goal(1.0, "sbx"))
    report.put(Row("sac", "SAC update 256 x 256, batch 256", best, typical, goals, note))
