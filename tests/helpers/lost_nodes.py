"""Run by test_nodes.py in a process of its own: nodes of a cluster are killed and added under a pool of workers."""

import os
import sys
import time

for name, value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # of a cluster of a few seconds, on this machine only
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}.items():
    os.environ[name] = value

import ray  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from tests.helpers.worker_pool import Pool  # noqa: E402


def main():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False)
        lose_and_gain(cluster, nodes)
    finally:
        ray.shutdown()
        cluster.shutdown()


def lose_and_gain(cluster, nodes):
    with Pool(workers=2, cpus=1, fragment_deadline=20.0) as running:
        running.round()
        before = running.pool.ledger.restarts
        started = time.monotonic()
        cluster.remove_node(nodes[0], allow_graceful=False)
        while running.pool.ledger.restarts == before:  # SPREAD puts a worker on each node
            running.round()
        print(f"node killed: replaced and delivering after {time.monotonic() - started:.1f} s", file=sys.stderr)
        running.round()
        cluster.remove_node(nodes[1], allow_graceful=False)
        cluster.add_node(num_cpus=2)
        before = running.pool.ledger.restarts
        started = time.monotonic()
        while running.pool.ledger.restarts < before + 2 or running.pool.alive < 2:
            running.round()
        print(f"all nodes lost, one added: delivering after {time.monotonic() - started:.1f} s", file=sys.stderr)
        ledger = running.pool.ledger
        ledger.check()
        assert ledger.trained == running.groups * (running.version + 1)
        assert ledger.lost <= ledger.restarts * running.pool.supervision.calls_ahead


if __name__ == "__main__":
    main()
