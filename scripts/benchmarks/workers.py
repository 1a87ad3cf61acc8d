"""Workers on Ray: throughput relative to the environments alone, the learner's cost per fragment, and a scaling model.

An environment waits 2 ms a step, so N workers could make N / 2 ms steps a second at most: that is the floor here. PPO
has its default settings. The model of `scaling` is fitted to the fewest and the most workers measured, compared with
those in between, and drawn beyond.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
import numpy as np

from benchmarks import scaling
from benchmarks.timing import QUICK, Goal, Report, Row

STEP = 0.002
GOALS = {("sync", 8): 0.65, ("pipelined", 8): 0.85, ("async", 8): 0.85, ("async", 16): 0.80}
OPTIONS: dict[str, dict[str, Any]] = {"sync": {}, "pipelined": {"pipeline": True}, "async": {"asynchronous": True}}
ENV = "dynarl-benchmark/Wait-v0"


class Wait(gymnasium.Env[Any, Any]):
    """Episodes of 200 steps that take `STEP` seconds each and hardly any computation."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(STEP)
        self.t += 1
        return np.zeros(4, np.float32), 1.0, False, self.t == 200, {}


def section(report: Report, counts: Sequence[int], plot: Path | None = None) -> None:
    """Measure workers, and print the predictions of the model."""
    import ray.cloudpickle

    from benchmarks import workers
    from dynarl.distributed import cluster

    ray.cloudpickle.register_pickle_by_value(workers)  # other processes need not find this file
    gymnasium.register(ENV, entry_point=workers.Wait)
    with cluster.connected(None, cpus=max(counts)):
        predictions = [efficiency(report, schedule, counts) for schedule in scaling.SCHEDULES]
        overhead(report, max(n for n in counts if n <= 8))
        broadcast(report, 8)
    _say(predictions)
    if plot is not None:
        scaling.draw(predictions, _steps_per_fragment(), plot)
        print(f"drawn: {plot}")


def _agent(schedule: str, number: int) -> tuple[Any, Any, Any]:
    from dynarl.agents import PPO
    from dynarl.config import RunConfig
    from dynarl.distributed import WorkerPlan

    config = RunConfig(num_workers=number, envs_per_group=1, cpus_per_worker=0.0, **OPTIONS[schedule])
    how = WorkerPlan(groups=number, envs_per_group=1, num_workers=number)
    agent = PPO(how.env_group(ENV), num_envs=number, batch_size=min(256, _steps_per_fragment() * number))
    return agent, how, config


def _steps_per_fragment() -> int:
    from dynarl.agents import PPOConfig

    return PPOConfig().num_steps


def efficiency(report: Report, schedule: str, counts: Sequence[int]) -> scaling.Prediction:
    """Measure steps per second over numbers of workers; return the model's prediction."""
    from dynarl.distributed import attach_workers

    steps, measured, learn = _steps_per_fragment(), dict[int, float](), 0.0
    iterations = 3 if report.effort is QUICK else 16
    for number in counts:
        agent, how, config = _agent(schedule, number)
        with attach_workers(agent, how, config):
            agent.learn(3 * steps * number)
            learned, acted = _time_updates(agent), _time_collecting(agent.collector)
            seconds = []
            for _ in range(iterations):
                before, begin = agent.env_steps, time.perf_counter()
                agent.learn(steps * number)
                seconds.append((time.perf_counter() - begin) / (agent.env_steps - before))
            agent.collector.pool.ledger.check()
        # the mean: asynchronous iterations lean on each other, so the best of them says nothing
        mean, ideal = sum(seconds) / len(seconds), STEP / number
        measured[number] = 1.0 / (mean * steps)
        learn = median(learned) / number
        goals = (Goal(1.0 / share, "floor"),) if (share := GOALS.get((schedule, number))) else ()
        own = sum(acted) / len(acted) / steps / number
        note = f"{ideal / mean:.0%} of ideal, {own / mean:.0%} of the workers' own pace; {1e3 * learn:.1f} ms learning"
        timing = {"dynarl": mean, "floor": ideal}
        report.put(Row("ray", f"{schedule} PPO, {number} workers", timing, timing, goals, note, per_second=True))
    costs = scaling.Costs(fragment=1.0, handle=1.0, learn=learn)
    if len(measured) < 2:
        return scaling.Prediction(schedule=schedule, measured=measured, calibrated_on=(1, 1), costs=costs, simulated={})
    return scaling.predict(schedule, measured, costs)


def _time_updates(agent: Any) -> list[float]:
    seconds: list[float] = []
    update = agent.learner.update

    def timed(*args: Any, **keywords: Any) -> Any:
        begin = time.perf_counter()
        found = update(*args, **keywords)
        seconds.append(time.perf_counter() - begin)
        return found

    agent.learner.update = timed
    return seconds


def _time_collecting(collector: Any) -> list[float]:
    """Note how long workers take for each fragment, by their own clocks: a machine without free cores slows them."""
    seconds: list[float] = []
    account = collector._account

    def timed(delivery: Any) -> None:
        seconds.append(delivery.seconds["collect"])
        account(delivery)

    collector._account = timed
    return seconds


def overhead(report: Report, number: int) -> None:
    """Measure the learner's processor time for each fragment: asking, receiving, checking, putting side by side.

    All threads of the process count; what Ray's take while nothing is asked is taken off.
    """
    from dynarl.distributed import attach_workers

    agent, how, config = _agent("async", number)
    rounds = 3 if report.effort is QUICK else 24
    with attach_workers(agent, how, dataclasses.replace(config, max_lag=10**6)):
        for version in range(3):
            agent.collector.collect(version)
        wall, process, thread = time.perf_counter(), time.process_time(), time.thread_time()
        for version in range(3, 3 + rounds):
            agent.collector.collect(version)
        wall, process, thread = (
            now - then
            for now, then in zip(
                (time.perf_counter(), time.process_time(), time.thread_time()), (wall, process, thread)
            )
        )
    idle = time.process_time()
    time.sleep(2.0)
    idle = (time.process_time() - idle) / 2.0
    fragments = rounds * number
    timing = {"dynarl": (process - idle * wall) / fragments}
    name = f"processor time of the learner, {number} workers"
    note = f"for one fragment; {1e3 * thread / fragments:.1f} ms in its own thread, Ray idle {idle:.1%} of a core"
    report.put(Row("ray", name, timing, timing, (Goal(1e-3, None),), note))


def broadcast(report: Report, number: int, nbytes: int = 2**20) -> None:
    """Measure how long new weights take to every worker and back as one number of each."""
    import ray

    from dynarl.distributed.ray_transport import RayTransport

    class Receiver:
        def receive(self, weights: Any) -> int:
            return int(weights[-1])

    actors = [ray.remote(Receiver).options(num_cpus=0).remote() for _ in range(number)]
    transport, seconds = RayTransport(), []
    try:
        for i in range(4 if report.effort is QUICK else 40):
            weights = np.full(nbytes, i, np.uint8)
            begin = time.perf_counter()
            ref = transport.put(weights)
            found = ray.get([actor.receive.remote(ref) for actor in actors])
            seconds.append(time.perf_counter() - begin)
            assert found == [i] * number
    finally:
        for actor in actors:
            ray.kill(actor)
    best, typical = {"dynarl": min(seconds[1:])}, {"dynarl": median(seconds[1:])}
    note = f"median {1e3 * typical['dynarl']:.1f} ms"
    name = f"{nbytes / 2**20:g} MiB of weights to {number} workers"
    report.put(Row("ray", name, best, typical, (Goal(10e-3, None),), note))


def _say(predictions: Sequence[scaling.Prediction]) -> None:
    """Print the errors of the model, and its predictions beyond this machine."""
    steps = _steps_per_fragment()
    for found in predictions:
        if not found.simulated:
            continue
        few, many = found.calibrated_on
        between = [n for n in found.measured if n not in (few, many)]
        fit = ", ".join(f"{found.error(n):+.0%} at {n}" for n in between) or "not checked"
        ends = ", ".join(f"{n}: {found.simulated[n] * steps:,.0f}" for n in (16, 64, 512))
        print(f"{found.schedule}, simulated steps/s by workers: {ends} (fitted at {few} and {many}; {fit})")
