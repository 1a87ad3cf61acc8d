"""Workers that collect for an agent, in this process or as Ray actors; the only package that imports ray, when used.

What the parts offer each other:

* An agent class has ``make_worker``, which makes environments, an Actor and a collector: anything with
  ``collect(policy_version)``, ``step``, ``state_dict`` and ``load_state_dict``. The Actor's ``acting_state()`` and
  ``load_acting_state(arrays)`` are what goes to the workers (parameters, normaliser statistics, counters), its
  ``metrics()`` what comes back with fragments.
* `Recipe` makes these in another process. `Worker` is one group of environments with an Actor; it
  is the same class in the learner's process (``num_workers=0``) and in a Ray actor. `Host` holds the workers of
  one process.
* `Transport` (spawn, submit, wait, get, kill, now) is all that the pool knows of processes: `LocalTransport` has
  none, `RayTransport` has actors.
* `WorkerPool` supervises: ``publish(version, weights)`` once per version, ``request(group)`` as often as fragments
  are wanted, ``poll(timeout)`` for `Delivery` objects in order of arrival, then ``trained(n)`` or ``stale(n)``.
  `FragmentLedger` keep the balance. A delivery's arrays are read-only under Ray and valid until the group's next
  ``request`` without it: copy what is kept.
* `PooledCollector` takes the place of ``agent.collector`` for synchronous collecting: a barrier over all groups.
  `PipelinedCollector` works one update ahead, `AsyncCollector` takes what comes first, `RoundRobinCollector` gives out
  one group's fragment after the other, for a replay. `OrderedFragments` restores the order of the requests.
* `plan` and `attached` go from a `RunConfig` to all this.
"""

from dynarl.distributed.asynchronous import AsyncCollector
from dynarl.distributed.collector import PooledCollector
from dynarl.distributed.ledger import FragmentLedger
from dynarl.distributed.ordered import OrderedFragments
from dynarl.distributed.pipelined import PipelinedCollector
from dynarl.distributed.pool import PoolDegraded, WorkerPool
from dynarl.distributed.round_robin import RoundRobinCollector
from dynarl.distributed.setup import Plan, attached, plan, resolved
from dynarl.distributed.supervision import Supervision
from dynarl.distributed.transport import LocalTransport, Transport, WorkerLost
from dynarl.distributed.weights import FlatLayout
from dynarl.distributed.worker import Assignment, Delivery, Failure, Host, Recipe, Worker

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
    "Plan",
    "PoolDegraded",
    "PooledCollector",
    "Recipe",
    "RoundRobinCollector",
    "Supervision",
    "Transport",
    "Worker",
    "WorkerLost",
    "WorkerPool",
    "attached",
    "plan",
    "resolved",
]
