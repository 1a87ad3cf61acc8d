"""Workers that collect experience for an agent, in this process or as Ray actors.

This is the only package that imports ray, and it does so only when workers are started. Its parts:

* `WorkerPlan` is the split of a run's environments into groups; `plan_workers` derives it from a `RunConfig`, and
  `attach_workers` runs an agent with workers.
* An agent class has ``make_worker``, which makes environments, an Actor and a collector. `Recipe` holds its arguments.
  `Worker` is one group of environments with an Actor: the same class in the learner's process (``num_workers=0``)
  and in a Ray actor. `Host` holds the
  workers of one process.
* `Transport` (spawn, submit, wait, get, kill, now) is the pool's only access to processes. `LocalTransport` runs
  everything in this process, `RayTransport` in actors.
* `WorkerPool` supervises: ``publish(version, weights)`` once per version, ``request(group)`` for each fragment,
  ``poll(timeout)`` for `Delivery` objects in order of arrival, then ``trained(n)`` or ``stale(n)``. `FragmentLedger`
  counts them. The arrays of a delivery are read-only under Ray and valid until the next ``request`` of its group
  is served: copy what must be kept.
* `PooledCollector` replaces ``agent.collector`` for synchronous collection, with a barrier over all groups.
  `PipelinedCollector` collects one update ahead, `AsyncCollector` learns from the first fragments that arrive, and
  `RoundRobinCollector` returns one group's fragment at a time, for a replay. `OrderedFragments` restores the order
  of the requests.
"""

from typing import Any

from dynarl.distributed.asynchronous import AsyncCollector
from dynarl.distributed.collector import PooledCollector
from dynarl.distributed.ledger import FragmentLedger
from dynarl.distributed.ordered import OrderedFragments
from dynarl.distributed.pipelined import PipelinedCollector
from dynarl.distributed.pool import PoolDegraded, WorkerPool
from dynarl.distributed.round_robin import RoundRobinCollector
from dynarl.distributed.setup import WorkerPlan, attach_workers, plan_workers, with_envs_per_group
from dynarl.distributed.supervision import Supervision
from dynarl.distributed.transport import LocalTransport, Transport, WorkerLost
from dynarl.distributed.weights import FlatLayout
from dynarl.distributed.worker import Assignment, Delivery, Failure, Host, Recipe, Worker
from dynarl.moved import missing_attribute

__all__ = [
    "Assignment",
    "AsyncCollector",
    "Delivery",
    "Failure",
    "FlatLayout",
    "FragmentLedger",
    "Host",
    "LocalTransport",
    "OrderedFragments",
    "PipelinedCollector",
    "PoolDegraded",
    "PooledCollector",
    "Recipe",
    "RoundRobinCollector",
    "Supervision",
    "Transport",
    "Worker",
    "WorkerLost",
    "WorkerPlan",
    "WorkerPool",
    "attach_workers",
    "plan_workers",
    "with_envs_per_group",
]


def __getattr__(name: str) -> Any:
    raise missing_attribute(__name__, name)
