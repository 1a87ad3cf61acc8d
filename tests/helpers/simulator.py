"""A transport without processes: virtual time, and faults drawn from a seed."""

from dataclasses import dataclass, field

import numpy as np

from dynarl.distributed import Delivery, Failure, WorkerLost

NEVER = float("inf")


@dataclass
class Faults:
    """Probabilities per call (or per start), until `stop`."""

    die: float = 0.0
    hang: float = 0.0
    raises: float = 0.0
    slow: float = 0.0
    duplicate: float = 0.0
    """Answers with the fragment before once more."""
    ghost: float = 0.0
    """Answers for the incarnation before."""
    bad_start: float = 0.0
    state: float = 0.0
    """Dies when asked for its state."""
    stop: float = NEVER


@dataclass
class Call:
    worker: "Worker"
    ready_at: float
    result: object
    order: int


@dataclass
class Worker:
    slot: int
    assignments: list
    started_at: float
    busy_until: float
    dead_at: float = NEVER
    killed: bool = False
    last: object = None
    calls: list = field(default_factory=list)


class Simulator:
    """Calls take time and may go wrong in every way; `events` counts what was looked at."""

    def __init__(self, seed, faults, *, fragment_time=1.0):
        self.rng, self.faults, self.fragment_time = np.random.default_rng(seed), faults, fragment_time
        self.time, self.events, self.puts = 0.0, 0, 0
        self.calls, self.workers, self.spawned = {}, [], []

    def now(self):
        return self.time

    def put(self, weights):
        self.puts += 1
        return weights

    def spawn(self, slot, recipe, assignments):
        worker = Worker(slot, list(assignments), self.time, self.time)
        self.workers.append(worker)
        self.spawned.append((self.time, slot, [(one.group, one.incarnation) for one in assignments]))
        return worker

    def submit(self, handle, method, *args):
        assert not handle.killed, "a call to a worker that was killed"
        ref = len(self.calls)
        self.calls[ref] = Call(handle, *self._outcome(handle, method, args), ref)
        return ref

    def wait(self, refs, timeout):
        self.events += 1
        times = sorted((self.calls[ref].ready_at, ref) for ref in refs)
        if times and times[0][0] <= self.time + timeout:
            assert times[0][0] < NEVER, "waits forever for a worker that hangs"
            self.time = max(self.time, times[0][0])
            return [ref for at, ref in times if at <= self.time]
        assert timeout < NEVER, "waits forever for nothing"
        self.time += timeout
        return []

    def get(self, ref):
        call = self.calls[ref]
        assert not call.worker.killed, "reads a result of a worker that was given up"
        assert call.ready_at <= self.time
        if isinstance(call.result, Exception):
            raise call.result
        return call.result

    def resources(self):
        return "; no CPU is free"

    def kill(self, handle):
        assert not handle.killed
        handle.killed = True

    def close(self):
        for worker in self.workers:
            worker.killed = True

    def _outcome(self, worker, method, args):
        """Return when a call is answered, and with what."""
        begin = max(self.time, worker.busy_until)
        if worker.dead_at < NEVER:
            return max(begin, worker.dead_at), WorkerLost("it is dead")
        if worker.busy_until == NEVER:
            return NEVER, None
        faults = self.faults if self.time < self.faults.stop else Faults()
        draw = self.rng.random
        took = self.fragment_time * (0.5 + draw())
        if method == "ready":
            if draw() < faults.bad_start:
                return self._one_of(worker, begin + took, draw())
            worker.busy_until = begin + took
            return worker.busy_until, {"pid": len(self.workers), "host": "here"}
        if method == "states":
            if draw() < faults.state:
                if draw() < 0.5:
                    return begin, Failure(message="RuntimeError: it has no state", traceback="Traceback ...")
                worker.dead_at = begin
                return begin, WorkerLost("it died when asked for its state")
            states = {one.group: {"incarnation": one.incarnation, "collector": {}} for one in worker.assignments}
            return begin, states
        return self._fragment(worker, begin, took, faults, args)

    def _one_of(self, worker, at, chance):
        if chance < 0.4:
            worker.dead_at = at
            return at, WorkerLost("it died while starting")
        if chance < 0.7:
            worker.busy_until = NEVER
            return NEVER, None
        return at, Failure(message="ValueError: no such environment", traceback="Traceback ...")

    def _fragment(self, worker, begin, took, faults, args):
        group, seq, version, _ = args
        draw = self.rng.random
        if draw() < faults.slow:
            took *= 10
        worker.busy_until = at = begin + took
        if draw() < faults.die:
            worker.dead_at = at
            return at, WorkerLost("it died")
        if draw() < faults.hang:
            worker.busy_until = NEVER
            return NEVER, None
        if draw() < faults.raises:
            return at, Failure(message="ZeroDivisionError: in step", traceback="Traceback ...")
        incarnation = next(one.incarnation for one in worker.assignments if one.group == group)
        incarnation -= draw() < faults.ghost
        delivery = Delivery(
            group=group, incarnation=incarnation, seq=seq, version=version, fragment=None, seconds={}, metrics={}
        )
        if worker.last is not None and draw() < faults.duplicate:
            return at, worker.last
        worker.last = delivery
        return at, delivery
