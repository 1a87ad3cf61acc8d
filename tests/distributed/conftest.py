"""One private Ray for all tests that need it."""

import warnings

import pytest


@pytest.fixture(scope="session")
def ray_cluster():
    """A Ray on loopback, shut down after the last test."""
    pytest.importorskip("ray")
    from dynarl.distributed import cluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with cluster.connected(None, cpus=4):
            yield
