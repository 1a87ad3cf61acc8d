"""One more node of a cluster on loopback, until SIGTERM: python -m tests.helpers.joined_node ADDRESS CPUS.

`ray start --address` takes 127.0.0.1 for the machine's outer address, where a head on loopback does not listen.
"""

import signal
import sys

from ray._private.node import Node
from ray._private.parameter import RayParams


def main(address, cpus):
    parameters = RayParams(
        gcs_address=address,
        redis_address=address,
        node_ip_address="127.0.0.1",
        num_cpus=int(cpus),
        num_gpus=0,
        object_store_memory=150 * 2**20,
        min_worker_port=0,
        max_worker_port=0,
        node_manager_port=0,
        dashboard_agent_listen_port=None,
        include_log_monitor=False,
    )
    node = Node(parameters, head=False, shutdown_at_exit=False, spawn_reaper=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        print("joined", flush=True)
        while True:
            signal.pause()
    finally:
        node.kill_all_processes(check_alive=False, allow_graceful=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
