"""A pool of Ray actors around a small agent."""

import time

from dynarl.agents import PPO
from dynarl.distributed import FlatLayout, Recipe, Supervision, WorkerPool
from dynarl.distributed.fragment_validator import FragmentValidator
from dynarl.envs.env_group import EnvGroup

GENEROUS = 30.0


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
