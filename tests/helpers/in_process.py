"""Workers that run in this process, for tests of what is learned from them and in which order they deliver."""

import contextlib

import pytest

from dynarl.distributed import LocalTransport, attach_workers, setup


class Shuffled(LocalTransport):
    """Runs the calls of different workers in another order."""

    def wait(self, refs, timeout):
        return [max(refs)] if refs else super().wait(refs, timeout)


@contextlib.contextmanager
def attach_workers_here(agent, how, config, transport=LocalTransport, **options):
    """`attach_workers`, with `transport` in the place of Ray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "connected", lambda *a, **k: contextlib.nullcontext())
        patch.setattr(setup, "require_resources", lambda *a: None)
        patch.setattr(setup, "require_packages", lambda *a: None)
        patch.setattr(setup, "_ray_transport", lambda *a: transport())
        with attach_workers(agent, how, config, **options) as collector:
            yield collector
