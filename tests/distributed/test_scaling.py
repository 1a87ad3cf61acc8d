"""The discrete-event model of scripts/benchmarks/scaling.py against the formulas that hold at its ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    from benchmarks import scaling

    return scaling


@pytest.mark.parametrize("workers", [1, 4, 64])
def test_async_is_bound_by_the_workers_or_by_the_driver(scaling, workers):
    costs = scaling.Costs(fragment=0.1, handle=0.001, learn=0.004)
    expected = min(workers / 0.1, 1 / 0.005)
    assert scaling.simulate("async", workers, costs) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("workers", [1, 4, 64])
def test_sync_adds_up(scaling, workers):
    costs = scaling.Costs(fragment=0.1, handle=0.001, learn=0.004, publish=0.002)
    expected = workers / (0.002 + 0.1 + workers * 0.005)
    assert scaling.simulate("sync", workers, costs) == pytest.approx(expected, rel=1e-6)


def test_pipelined_hides_learning(scaling):
    costs = scaling.Costs(fragment=0.1, handle=0.001, learn=0.004)
    assert scaling.simulate("pipelined", 8, costs) == pytest.approx(8 / 0.108, rel=1e-6)
    # once learning takes longer than acting, the driver is all that counts
    assert scaling.simulate("pipelined", 64, costs) == pytest.approx(1 / 0.005, rel=1e-2)


def test_stragglers_hurt_a_barrier_most(scaling):
    costs = scaling.Costs(fragment=0.1, handle=0.0005, jitter=0.5)
    sync, free = (scaling.simulate(name, 16, costs) for name in ("sync", "async"))
    assert sync < 0.6 * 160 and free > 0.9 * 160


@pytest.mark.parametrize("schedule", ["sync", "pipelined", "async"])
def test_calibration_finds_the_costs_it_was_made_with(scaling, schedule):
    true = scaling.Costs(fragment=0.05, handle=0.004, learn=0.002)
    measured = {n: scaling.simulate(schedule, n, true) for n in (1, 16)}
    found = scaling.calibrate(schedule, measured, scaling.Costs(fragment=1.0, handle=1.0, learn=0.002))
    for workers in (1, 4, 16, 200):
        expected = scaling.simulate(schedule, workers, true)
        assert scaling.simulate(schedule, workers, found) == pytest.approx(expected, rel=0.02)


def test_prediction_is_drawn(scaling, tmp_path):
    costs = scaling.Costs(fragment=0.1, handle=0.001)
    measured = {n: scaling.simulate("sync", n, costs) for n in (1, 4, 8)}
    found = scaling.predict("sync", measured, scaling.Costs(fragment=1.0, handle=1.0), workers=(1, 8, 32))
    assert found.calibrated_on == (1, 8) and abs(found.error(4)) < 0.01
    scaling.draw([found], 50, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 5000


def test_what_is_refused(scaling):
    with pytest.raises(ValueError, match="schedule must be one of sync, pipelined, async, got 'fast'"):
        scaling.simulate("fast", 1, scaling.Costs(fragment=1, handle=0))
    with pytest.raises(ValueError, match="takes two numbers of workers, got 1"):
        scaling.calibrate("sync", {1: 2.0}, scaling.Costs(fragment=1, handle=0))
