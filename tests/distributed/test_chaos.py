"""Real processes that are killed, stopped, or fail: noticed, replaced, accounted for, and none left behind."""

import os
import signal
import time
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from dynarl.distributed import PoolDegraded
from tests.helpers.worker_pool import GENEROUS, Pool


class Faulty(gymnasium.Env):
    """Ends its process, or raises, at a step."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, how, at):
        self.how, self.at, self.steps = how, at, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == self.at:
            if self.how == "exit":
                os._exit(3)
            raise ZeroDivisionError("the environment is broken")
        return np.zeros(2, np.float32), 1.0, False, False, {}


def test_a_killed_worker_is_replaced_and_the_batch_is_whole(ray_cluster):
    with Pool() as running:
        running.round()
        before = running.pid(0)
        os.kill(before, signal.SIGKILL)
        started = time.monotonic()
        batch = running.round()
        took = time.monotonic() - started
        ledger = running.pool.ledger
        assert ledger.restarts == ledger.lost == 1
        assert ledger.requested == 5 and ledger.trained == 4
        assert {one.group: one.incarnation for one in batch} == {0: 1, 1: 0}
        assert running.pid(0) != before
        assert took < GENEROUS
        assert "worker 0 (process" in running.pool.last_failure
        running.round()


def test_a_stopped_worker_is_given_up_at_its_deadline(ray_cluster):
    with Pool(fragment_deadline=1.0) as running:
        running.round()
        stopped = running.pid(1)
        os.kill(stopped, signal.SIGSTOP)
        started = time.monotonic()
        running.round()
        assert time.monotonic() - started >= 1.0
        assert running.pool.ledger.restarts == running.pool.ledger.lost == 1
        assert "did not deliver a fragment within" in running.pool.last_failure


def test_processes_that_end_themselves_are_given_up_in_the_end(ray_cluster):
    with Pool(lambda: Faulty("exit", 3), workers=1, max_failures=2, backoff=0.1) as running:
        with pytest.raises(PoolDegraded, match="failed 2 times in a row"):
            running.round()
        assert running.pool.ledger.lost == 2


def test_an_environment_that_cannot_be_made_says_why(ray_cluster):
    with Pool(workers=1, max_failures=2, backoff=0.1) as running:
        running.pool.recipe = SimpleNamespace(**{**vars(running.pool.recipe), "make": broken})
        with pytest.raises(PoolDegraded, match="RuntimeError: no licence for this simulator"):
            running.round()


def test_a_worker_that_finds_no_room_says_what_there_is(ray_cluster):
    message = r"did not start within \d\.\d s; a worker takes 64 CPUs, 4 of the cluster's 4 are free"
    with Pool(workers=1, cpus=64, start_deadline=1.0) as running, pytest.raises(PoolDegraded, match=message):
        running.round()


def broken(*_):
    raise RuntimeError("no licence for this simulator")


def test_the_driver_spends_little_on_a_fragment(ray_cluster):
    with Pool() as running:
        for _ in range(3):
            running.round()
        before = time.process_time()
        for _ in range(20):
            running.round()
        each = (time.process_time() - before) / 40
        print(f"{each * 1e3:.2f} ms of CPU for a fragment")
        assert each < 0.02
