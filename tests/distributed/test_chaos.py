"""Real processes that are killed, stopped, or fail: noticed, replaced, accounted for, and none left behind."""

import os
import signal
import time
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from dynarl.agents import PPO
from dynarl.distributed import FlatLayout, PoolDegraded, Recipe, Supervision, WorkerPool
from dynarl.distributed.fragment_validator import FragmentValidator
from dynarl.envs.env_group import EnvGroup

GENEROUS = 30.0


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


class Pool:
    """A pool of Ray actors around a small agent, and its processes."""

    def __init__(self, source="CartPole-v1", workers=2, cpus=0, **supervision):
        from dynarl.distributed.ray_transport import RayTransport

        part = EnvGroup(env=source, env_ids=tuple(range(workers)), here=False)
        self.agent = PPO(part, seed=1, num_envs=workers, num_steps=16, batch_size=16)
        self.groups, self.version = workers, -1
        self.pool = WorkerPool(
            Recipe.of(self.agent, 1),
            RayTransport(cpus_per_worker=cpus),
            groups=workers,
            num_workers=workers,
            supervision=Supervision(**supervision),
            validator=FragmentValidator(self.agent.actor, 1),
        )
        self.pids = set()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.pool.close()
        assert gone(self.pids)

    def request(self):
        self.version += 1
        weights = self.agent.actor.acting_state()
        self.pool.publish(self.version, FlatLayout(weights).pack(weights))
        for group in range(self.groups):
            self.pool.request(group)

    def gather(self):
        batch = []
        end = time.monotonic() + GENEROUS
        while len(batch) < self.groups:
            assert time.monotonic() < end, self.pool.last_failure
            batch += self.pool.poll(timeout=1.0)
        assert sorted(one.group for one in batch) == list(range(self.groups))
        assert {one.version for one in batch} == {self.version}
        self.pool.trained(len(batch))
        self.pids |= {slot.where["pid"] for slot in self.pool.slots if slot.where}
        return batch

    def round(self):
        self.request()
        return self.gather()

    def pid(self, slot):
        return self.pool.slots[slot].where["pid"]


def gone(pids):
    """Wait until none of these processes is alive."""
    end = time.monotonic() + GENEROUS
    while any(alive(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


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
        running.pool.recipe = SimpleNamespace(**{**vars(running.pool.recipe), "register": broken})
        with pytest.raises(PoolDegraded, match="RuntimeError: no licence for this simulator"):
            running.round()


def test_a_worker_that_finds_no_room_says_what_there_is(ray_cluster):
    message = r"did not start within \d\.\d s; a worker takes 64 CPUs, 4 of the cluster's 4 are free"
    with Pool(workers=1, cpus=64, start_deadline=1.0) as running, pytest.raises(PoolDegraded, match=message):
        running.round()


def broken():
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
