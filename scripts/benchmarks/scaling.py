"""Throughput of workers around one learner beyond the machine at hand: a discrete-event model of the three schedules.

A worker takes `fragment` seconds for a fragment; the driver, one process, takes `handle` seconds to receive one and
`learn` seconds to learn from it; `publish` seconds pass from new weights to the first step made with them. Two of these
are fitted to two measured numbers of workers, a third checks them, and the model goes on from there. Whatever it
says is simulated.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

__all__ = ["SCHEDULES", "Costs", "Prediction", "calibrate", "draw", "predict", "simulate"]

SCHEDULES = ("sync", "pipelined", "async")
SIMULATED = tuple(2**i for i in range(10))  # 1 to 512 workers


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds; `jitter` is the standard deviation of log(fragment), which has mean `fragment` all the same."""

    fragment: float
    handle: float
    learn: float = 0.0
    publish: float = 0.0
    jitter: float = 0.0


def simulate(schedule: str, workers: int, costs: Costs, *, fragments: int = 40, ahead: int = 2, seed: int = 0) -> float:
    """Return fragments per second of `workers` workers, over `fragments` of each after a warm-up of as many.

    An update learns from as many fragments as there are workers. sync: the workers wait for it. pipelined: they
    collect the next fragments meanwhile. async: each has `ahead` fragments to make, asked for as it delivers one, and
    an update takes the first that come.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"simulate: schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    rng = np.random.default_rng(seed)
    shift = -0.5 * costs.jitter**2

    def took() -> float:
        return costs.fragment * math.exp(shift + costs.jitter * rng.standard_normal() if costs.jitter else 0.0)

    updates, half = 2 * fragments, 0.0
    if schedule == "async":
        return _simulate_async(workers, costs, took, updates, ahead)
    now, free = 0.0, np.zeros(workers)  # free: when each worker can begin
    asked = 0.0  # when the fragments of this update were asked for
    for update in range(updates):
        begin = np.maximum(free, asked + costs.publish)
        done = np.sort(free := begin + np.array([took() for _ in range(workers)]))
        for arrival in done:
            now = max(now, arrival) + costs.handle
        if schedule == "pipelined":
            asked = now
        now += costs.learn * workers
        if schedule == "sync":
            asked = now
        half = now if update == updates // 2 - 1 else half
    return float(workers * (updates - updates // 2) / (now - half))


def _simulate_async(workers: int, costs: Costs, took: Callable[[], float], updates: int, ahead: int) -> float:
    asked = [deque([0.0] * (ahead - 1)) for _ in range(workers)]  # when each worker was asked for what it has yet to do
    idle_since: dict[int, float] = {}
    arrivals = [(costs.publish + took(), worker) for worker in range(workers)]
    heapq.heapify(arrivals)
    now = half = 0.0
    for update in range(updates):
        for _ in range(workers):
            when, worker = heapq.heappop(arrivals)
            if asked[worker]:
                heapq.heappush(arrivals, (max(when, asked[worker].popleft()) + took(), worker))
            else:
                idle_since[worker] = when
            now = max(now, when) + costs.handle
            if worker in idle_since:
                heapq.heappush(arrivals, (max(idle_since.pop(worker), now + costs.publish) + took(), worker))
            else:
                asked[worker].append(now + costs.publish)
        now += costs.learn * workers
        half = now if update == updates // 2 - 1 else half
    return float(workers * (updates - updates // 2) / (now - half))


def calibrate(schedule: str, measured: Mapping[int, float], costs: Costs) -> Costs:
    """Return `costs` with `fragment` and `handle` such that the model gives two measured numbers.

    `measured` is {workers: fragments per second} of two numbers of workers. The smaller fixes what a worker takes,
    the larger what the driver does; where the larger scales ideally, the driver's part is 0.
    """
    if len(measured) != 2:
        raise ValueError(f"calibrate: takes two numbers of workers, got {len(measured)}")
    few, many = sorted(measured)

    def with_handle(handle: float) -> Costs:
        slowest = few / measured[few]
        fragment = _falling(
            lambda x: simulate(schedule, few, replace(costs, fragment=x, handle=handle)), measured[few], 0.0, slowest
        )
        return replace(costs, fragment=fragment, handle=handle)

    most = 1.0 / max(measured.values())  # no driver can take longer for a fragment
    handle = _falling(lambda x: simulate(schedule, many, with_handle(x)), measured[many], 0.0, most)
    return with_handle(handle)


def _falling(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Return where a falling function has the target, between `low` and `high` or at one of them."""
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > target else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What was measured, in fragments per second by workers, and what the model makes of it."""

    schedule: str
    measured: Mapping[int, float]
    calibrated_on: tuple[int, int]
    costs: Costs
    simulated: Mapping[int, float]

    def error(self, workers: int) -> float:
        """Return how far the model is off at a measured number of workers, as a share of what was measured."""
        return simulate(self.schedule, workers, self.costs) / self.measured[workers] - 1.0


def predict(
    schedule: str, measured: Mapping[int, float], costs: Costs, *, workers: Sequence[int] = SIMULATED
) -> Prediction:
    """Calibrate on the smallest and the largest measured number of workers and simulate others."""
    on = min(measured), max(measured)
    fitted = calibrate(schedule, {n: measured[n] for n in on}, costs)
    return Prediction(
        schedule=schedule,
        measured=measured,
        calibrated_on=on,
        costs=fitted,
        simulated={n: simulate(schedule, n, fitted, fragments=20) for n in workers},
    )


def draw(predictions: Sequence[Prediction], steps_per_fragment: int, path: Path) -> None:
    """Draw measured points and simulated lines, environment steps per second over workers, into a file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for number, found in enumerate(predictions):
        colour = f"C{number}"
        x = sorted(found.simulated)
        y = [found.simulated[n] * steps_per_fragment for n in x]
        axes.plot(x, y, color=colour, label=f"{found.schedule}, simulated")
        points = [value * steps_per_fragment for value in found.measured.values()]
        axes.plot(list(found.measured), points, "o", color=colour, label=f"{found.schedule}, measured")
    axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="environment steps / s")
    axes.set_xscale("log", base=2)
    axes.set_title("Throughput: measured points, lines simulated")
    axes.legend()
    figure.savefig(path)
    pyplot.close(figure)
