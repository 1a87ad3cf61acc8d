"""Supervision under random faults: thousands of schedules in virtual time, all invariants after every event."""

import collections
import itertools
import random
from types import SimpleNamespace

import pytest

from dynarl.distributed import PoolDegraded, Supervision, WorkerPool
from tests.helpers.simulator import Faults, Simulator

RECIPE = SimpleNamespace(envs_per_group=1)
PATIENT = Supervision(start_deadline=20.0, fragment_deadline=5.0, max_failures=10**6, backoff=0.5, backoff_limit=4.0)


class Watched(WorkerPool):
    """Checks everything that must hold whenever something happened."""

    in_hand = 0

    def _receive(self, slot, ref):
        super()._receive(slot, ref)
        self.check()

    def _advance(self, slot):
        super()._advance(slot)
        self.check()

    def check(self):
        self.ledger.check()
        assert self.ledger.in_flight == sum(len(slot.flights) for slot in self.slots)
        assert self.ledger.buffered == len(self._buffered) + self.in_hand
        for slot in self.slots:
            assert len(slot.flights) <= self.supervision.calls_ahead
            assert slot.state == "ready" or not slot.flights


class Keys:
    """What was delivered: every fragment once, the fragments of an incarnation in order and without a gap."""

    def __init__(self):
        self.next = collections.defaultdict(int)
        self.newest = collections.defaultdict(int)

    def add(self, delivery):
        key = (delivery.group, delivery.incarnation)
        assert delivery.seq == self.next[key], "a fragment twice, or one that is missing"
        self.next[key] += 1
        assert delivery.incarnation >= self.newest[delivery.group], "a worker that was given up delivers"
        self.newest[delivery.group] = delivery.incarnation


def make(seed, faults, groups, workers, supervision=PATIENT):
    simulator = Simulator(seed, faults)
    pool = Watched(RECIPE, simulator, groups=groups, num_workers=workers, supervision=supervision)
    return simulator, pool


def synchronous(simulator, pool, groups, rounds, keys=None):
    """A batch is one fragment of each group, all of one version."""
    keys = keys or Keys()
    puts = simulator.puts
    for version in range(rounds):
        pool.publish(version, None)
        for group in range(groups):
            pool.request(group)
        batch = []
        while len(batch) < groups:
            found = pool.poll()
            pool.in_hand += len(found)
            batch += found
        for delivery in batch:
            keys.add(delivery)
        assert sorted(delivery.group for delivery in batch) == list(range(groups))
        assert {delivery.version for delivery in batch} == {version}
        pool.in_hand = 0
        pool.trained(groups)
        pool.check()
        if version % 3 == 2:
            assert set(pool.states()) == set(range(groups))
    assert simulator.puts == puts + rounds
    return keys


def asynchronous(simulator, pool, groups, updates):
    """Two fragments of each group are always under way; what is too old is dropped."""
    keys = Keys()
    version = 0
    pool.publish(version, None)
    for group in list(range(groups)) * 2:
        pool.request(group)
    while version < updates:
        for delivery in pool.poll(timeout=float(simulator.rng.integers(1, 4))):
            keys.add(delivery)
            assert delivery.version <= version
            pool.in_hand += 1
            pool.request(delivery.group)
            pool.in_hand -= 1
            if version - delivery.version > 3:
                pool.stale()
            else:
                version += 1
                pool.publish(version, None)
                pool.trained()
        if version % 5 == 4:
            assert set(pool.states()) == set(range(groups))
    return keys


def random_faults(rng, stop):
    names = ("die", "hang", "raises", "slow", "duplicate", "ghost", "bad_start", "state")
    return Faults(**{name: rng.choice([0.0, 0.02, 0.1, 0.3]) for name in names}, stop=stop)


@pytest.mark.parametrize("consumer", [synchronous, asynchronous])
def test_thousands_of_random_fault_schedules(consumer):
    restarts = lost = invalid = hopeless = 0
    for seed in range(1000):
        rng = random.Random(seed)
        groups = rng.randint(1, 5)
        faults = random_faults(rng, stop=rng.choice([0.0, 20.0, 60.0]))
        simulator, pool = make(seed, faults, groups, rng.randint(1, groups))
        try:
            consumer(simulator, pool, groups, 12)
        except PoolDegraded as error:
            assert "did not start" in str(error) and not pool._ever_ready
            hopeless += 1
        pool.in_hand = 0
        restarts, lost, invalid = (
            restarts + pool.ledger.restarts,
            lost + pool.ledger.lost,
            invalid + pool.ledger.invalid,
        )
        assert pool.ledger.lost <= pool.ledger.restarts * PATIENT.calls_ahead
        pool.close()
        pool.ledger.check()
    assert min(restarts, lost, invalid) > 500 and hopeless < 50


def test_goes_on_soon_after_faults_stop():
    for seed in range(200):
        faults = Faults(die=0.5, hang=0.2, raises=0.2, bad_start=0.5, stop=100.0)
        simulator, pool = make(seed, faults, 4, 4)
        simulator.faults.bad_start = 0.0
        keys = synchronous(simulator, pool, 4, 1)
        simulator.faults.bad_start = 0.5
        while simulator.time < 100.0:
            synchronous(simulator, pool, 4, 1, keys)
        # the worst that is left: a hang at its deadline, the longest pause, a start, a fragment; twice for slack
        before = simulator.time
        synchronous(simulator, pool, 4, 1, keys)
        assert simulator.time - before < 2 * (20.0 + 4.0 + 5.0)


def test_without_faults_nothing_is_lost_and_no_worker_is_started_twice():
    simulator, pool = make(0, Faults(), 6, 3)
    keys = synchronous(simulator, pool, 6, 10)
    assert pool.ledger.requested == pool.ledger.trained == 60
    assert pool.ledger.restarts == pool.ledger.lost == pool.ledger.invalid == 0
    assert len(simulator.spawned) == 3 and len(keys.next) == 6
    assert pool.alive == 3


def test_slow_workers_are_waited_for():
    supervision = Supervision(start_deadline=50.0, fragment_deadline=16.0)
    simulator, pool = make(1, Faults(slow=0.5), 2, 2, supervision)
    synchronous(simulator, pool, 2, 20)
    assert pool.ledger.restarts == 0


def test_a_hang_is_noticed_at_the_deadline():
    simulator, pool = make(1, Faults(), 1, 1)
    keys = synchronous(simulator, pool, 1, 3)
    simulator.faults = Faults(hang=1.0, stop=simulator.time + 1e-6)
    before = simulator.time
    synchronous(simulator, pool, 1, 1, keys)
    (_, restarted) = [time for time, *_ in simulator.spawned]
    allowed = max(5.0, 5.0 * 1.5)
    assert 5.0 <= restarted - before <= allowed
    assert "did not deliver a fragment within" in pool.last_failure


def test_a_worker_that_always_fails_is_given_up_with_its_last_error():
    supervision = Supervision(backoff=1.0, max_failures=5)
    simulator, pool = make(2, Faults(raises=1.0), 2, 2, supervision)
    with pytest.raises(PoolDegraded, match=r"worker \d with group \d failed 5 times in a row.*\n?.*ZeroDivisionError"):
        synchronous(simulator, pool, 2, 1)
    pool.ledger.check()
    first = [time for time, slot, _ in simulator.spawned if slot == 0]
    pauses = [later - earlier for earlier, later in itertools.pairwise(first)]
    assert pauses[-1] > pauses[0] + 3  # 0, 1, 2, 4 and the time to start and fail
    assert [incarnations[0][1] for _, slot, incarnations in simulator.spawned if slot == 0] == list(range(len(first)))


def test_a_worker_that_cannot_start_is_given_up():
    simulator, pool = make(3, Faults(bad_start=1.0), 1, 1, Supervision(max_failures=3))
    with pytest.raises(PoolDegraded, match=r"failed \d times in a row without delivering"):
        synchronous(simulator, pool, 1, 1)


def test_when_no_worker_ever_starts_it_is_said_at_once():
    simulator, pool = make(3, Faults(), 2, 2)
    simulator._outcome = lambda worker, method, args: (float("inf"), None)
    with pytest.raises(PoolDegraded, match=r"1 time in a row.*did not start within 20\.0 s; no CPU is free"):
        synchronous(simulator, pool, 2, 1)
    assert simulator.time == 20.0


def test_replaced_workers_go_on_at_the_step_of_the_run_with_another_incarnation():
    simulator, pool = make(4, Faults(), 1, 1)
    given = []
    spawn = simulator.spawn
    simulator.spawn = lambda slot, recipe, assignments: given.extend(assignments) or spawn(slot, recipe, assignments)
    pool.start(100, {0: {"incarnation": 7, "collector": {"kept": True}}})
    keys = synchronous(simulator, pool, 1, 1)
    pool.at_step(164)
    simulator.faults = Faults(die=1.0, stop=simulator.time + 1e-6)
    synchronous(simulator, pool, 1, 1, keys)
    assert [(one.incarnation, one.step, one.state) for one in given] == [(7, 100, {"kept": True}), (8, 164, None)]


def test_asking_before_anything_was_published():
    _, pool = make(0, Faults(), 1, 1)
    with pytest.raises(RuntimeError, match="request\\(\\) requires published weights, got none"):
        pool.request(0)
    with pytest.raises(ValueError, match="num_workers must lie between 1 and 2 groups, got 3"):
        make(0, Faults(), 2, 3)


def test_ledger_that_does_not_balance():
    _, pool = make(0, Faults(), 1, 1)
    pool.ledger.lost = 1
    with pytest.raises(AssertionError, match="requested must be delivered \\+ lost \\+ in_flight"):
        pool.ledger.check()
    with pytest.raises(AssertionError, match="must be"):
        pool.trained()


def test_resumed_ledger_counts_what_was_under_way_as_lost():
    from dynarl.distributed import FragmentLedger

    ledger = FragmentLedger(requested=10, delivered=6, lost=1, in_flight=3, trained=4, stale=1, buffered=1)
    ledger.check()
    other = FragmentLedger()
    other.load_state_dict(ledger.state_dict())
    assert (other.requested, other.delivered, other.lost, other.in_flight, other.buffered) == (10, 5, 5, 0, 0)
